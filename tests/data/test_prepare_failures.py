"""What prepare refuses, and what an end on the way leaves behind: nothing."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from dgex.data import prepare as prepare_module
from dgex.data.compendium import Compendium
from dgex.data.dataset import Dataset
from dgex.data.matrix import create_matrix
from dgex.data.prepare import prepare
from dgex.data.preprocess import Preprocessor
from dgex.errors import DataError, UsageError
from dgex.files import read_toml

Cohort = Callable[..., AnnData]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "papr"}, UsageError, "--protocol papr"),
        ({"sed": 1}, UsageError, "sed: no such option"),
        ({"seed": -1}, UsageError, "--seed -1"),
        ({"fractions": (0.9, 0.1)}, UsageError, "three positive numbers"),
        ({"remove_duplicates_below": float("nan")}, UsageError, "--remove-duplicates-below nan"),
        ({"remove_duplicates_below": -1.0}, UsageError, "--remove-duplicates-below -1"),
        ({"group_by": "patient"}, UsageError, "it has study"),
        ({"group_by": "nothing", "obs": Path("absent.tsv")}, UsageError, "--obs absent.tsv: no su"),
        ({"split": Path("absent.tsv")}, UsageError, "--split absent.tsv: no such file"),
        ({"id_column": "mine"}, UsageError, "--id-column mine"),
        ({"landmarks": "absent.txt"}, UsageError, "absent.txt: no such file"),
        ({"landmarks": "var:lm"}, UsageError, "var:lm"),
        ({"landmarks": ["x"]}, DataError, "None of the 1 genes"),
        ({"targets": ["x"]}, DataError, "None of the 1 genes"),
        ({"external": {"train": "x.gctx"}}, UsageError, "--external train"),
        ({"external": {"a/b": "x.gctx"}}, UsageError, "--external a/b"),
        ({"external": {"../a": "x.gctx"}}, UsageError, "letters, digits"),
        ({"external": {"": "x.gctx"}}, UsageError, "letters, digits"),
        ({"external": {"a b": "x.gctx"}}, UsageError, "letters, digits"),
        ({"external": {"gtex": "absent.gctx"}}, UsageError, "absent.gctx: no such file"),
        ({"log2": "yes"}, DataError, "--log2 yes: the least value"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    cohort: Cohort,
    tmp_path: Path,
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    made = cohort()
    made.X[0, 0] = -3
    with pytest.raises(error, match=message) as caught:
        prepare(made, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_an_output_that_exists_is_kept_unless_asked(cohort: Cohort, tmp_path: Path) -> None:
    first = prepare(cohort(), tmp_path / "a")
    with pytest.raises(UsageError, match=r"a exists already.*--overwrite"):
        prepare(cohort(), tmp_path / "a", seed=1)
    assert Dataset(tmp_path / "a").fingerprint == first.fingerprint
    second = prepare(cohort(), tmp_path / "a", seed=1, overwrite=True)
    assert second.fingerprint != first.fingerprint
    assert names(tmp_path) == ["a"]


def test_run_toml_can_make_it_again(cohort: Cohort, tmp_path: Path) -> None:
    with create_matrix(tmp_path / "x.gctx", cohort().obs, cohort().var) as out:
        out.write(cohort().X)
    first = prepare(tmp_path / "x.gctx", tmp_path / "a", seed=5, group_by="study")
    run = read_toml(tmp_path / "a" / "run.toml")
    run["options"]["fractions"] = tuple(run["options"]["fractions"])
    again = prepare(run["inputs"]["expression"]["path"], tmp_path / "b", **run["options"])
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), MemoryError()])
@pytest.mark.parametrize(
    ("where", "what"),
    [
        (prepare_module, "choose_genes"),
        (prepare_module, "scan"),
        (prepare_module, "near_duplicates"),
        (Compendium, "training_means"),
        (Compendium, "rank"),
        (Compendium, "moments"),
        (Compendium, "write_sets"),
        (Preprocessor, "save"),
        (prepare_module, "write_set_genes"),
        (prepare_module, "write_external"),
        (prepare_module, "write_run"),
        (prepare_module, "write_index"),
    ],
)
def test_an_end_in_the_middle_leaves_nothing_and_the_old_dataset_stays(
    cohort: Cohort,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    what: str,
    error: BaseException,
) -> None:
    first = prepare(cohort(), tmp_path / "a")
    done: list[str] = []
    original = getattr(where, what)

    def fail_at_the_end(*args: object, **options: object) -> None:
        original(*args, **options)
        done.append(what)
        raise error

    monkeypatch.setattr(where, what, fail_at_the_end)
    made = cohort()
    made.X[0, 5] = np.nan
    for out, overwrite in ((tmp_path / "a", True), (tmp_path / "new", False)):
        with pytest.raises(type(error)):
            prepare(made, out, external={"other": cohort(n=9)}, overwrite=overwrite)
    assert done == [what, what]
    assert names(tmp_path) == ["a"]
    assert Dataset(tmp_path / "a").fingerprint == first.fingerprint


def in_a_process(code: str, file_limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if file_limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("limit", [500, 5_000, 30_000, 60_000])
def test_a_disk_that_ends_on_the_way(cohort: Cohort, tmp_path: Path, limit: int) -> None:
    """At the gene tables, the ranks, the landmarks and the targets."""
    made = cohort(n=200, n_landmarks=20, n_targets=100)
    made.write_h5ad(tmp_path / "x.h5ad")
    code = f"""
        from dgex import DataError, prepare
        try:
            prepare({str(tmp_path / "x.h5ad")!r}, {str(tmp_path / "out")!r})
        except DataError as error:
            print(error)
    """
    done = in_a_process(code, limit)
    assert done.stderr == ""
    assert done.stdout.startswith(f"The disk is full: {tmp_path / 'out'}")
    assert done.stdout.count("\n") == 1
    assert names(tmp_path) == ["x.h5ad"]


def test_a_file_of_a_gigabyte_is_never_in_memory(tmp_path: Path) -> None:
    """With one worker, so that the number of cores does not count (see `dgex.blocks`)."""
    path = tmp_path / "large.gctx"
    n, g = 24_000, 11_000
    obs = pd.DataFrame(index=[f"s{i}" for i in range(n)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(g)])
    block = np.random.default_rng(0).normal(8, 2, size=(1000, g)).astype(np.float32)
    with create_matrix(path, obs, var) as out:
        for start in range(0, n, 1000):
            out.write(np.roll(block, start // 1000, axis=1))
    code = f"""
        import resource
        from dgex import blocks, prepare
        blocks._n_cores = lambda: 1
        prepare({str(path)!r}, {str(tmp_path / "out")!r},
                landmarks=[f"g{{i}}" for i in range(0, 11000, 200)],
                targets=[f"g{{i}}" for i in range(1, 11000, 20)])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    """
    done = in_a_process(code)
    assert done.stderr == ""
    peak, size = float(done.stdout), path.stat().st_size / 2**20
    path.unlink()
    assert size > 1000
    assert peak < 0.75 * size, f"{peak:.0f} MB for a file of {size:.0f} MB"
