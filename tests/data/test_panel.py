"""The landmark panel: planted clusters, exact size, and what must not change it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from dgex.data.panel import _fill_empty_clusters, choose_panel
from dgex.errors import DataError, UsageError

N_CLUSTERS = 12


def planted(
    n_profiles: int = 60, noise: float = 0.2, seed: int = 1
) -> tuple[NDArray[np.float64], list[str], dict[str, int]]:
    """Genes in clusters of 3 to 14, in random order, each with its own level and spread."""
    rng = np.random.default_rng(seed)
    cluster_g = rng.permutation(np.repeat(np.arange(N_CLUSTERS), np.arange(3, 3 + N_CLUSTERS)))
    programme_nk = rng.normal(size=(n_profiles, N_CLUSTERS))
    x_ng = programme_nk[:, cluster_g] + noise * rng.normal(size=(n_profiles, len(cluster_g)))
    x_ng = rng.uniform(2, 12, len(cluster_g)) + rng.uniform(0.2, 3, len(cluster_g)) * x_ng
    genes = [f"GENE{g}" for g in range(len(cluster_g))]
    return x_ng, genes, dict(zip(genes, cluster_g.tolist(), strict=True))


@pytest.mark.parametrize("n_profiles", [60, 150])
def test_planted_clusters_are_recovered(n_profiles: int) -> None:
    x_ng, genes, cluster_of = planted(n_profiles)
    panel = choose_panel(x_ng, genes, size=N_CLUSTERS, seed=0)
    assert {cluster_of[gene] for gene in panel.index} == set(range(N_CLUSTERS))
    counts = Counter(cluster_of.values())
    assert panel["cluster_size"].tolist() == [counts[cluster_of[gene]] for gene in panel.index]


def test_table_agrees_with_a_plain_computation() -> None:
    x_ng, genes, cluster_of = planted()
    panel = choose_panel(x_ng, genes, size=N_CLUSTERS, seed=0)
    r_gg = np.corrcoef(x_ng, rowvar=False)
    z_ng = (x_ng - x_ng.mean(axis=0)) / x_ng.std(axis=0)
    for gene, row in panel.iterrows():
        mates = [g for g, name in enumerate(genes) if cluster_of[name] == cluster_of[str(gene)]]
        centre_n = z_ng[:, mates].mean(axis=1)
        distances = {g: float(((z_ng[:, g] - centre_n) ** 2).sum()) for g in mates}
        chosen = genes.index(str(gene))
        assert min(distances, key=lambda g: distances[g]) == chosen
        others = [r_gg[chosen, g] for g in mates if g != chosen]
        assert row["mean_correlation"] == pytest.approx(np.mean(others), abs=1e-12)


def test_largest_cluster_comes_first_and_equals_keep_the_order_of_the_genes() -> None:
    x_ng, genes, _ = planted()
    panel = choose_panel(x_ng, genes, size=40, seed=3)
    keys = [(-row.cluster_size, genes.index(str(row.Index))) for row in panel.itertuples()]
    assert keys == sorted(keys)
    assert panel["cluster_size"].sum() == len(genes)


@pytest.mark.parametrize("size", [1, 2, 50, 102])
def test_size_is_exact(size: int) -> None:
    x_ng, genes, _ = planted()
    assert len(genes) == 102
    panel = choose_panel(x_ng, genes, size=size, seed=0)
    assert len(panel) == size
    assert panel.index.is_unique
    assert set(panel.index) <= set(genes)
    assert panel.index.name == "gene"


def test_size_is_exact_where_most_genes_are_copies() -> None:
    rng = np.random.default_rng(0)
    x_ng = np.repeat(rng.normal(size=(30, 4)), 10, axis=1)
    panel = choose_panel(x_ng, [f"G{g}" for g in range(40)], size=25, seed=0)
    assert len(panel) == len(set(panel.index)) == 25
    assert len({int(gene[1:]) // 10 for gene in panel.index}) == 4


def test_a_gene_alone_has_no_correlation() -> None:
    x_ng, genes, _ = planted()
    panel = choose_panel(x_ng, genes, size=len(genes), seed=0)
    assert (panel["cluster_size"] == 1).all()
    assert panel["mean_correlation"].isna().all()


def test_same_seed_same_panel() -> None:
    x_ng, genes, _ = planted(noise=1.5)
    first = choose_panel(x_ng, genes, size=30, seed=5)
    again = choose_panel(x_ng.copy(order="F"), genes, size=30, seed=5)
    other = choose_panel(x_ng, genes, size=30, seed=6)
    assert first.equals(again)
    assert list(first.index) != list(other.index)


def test_input_is_left_as_it_was() -> None:
    x_ng, genes, _ = planted()
    before = x_ng.copy()
    choose_panel(x_ng, genes, size=5, seed=0)
    np.testing.assert_array_equal(x_ng, before)


def test_level_and_spread_of_a_gene_do_not_matter() -> None:
    x_ng, genes, _ = planted()
    rng = np.random.default_rng(9)
    moved_ng = x_ng * rng.uniform(0.5, 4, len(genes)) + rng.uniform(-5, 20, len(genes))
    panel = choose_panel(x_ng, genes, size=N_CLUSTERS, seed=0)
    moved = choose_panel(moved_ng, genes, size=N_CLUSTERS, seed=0)
    assert list(panel.index) == list(moved.index)


def test_float32_gives_the_same_panel() -> None:
    x_ng, genes, _ = planted()
    panel = choose_panel(x_ng, genes, size=N_CLUSTERS, seed=0)
    single = choose_panel(x_ng.astype(np.float32), genes, size=N_CLUSTERS, seed=0)
    assert list(panel.index) == list(single.index)


@pytest.mark.parametrize("level", [0.0, 7.3, 1e6])
def test_constant_genes_are_never_chosen(level: float) -> None:
    x_ng, genes, _ = planted()
    constant = genes[::10]
    x_ng[:, ::10] = level
    panel = choose_panel(x_ng, genes, size=len(genes) - len(constant), seed=0)
    assert set(panel.index) == set(genes) - set(constant)
    with pytest.raises(DataError, match=r"Only 91 of 102 genes vary .* too few for 92 landmarks"):
        choose_panel(x_ng, genes, size=92, seed=0)


def test_missing_values_name_their_genes() -> None:
    x_ng, genes, _ = planted()
    x_ng[3, 4] = np.nan
    x_ng[0, 7] = np.inf
    with pytest.raises(DataError, match=r"2 genes have missing .* \(GENE4, GENE7\)"):
        choose_panel(x_ng, genes, size=5, seed=0)


def test_repeated_names_are_refused() -> None:
    x_ng, genes, _ = planted()
    genes[5] = genes[2] = "TP53"
    with pytest.raises(DataError, match=r"1 gene names are repeated \(TP53\)"):
        choose_panel(x_ng, genes, size=5, seed=0)


def test_one_profile_is_too_few() -> None:
    with pytest.raises(DataError, match="from 1 profiles"):
        choose_panel(np.ones((1, 3)), ["A", "B", "C"], size=1, seed=0)


@pytest.mark.parametrize(("size", "names"), [(0, ["A", "B", "C"]), (2, ["A", "B"])])
def test_misuse(size: int, names: list[str]) -> None:
    with pytest.raises(UsageError):
        choose_panel(np.random.default_rng(0).normal(size=(5, 3)), names, size=size, seed=0)


def test_empty_clusters_take_the_farthest_gene_that_has_company() -> None:
    labels_g = np.array([0, 0, 0, 2, 2], dtype=np.intp)
    distance_g = np.array([0.1, 0.9, 0.5, 0.7, 0.7])
    _fill_empty_clusters(labels_g, distance_g, 5)
    # Gene 4 is farther than gene 2, but alone by the time the third cluster is filled.
    assert labels_g.tolist() == [0, 1, 4, 3, 2]
