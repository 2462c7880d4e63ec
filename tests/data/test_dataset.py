"""A Dataset on disk: what it gives, what damage it tells, and its fingerprint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from dgex.data.dataset import Dataset, RowFile, check_files, file_sizes
from dgex.data.prepare import prepare
from dgex.errors import DataError, UsageError

Cohort = Callable[..., AnnData]


@pytest.fixture
def dataset(cohort: Cohort, tmp_path: Path) -> Dataset:
    return prepare(cohort(), tmp_path / "toy", external={"other": cohort(n=9, seed=1)})


def test_what_a_dataset_gives(dataset: Dataset) -> None:
    assert (dataset.name, dataset.protocol) == ("toy", "strict")
    assert dataset.sets == ["train", "validation", "test", "other"]
    assert dataset.externals == ["other"]
    assert list(dataset.landmarks.index) == ["L0", "L1", "L2", "L3"]
    assert len(dataset.targets) == 7
    sizes = {name: dataset[name].n for name in dataset.sets}
    assert sizes == {"train": 32, "validation": 4, "test": 4, "other": 9}
    for name in dataset.sets:
        one = dataset[name]
        assert one.x_nl.shape == (one.n, 4)
        assert one.y_nt.shape == (one.n, 7)
        assert one.x_nl.dtype == one.y_nt.dtype == np.float32
        assert isinstance(one.x_nl, np.memmap)
        assert len(one.obs) == one.n
        assert one.obs.index.name == "sample"
        assert one.present_l.tolist() == [True] * 4
        assert one.present_t.tolist() == [True] * 7
        assert np.isfinite(one.x_nl).all()
    assert dataset["test"].obs["study"].str.startswith("S").all()


@pytest.mark.parametrize("rows", [1, 5, 32, 1000])
def test_blocks_are_the_set_in_order(dataset: Dataset, rows: int) -> None:
    train = dataset["train"]
    starts, x_parts, y_parts = zip(*train.blocks(rows), strict=True)
    assert list(starts) == list(range(0, 32, rows))
    np.testing.assert_array_equal(np.concatenate(x_parts), train.x_nl)
    np.testing.assert_array_equal(np.concatenate(y_parts), train.y_nt)
    assert not isinstance(x_parts[0], np.memmap)


def test_a_set_cannot_be_changed_by_accident(dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="read-only"):
        dataset["train"].x_nl[0, 0] = 1


def test_a_set_that_is_not_there_is_misuse(dataset: Dataset) -> None:
    with pytest.raises(UsageError, match=r"no set 1000g; it has train, validation, test, other"):
        dataset["1000g"]


def test_open_takes_a_path_or_a_dataset(dataset: Dataset) -> None:
    assert Dataset.open(dataset) is dataset
    assert Dataset.open(str(dataset.path)).fingerprint == dataset.fingerprint


def test_a_dataset_can_be_moved(dataset: Dataset, tmp_path: Path) -> None:
    shutil.move(dataset.path, tmp_path / "elsewhere")
    moved = Dataset(tmp_path / "elsewhere")
    assert moved.name == "elsewhere"
    assert moved["test"].n == 4
    assert moved.fingerprint == dataset.fingerprint


FILES = [
    "dataset.json",
    "run.toml",
    "dropped.tsv",
    "preprocessing/landmarks.tsv",
    "preprocessing/targets.tsv",
    "preprocessing/preprocessing.safetensors",
    *(
        f"sets/{name}/{file}"
        for name in ("train", "validation", "test", "other")
        for file in ("x_nl.npy", "y_nt.npy", "obs.tsv", "genes.tsv")
    ),
]


def test_these_files_are_all_there_are(dataset: Dataset) -> None:
    found = [p.relative_to(dataset.path).as_posix() for p in dataset.path.rglob("*") if p.is_file()]
    assert sorted(found) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_missing_or_cut_is_one_line_that_names_it(dataset: Dataset, name: str) -> None:
    path = dataset.path / name
    content = path.read_bytes()
    for damaged in (None, b"", content[: len(content) // 2], content[:-1], content + b"x"):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        if name == "dataset.json" and damaged == content[:-1]:
            continue  # only the last line end is gone
        with pytest.raises(DataError, match=name) as caught:
            Dataset(dataset.path)
        assert "\n" not in str(caught.value)
        assert "again" in str(caught.value)


@pytest.mark.parametrize("name", ["sets/test", "sets", "preprocessing"])
def test_a_folder_missing_is_told(dataset: Dataset, name: str) -> None:
    shutil.rmtree(dataset.path / name)
    with pytest.raises(DataError, match="is not whole"):
        Dataset(dataset.path)


@pytest.mark.parametrize(
    "content", ["{}", "null", "[]", "3", '"x"', '{"format": 1}', '{"format": 1, "files": 3}', "\0"]
)
def test_an_index_that_says_nothing_is_damaged(dataset: Dataset, content: str) -> None:
    (dataset.path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=r"dataset\.json is damaged"):
        Dataset(dataset.path)


@pytest.mark.parametrize(
    "key", ["protocol", "n_landmarks", "n_targets", "sets", "fingerprint", "notes", "files"]
)
def test_an_index_without_one_of_its_keys_is_damaged(dataset: Dataset, key: str) -> None:
    path = dataset.path / "dataset.json"
    index = json.loads(path.read_text())
    del index[key]
    path.write_text(json.dumps(index))
    with pytest.raises(DataError, match=rf"is damaged \('{key}'\)"):
        Dataset(dataset.path)


def test_another_format_version_is_told_apart_from_damage(dataset: Dataset) -> None:
    (dataset.path / "dataset.json").write_text('{"format": 2, "new": true}')
    with pytest.raises(DataError, match="has format 2; this dgex reads 1"):
        Dataset(dataset.path)


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such Dataset"):
        Dataset(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no such Dataset"):
        Dataset(tmp_path / "file")
    with pytest.raises(DataError, match=r"not a whole Dataset: dataset\.json is missing"):
        Dataset(tmp_path)


def test_an_array_of_another_shape_is_told_when_it_is_read(dataset: Dataset) -> None:
    path = dataset.path / "sets/test/x_nl.npy"
    np.save(path, np.zeros((2, 8), np.float32))  # as many bytes
    assert path.stat().st_size == (dataset.path / "sets/validation/x_nl.npy").stat().st_size
    with pytest.raises(DataError, match=r"x_nl\.npy has shape \(2, 8\), not \(n, 4\)"):
        _ = Dataset(dataset.path)["test"].x_nl


def test_equal_input_gives_an_equal_fingerprint(cohort: Cohort, tmp_path: Path) -> None:
    first = prepare(cohort(), tmp_path / "a")
    assert prepare(cohort(), tmp_path / "b").fingerprint == first.fingerprint


def changed_value(made: AnnData) -> None:
    made.X[0, 0] += 0.5


def changed_name(made: AnnData) -> None:
    made.obs_names = [f"q{i}" for i in range(made.n_obs)]


def changed_gene(made: AnnData) -> None:
    made.var_names = [*made.var_names[:-1], "T99"]


@pytest.mark.parametrize("change", [changed_value, changed_name, changed_gene])
def test_changed_input_gives_another_fingerprint(
    cohort: Cohort, tmp_path: Path, change: Callable[[AnnData], None]
) -> None:
    other = cohort()
    change(other)
    first = prepare(cohort(), tmp_path / "a")
    assert prepare(other, tmp_path / "b").fingerprint != first.fingerprint


def test_changed_held_out_values_alone_give_another_fingerprint(
    cohort: Cohort, tmp_path: Path
) -> None:
    """Nothing that is learned changes, but what a model is judged by does."""
    first = prepare(cohort(), tmp_path / "a")
    other = cohort()
    row = other.obs_names.get_loc(first["test"].obs.index[0])
    other.X[row] = other.X[row][::-1]
    second = prepare(other, tmp_path / "b")
    np.testing.assert_array_equal(second["train"].x_nl, first["train"].x_nl)
    assert second.fingerprint != first.fingerprint


def test_changed_options_give_another_fingerprint(cohort: Cohort, tmp_path: Path) -> None:
    made = [
        prepare(cohort(), tmp_path / "a"),
        prepare(cohort(), tmp_path / "b", seed=1),
        prepare(cohort(), tmp_path / "c", protocol="paper"),
        prepare(cohort(), tmp_path / "d", external={"other": cohort(n=9, seed=1)}),
        prepare(cohort(), tmp_path / "e", external={"other": cohort(n=9, seed=2)}),
        prepare(cohort(), tmp_path / "f", external={"name": cohort(n=9, seed=2)}),
    ]
    assert len({one.fingerprint for one in made}) == len(made)


def test_a_row_file_is_a_plain_npy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x_nl = rng.normal(size=(7, 3))
    with RowFile(tmp_path / "x.npy", 7, 3) as rows:
        for part in np.split(x_nl, [2, 2, 6]):
            rows.write(part)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), x_nl.astype(np.float32))


def test_a_row_file_takes_blocks_in_any_layout(tmp_path: Path) -> None:
    x_nl = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    with RowFile(tmp_path / "x.npy", 4, 2) as rows:
        rows.write(x_nl[::2, :2])
        rows.write(x_nl[1::2, :2])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy")[:, 0], [0, 6, 3, 9])


def test_sizes_of_files_tell_what_is_missing_or_cut(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "é b").write_text("12345")
    (tmp_path / "c").write_text("")
    sizes = file_sizes(tmp_path)
    assert sizes == {"a/é b": 5, "c": 0}
    check_files(tmp_path, sizes, "Do it again.")
    (tmp_path / "a" / "é b").write_text("1234")
    (tmp_path / "c").unlink()
    with pytest.raises(DataError, match=r"a/é b, c missing or cut off\. Do it again\."):
        check_files(tmp_path, sizes, "Do it again.")
