"""From files to a Dataset: each step's rule, worked out again with scipy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse, stats

from dgex.data.dataset import Dataset
from dgex.data.matrix import create_matrix
from dgex.data.prepare import SMALL_SPREAD, prepare
from dgex.errors import DataError, UsageError
from dgex.files import read_toml

Cohort = Callable[..., AnnData]
SPLITS = ("train", "validation", "test")


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.iterdir())


def all_rows(dataset: Dataset) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Samples, z-scores (n, g) and splits of all profiles."""
    ids, z, split = [], [], []
    for name in SPLITS:
        one = dataset[name]
        ids += list(one.obs.index)
        z.append(np.hstack([one.x_nl, one.y_nt]))
        split += [name] * one.n
    return ids, np.vstack(z), np.array(split)


def dropped(dataset: Dataset) -> list[list[str]]:
    table = pd.read_csv(dataset.path / "dropped.tsv", sep="\t", dtype=str)
    return table.to_numpy().tolist()


# ---------------------------------------------------------------- the arithmetic


@pytest.mark.parametrize("protocol", ["paper", "strict"])
@pytest.mark.parametrize("unit", ["log2", "counts"])
def test_all_steps_agree_with_scipy(
    cohort: Cohort, tmp_path: Path, protocol: str, unit: str
) -> None:
    made = cohort(n=60, seed=4)
    x_ng = made.X.copy()
    if unit == "counts":
        made.X = np.round(np.exp2(x_ng))
        x_ng = np.log2(made.X + 1)
    dataset = prepare(made, tmp_path / "toy", protocol=protocol)
    ids, z_ng, split_n = all_rows(dataset)
    x_ng = x_ng[[list(made.obs_names).index(name) for name in ids]]
    learned_n = split_n == "train" if protocol == "strict" else np.ones(60, dtype=bool)
    reference_g = np.sort(x_ng[learned_n], axis=1).mean(axis=0)
    q_ng = np.stack([reference_g[(stats.rankdata(x_g) - 1).astype(int)] for x_g in x_ng])
    mean_g, sd_g = q_ng[learned_n].mean(axis=0), q_ng[learned_n].std(axis=0)
    np.testing.assert_allclose(z_ng, (q_ng - mean_g) / (sd_g + 1e-3), atol=1e-6)
    np.testing.assert_allclose(dataset.preprocessor.reference_g, reference_g, rtol=1e-12)
    correlation_ll = np.corrcoef(q_ng[split_n == "train", :4].T)
    np.testing.assert_allclose(dataset.preprocessor.correlation_ll, correlation_ll, atol=1e-5)
    assert ("Values are taken as log2(x + 1)" in " ".join(dataset.notes)) is (unit == "counts")


def learned(dataset: Dataset) -> list[np.ndarray]:
    made = dataset.preprocessor
    train = dataset["train"]
    return [
        made.reference_g, made.mean_g, made.sd_g, made.correlation_ll, train.x_nl, train.y_nt
    ]  # fmt: skip


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_held_out_profiles_teach_nothing_under_strict(
    cohort: Cohort, tmp_path: Path, held_out: str
) -> None:
    first = prepare(cohort(), tmp_path / "a")
    made = cohort()
    rows = [list(made.obs_names).index(name) for name in first[held_out].obs.index]
    made.X[rows] = np.random.default_rng(9).normal(12, 5, size=(len(rows), made.n_vars))
    second = prepare(made, tmp_path / "b")
    for one, other in zip(learned(first), learned(second), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[held_out].y_nt != second[held_out].y_nt).any()
    paper = [
        prepare(source, tmp_path / f"paper{number}", protocol="paper")
        for number, source in enumerate((cohort(), made))
    ]
    assert (paper[0].preprocessor.reference_g != paper[1].preprocessor.reference_g).all()


def test_held_out_missing_values_are_filled_from_training_under_strict(
    cohort: Cohort, tmp_path: Path
) -> None:
    first = prepare(cohort(), tmp_path / "a")
    row = list(cohort().obs_names).index(first["test"].obs.index[0])
    results = []
    for other_value in (5.0, 50.0):
        made = cohort()
        made.X[row, 5] = np.nan
        held_out = list(made.obs_names).index(first["test"].obs.index[1])
        made.X[held_out, 5] = other_value
        dataset = prepare(made, tmp_path / f"b{other_value}", log2="no")
        results.append((dataset["test"].y_nt[0].copy(), *learned(dataset)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_keep_their_order_in_every_split(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort(n=80)
    dataset = prepare(made, tmp_path / "toy")
    place = {name: row for row, name in enumerate(made.obs_names)}
    for name in SPLITS:
        rows = [place[sample] for sample in dataset[name].obs.index]
        assert rows == sorted(rows)


def test_seeds_decide_the_split_and_nothing_else(cohort: Cohort, tmp_path: Path) -> None:
    paper = [
        prepare(cohort(), tmp_path / f"{n}", seed=seed, protocol="paper")
        for n, seed in enumerate((0, 0, 7))
    ]
    rows = [dict(zip(ids, z_ng, strict=True)) for ids, z_ng, _ in map(all_rows, paper)]
    for sample, z_g in rows[0].items():
        np.testing.assert_array_equal(z_g, rows[1][sample])
        np.testing.assert_allclose(z_g, rows[2][sample], atol=1e-6)
    tests = [set(dataset["test"].obs.index) for dataset in paper]
    assert tests[0] == tests[1] != tests[2]


# ---------------------------------------------------------------- kinds of input


def test_the_same_matrix_in_any_format_gives_the_same_dataset(
    cohort: Cohort, tmp_path: Path
) -> None:
    made = cohort()
    made.X = made.X.astype(np.float32)
    made.obs_names = [f"Probe é {i}" for i in range(made.n_obs)]
    expected = prepare(made, tmp_path / "anndata", group_by="study")
    sources: list[AnnData | Path] = [AnnData(sparse.csr_matrix(made.X), made.obs, made.var)]
    for name in ("x.gctx", "x.h5ad", "x.gct.gz"):
        sources.append(tmp_path / name)
        with create_matrix(tmp_path / name, made.obs, made.var) as out:
            out.write(made.X)
    for number, source in enumerate(sources):
        dataset = prepare(source, tmp_path / f"out{number}", group_by="study")
        np.testing.assert_allclose(dataset["test"].y_nt, expected["test"].y_nt, atol=1e-6)
        pd.testing.assert_frame_equal(dataset["test"].obs, expected["test"].obs)
        if str(source)[-3:] != ".gz":  # text gives the shortest decimals, read as doubles
            assert dataset.fingerprint == expected.fingerprint


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.float32, np.float64])
def test_numbers_of_any_type(cohort: Cohort, tmp_path: Path, dtype: type) -> None:
    made = cohort()
    counts = np.round(np.exp2(made.X)).clip(0, 60_000)
    expected = prepare(AnnData(counts, made.obs, made.var), tmp_path / "a")
    found = prepare(AnnData(counts.astype(dtype), made.obs, made.var), tmp_path / "b")
    for name in SPLITS:
        np.testing.assert_allclose(found[name].y_nt, expected[name].y_nt, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e15, 1e30])
def test_tiny_and_huge_values_only_count_by_rank(
    cohort: Cohort, tmp_path: Path, scale: float
) -> None:
    expected = prepare(cohort(), tmp_path / "a", remove_duplicates_below=0)
    made = cohort()
    made.X = made.X * scale
    found = prepare(made, tmp_path / "b", remove_duplicates_below=1e-3 * scale, log2="no")
    ids = [index.obs.index.tolist() for index in (found["train"], expected["train"])]
    assert ids[0] == ids[1]
    ratio = found.preprocessor.reference_g / expected.preprocessor.reference_g
    np.testing.assert_allclose(ratio, scale, rtol=1e-9)


STRANGE = ["007", "7157", "NA", "nan", "1.10", "1e3", "a b", " é ü ", "x,y", 'say "x"', "a/b", "-"]


def test_strange_ids_come_back_as_they_are(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort(n=12, n_landmarks=4, n_targets=8)
    made.var_names = STRANGE
    made.obs_names = STRANGE
    dataset = prepare(made, tmp_path / "toy")
    back = Dataset(dataset.path)
    assert [*back.landmarks.index, *back.targets.index] == STRANGE
    assert back["train"].genes["gene"].tolist() == STRANGE
    samples = [name for split in SPLITS for name in back[split].obs.index]
    assert sorted(samples) == sorted(STRANGE)


def test_the_smallest_cohorts(cohort: Cohort, tmp_path: Path) -> None:
    one = prepare(
        cohort(n=6, n_landmarks=1, n_targets=1), tmp_path / "a", fractions=(0.34, 0.33, 0.33)
    )
    assert [one[name].n for name in SPLITS] == [2, 2, 2]
    assert one["train"].x_nl.shape == (2, 1)
    with pytest.raises(DataError, match="1 profile in train has no moments to learn"):
        prepare(cohort(n=3), tmp_path / "b")
    assert prepare(cohort(n=3), tmp_path / "b", protocol="paper")["train"].n == 1
    with pytest.raises(DataError, match="2 profiles cannot fill"):
        prepare(cohort(n=2), tmp_path / "c")


def test_ids_in_python_and_lists_on_disk_are_the_same(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("L3\nL1\n")
    one = prepare(cohort(), tmp_path / "a", landmarks=["L3", "L1"], targets=("T2", "L0"))
    (tmp_path / "t.txt").write_text("T2\nL0\n")
    other = prepare(
        cohort(), tmp_path / "b", landmarks=tmp_path / "l.txt", targets=str(tmp_path / "t.txt")
    )
    assert one.fingerprint == other.fingerprint
    assert [*one.landmarks.index, *one.targets.index] == ["L3", "L1", "T2", "L0"]


# ---------------------------------------------------------------- missing and constant values


def test_missing_values_are_imputed_counted_and_said(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    first = prepare(made, tmp_path / "a")
    made.X[[0, 1, 2], 6] = np.nan
    made.X[5, 8] = np.nan
    targets = [f"T{i}" for i in range(4)]
    dataset = prepare(made, tmp_path / "b", targets=targets)
    assert [note for note in dataset.notes if "missing values" in note][1:] == [
        "1 missing values are in probe sets or rows that no gene uses.",
        "3 missing values of 1 genes imputed by the gene's training mean (T2).",
    ]
    rows = np.isin(made.obs_names, first["train"].obs.index)
    filled = made.X.copy()
    filled[np.isnan(filled[:, 6]), 6] = np.nanmean(filled[rows, 6])
    expected = prepare(AnnData(filled, made.obs, made.var), tmp_path / "c", targets=targets)
    for name in SPLITS:
        np.testing.assert_allclose(dataset[name].y_nt, expected[name].y_nt, atol=1e-5)


def test_missing_values_that_no_gene_uses_do_not_matter(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    expected = prepare(made, tmp_path / "a", targets=["T0", "T1"])
    made.X[3:9, 9] = np.nan
    made.X[:, 10] = np.nan
    dataset = prepare(made, tmp_path / "b", targets=["T0", "T1"])
    assert "46 missing values are in probe sets or rows that no gene uses." in dataset.notes
    assert not any("imputed" in note for note in dataset.notes)
    np.testing.assert_array_equal(dataset["train"].y_nt, expected["train"].y_nt)


def test_missing_values_of_dropped_profiles_are_not_counted(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    made.X[20] = made.X[3]
    made.X[20, 5] = np.nan
    dataset = prepare(made, tmp_path / "a")
    assert not any("imputed" in note for note in dataset.notes)


def test_a_gene_never_measured_in_training_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    first = prepare(cohort(), tmp_path / "a")
    made = cohort()
    made.X[np.isin(made.obs_names, first["train"].obs.index), 6] = np.nan
    with pytest.raises(DataError, match=r"1 genes have no measured value to learn from \(T2\)"):
        prepare(made, tmp_path / "b")
    assert names(tmp_path) == ["a"]


def test_an_all_missing_profile_is_named(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    made.X[[4, 7]] = np.nan
    with pytest.raises(DataError, match=r"2 profiles of <AnnData> .*\(p4, p7\)"):
        prepare(made, tmp_path / "a")
    assert names(tmp_path) == []


def test_missing_everywhere_needs_no_duplicate_search(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    made.X[np.arange(11), np.arange(11)] = np.nan
    with pytest.raises(DataError, match="Pass --remove-duplicates-below 0"):
        prepare(made, tmp_path / "a")
    assert prepare(made, tmp_path / "a", remove_duplicates_below=0)["train"].n == 32


def test_constant_genes(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    made.X[:, [1, 6]] = 7.0
    with pytest.raises(DataError, match=r"2 genes have one value in all profiles \(L1, T2\)"):
        prepare(made, tmp_path / "a")
    dataset = prepare(made, tmp_path / "a", drop_constant=True)
    assert list(dataset.landmarks.index) == ["L0", "L2", "L3"]
    assert len(dataset.targets) == 6
    assert ["gene", "T2", "one value in all profiles"] in dropped(dataset)
    rest = made[:, [name not in ("L1", "T2") for name in made.var_names]].copy()
    assert prepare(rest, tmp_path / "b").fingerprint == dataset.fingerprint


@pytest.mark.parametrize("missing", [False, True])
def test_genes_that_normalisation_makes_constant(
    cohort: Cohort, tmp_path: Path, missing: bool
) -> None:
    """A gene above all others in every training profile has one value there, and elsewhere not."""
    made = cohort()
    splits = ["train"] * 30 + ["validation"] * 5 + ["test"] * 5
    split = tmp_path / "split.tsv"
    pd.Series(splits, made.obs_names).to_csv(split, sep="\t", header=False)
    made.X[:30, 5] = 100 + np.arange(30)
    made.X[:30, 6] = 50 + np.arange(30) % 7  # always the next
    if missing:
        made.X[3, 8] = np.nan
    options = {"split": split, "log2": "no", "remove_duplicates_below": 0}
    with pytest.raises(DataError, match=r"2 genes have one value .*normalised \(T1, T2\)"):
        prepare(made, tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()
    dataset = prepare(made, tmp_path / "a", drop_constant=True, **options)
    assert list(dataset.targets.index) == ["T0", "T3", "T4", "T5", "T6"]
    assert [row[1] for row in dropped(dataset)] == ["T1", "T2"]
    assert np.abs(dataset["test"].y_nt).max() < 20
    rest = made[:, [name not in ("T1", "T2") for name in made.var_names]].copy()
    assert prepare(rest, tmp_path / "b", **options).fingerprint == dataset.fingerprint


def test_a_wrong_request_is_told_before_the_long_passes(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dgex.data.prepare.scan", lambda matrix: pytest.fail("was scanned"))
    for options in ({"seed": -1}, {"fractions": (0.5, 0.5, 0.5)}, {"split": tmp_path / "absent"}):
        with pytest.raises(UsageError):
            prepare(cohort(), tmp_path / "a", **options)


def test_a_constant_gene_that_is_no_target_does_not_matter(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    made.X[:, 10] = 7.0
    assert len(prepare(made, tmp_path / "a", targets=["T0", "T1"]).targets) == 2


# ---------------------------------------------------------------- duplicates, splits, options


def test_duplicates_go_before_anything_is_learned_and_are_kept_in_a_table(
    cohort: Cohort, tmp_path: Path
) -> None:
    made = cohort()
    made.X[[20, 30]] = made.X[3]
    made.X[25] = made.X[7]
    made.X[25, 0] += 0.5
    dataset = prepare(made, tmp_path / "a")
    rest = np.ones(40, dtype=bool)
    rest[[20, 25, 30]] = False
    expected = prepare(made[rest].copy(), tmp_path / "b")
    assert dataset.fingerprint == expected.fingerprint
    assert dropped(dataset) == [
        ["profile", "p20", "distance 0 to p3"],
        ["profile", "p25", "distance 0.5 to p7"],
        ["profile", "p30", "distance 0 to p3"],
    ]
    assert dropped(expected) == []
    kept = prepare(made, tmp_path / "c", remove_duplicates_below=0.0)
    assert sum(kept[name].n for name in SPLITS) == 40
    assert "Near-duplicate profiles were not looked for." in kept.notes


def test_a_given_split_is_followed_and_the_others_left_out(cohort: Cohort, tmp_path: Path) -> None:
    made = cohort()
    split = ["train"] * 20 + ["test"] * 10 + ["validation"] * 5
    lines = [f"p{i}\t{name}" for i, name in enumerate(split)]
    (tmp_path / "split.tsv").write_text("\n".join(["sample\tsplit", *reversed(lines)]) + "\n")
    dataset = prepare(made, tmp_path / "a", split=str(tmp_path / "split.tsv"))
    assert dataset["test"].obs.index.tolist() == [f"p{i}" for i in range(20, 30)]
    assert dataset["train"].obs.index.tolist() == [f"p{i}" for i in range(20)]
    assert [row[1] for row in dropped(dataset)] == [f"p{i}" for i in range(35, 40)]
    assert "5 profiles dropped: not in the split table." in dataset.notes
    run = read_toml(dataset.path / "run.toml")
    assert run["options"]["split"] == str(tmp_path / "split.tsv")
    assert len(run["inputs"]["split"]["sha256"]) == 64


def test_groups_from_a_table_are_never_split(cohort: Cohort, tmp_path: Path) -> None:
    lines = [f"p{i},patient {i // 4}" for i in range(40)]
    (tmp_path / "obs.csv").write_text("\n".join(["id,patient", *lines]) + "\n")
    dataset = prepare(cohort(), tmp_path / "a", obs=str(tmp_path / "obs.csv"), group_by="patient")
    of = {patient: name for name in SPLITS for patient in dataset[name].obs["patient"]}
    for name in SPLITS:
        assert all(of[patient] == name for patient in dataset[name].obs["patient"])
    assert "Split by patient: 10 groups, none in two splits: 32 train, 4 validation, 4 test." in (
        dataset.notes
    )


def test_a_random_split_is_called_one(cohort: Cohort, tmp_path: Path) -> None:
    notes = prepare(cohort(), tmp_path / "a").notes
    assert any("at random" in note and "--group-by" in note for note in notes)


def test_genes_that_hardly_vary_are_named(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ordinary = prepare(cohort(), tmp_path / "ordinary", protocol="paper")
    assert (ordinary.preprocessor.sd_g > SMALL_SPREAD).all()
    assert "standard deviation below" not in " ".join(ordinary.notes) + caplog.text
    made = cohort()
    # The two smallest of every profile change places in one of them.
    made.X[:, 5], made.X[:, 8] = 0.0, 0.02
    made.X[3, 5], made.X[3, 8] = 0.02, 0.0
    dataset = prepare(made, tmp_path / "flat", protocol="paper")
    assert dataset.preprocessor.sd_g[5] == pytest.approx(np.std([0.02] + [0.0] * 39))
    sentence = "2 genes have a standard deviation below 0.01 in the profiles learned from (T1, T4)"
    assert [note for note in dataset.notes if note.startswith(sentence)]
    assert [record.levelname for record in caplog.records if sentence in record.message] == [
        "WARNING"
    ]
