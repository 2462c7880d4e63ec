"""The invented genes, and how their profiles hang together."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from dgex.universe import InventedProfiles, map_lines, universe


def test_no_name_is_given_twice_and_none_looks_like_a_real_one() -> None:
    invented = universe()
    assert invented.genes["ensembl"].is_unique
    assert invented.genes["symbol"].is_unique
    assert len(set(invented.probes)) == 22_268
    assert all(re.fullmatch(r"ENSG9\d{10}\.\d+", name) for name in invented.genes["ensembl"])
    assert all(re.fullmatch(r"9\d{5}(_s|_x)?_at", name) for name in invented.probes)


def test_the_maps_have_the_sizes_and_the_overlap_of_the_published_ones() -> None:
    landmarks, targets = ([line.split("\t") for line in lines] for lines in map_lines())
    assert len(landmarks) == 943
    assert len(targets) == 9520
    assert len({gene for _, gene, _ in landmarks} & {gene for _, gene, _ in targets}) == 445
    probes = [probe for *_, names in landmarks + targets for probe in names.split(",")]
    assert len(set(probes)) == len(probes)
    n_probes = [names.count(",") + 1 for *_, names in targets]
    assert 0.5 < np.mean(np.array(n_probes) == 1) < 0.7
    assert 5 < max(n_probes) <= 13


@pytest.mark.parametrize(
    ("like", "g"), [("geo", 22_268), ("gtex", 55_993), ("1000g", 23_722), ("l1000", 978)]
)
def test_every_platform_has_its_genes_and_its_own_values(like: str, g: int) -> None:
    profiles = InventedProfiles(like, 100, seed=0)
    assert profiles.var.index.is_unique
    x_bg = profiles.block(0)
    assert x_bg.shape == (profiles.block_rows, g) == (profiles.block_rows, len(profiles.var))
    assert x_bg.dtype == np.float32
    assert np.isfinite(x_bg).all()
    zeros = (x_bg == 0).mean()
    if like in ("geo", "l1000"):
        assert zeros == 0
        assert 3 < x_bg.min() < x_bg.max() <= 16
    else:
        assert 0.1 < zeros < 0.6
        assert x_bg.max() > 1000
    np.testing.assert_array_equal(InventedProfiles(like, 9999, seed=0).block(0), x_bg)
    assert (InventedProfiles(like, 100, seed=1).block(0) != x_bg).mean() > 0.3
    assert not np.array_equal(profiles.block(1), x_bg)


def standardised(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=0)) / x.std(axis=0)


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z-scores of landmarks and of every tenth target that is no landmark; raw landmarks."""
    profiles = InventedProfiles("geo", 2000, seed=0)
    x_ng = np.vstack([profiles.block(i) for i in range(16)])
    landmarks, targets = map_lines()
    column = {name: i for i, name in enumerate(profiles.var.index)}
    first_l, first_t = (
        [column[line.split("\t")[2].split(",")[0]] for line in lines]
        for lines in (landmarks, targets)
    )
    x_nl, y_nt = x_ng[:, first_l], x_ng[:, first_t[445::10]]
    return standardised(x_nl), standardised(y_nt), x_nl


def test_targets_follow_from_landmarks_and_not_only_linearly(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x_nl, y_nt, _ = arrays
    k = 1200
    errors = []
    for model in (Ridge(300.0), KernelRidge(alpha=0.1, kernel="rbf", gamma=0.3 / 943)):
        inferred = model.fit(x_nl[:k], y_nt[:k]).predict(x_nl[k:])
        errors.append(np.abs(inferred - y_nt[k:]).mean())
    linear, curved = errors
    assert linear < 0.6 * np.abs(y_nt).mean()
    assert curved < 0.97 * linear
    assert curved > 0.1  # there is noise


def test_platforms_agree_on_the_order_of_genes_only_roughly(
    arrays: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """The same genes are high on both; gene-wise bias and distortion part them."""
    rna = InventedProfiles("gtex", 200, seed=0)
    x_ng = np.log2(np.vstack([rna.block(i) for i in range(4)]) + 1)
    ids = {name.partition(".")[0]: i for i, name in enumerate(rna.var.index)}
    columns = [ids[line.split("\t")[1]] for line in map_lines()[0]]
    r = np.corrcoef(x_ng[:, columns].mean(axis=0), arrays[2].mean(axis=0))[0, 1]
    assert 0.5 < r < 0.95
