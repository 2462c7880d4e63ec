"""Which genes become landmarks and targets, and what is said of the others."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

from dgex.config import PrepareConfig
from dgex.data.choose import choose_genes, refuse_constant
from dgex.data.formats.reader import Matrix
from dgex.data.genes import Alignment
from dgex.data.matrix import open_matrix
from dgex.data.record import Record
from dgex.data.scan import scan
from dgex.errors import DataError, UsageError

PAPER, STRICT = PrepareConfig(protocol="paper"), PrepareConfig(protocol="strict")


def matrix_of(ids: list[str], x_ng: np.ndarray | None = None, **columns: list[object]) -> Matrix:
    if x_ng is None:
        x_ng = np.arange(3.0 * len(ids)).reshape(3, -1)
    return open_matrix(anndata.AnnData(x_ng, var=pd.DataFrame(columns, index=ids)))


def columns_of(found: Alignment) -> list[list[int]]:
    return [part.tolist() for part in np.split(found.members, found.starts[1:])]


PROBES = [f"{i}_at" for i in range(6)]
SYMBOLS = ["A", "A", "B", "C", "C", "C"]


def test_genes_given_by_symbol_are_means_over_all_their_probe_sets() -> None:
    """And their table names all of them, so that a file of probe sets alone gives the same mean."""
    matrix = matrix_of(PROBES, pr_gene_symbol=SYMBOLS)
    genes, found, n_landmarks = choose_genes(matrix, ["A", "B"], ["C"], STRICT, Record())
    assert columns_of(found) == [[0, 1], [2], [3, 4, 5]]
    assert genes["probes"].tolist() == ["0_at,1_at", "2_at", "3_at,4_at,5_at"]
    assert n_landmarks == 2
    bare = matrix_of(PROBES[::-1])
    _, again, _ = choose_genes(bare, ["0_at", "2_at"], ["3_at"], STRICT, Record())
    assert columns_of(again) == [[5], [3], [2]]


def test_without_targets_all_other_columns_are_targets() -> None:
    genes, found, n_landmarks = choose_genes(
        matrix_of(list("abcde")), ["d", "b"], None, STRICT, Record()
    )
    assert list(genes.index) == ["d", "b", "a", "c", "e"]
    assert columns_of(found) == [[3], [1], [0], [2], [4]]
    assert n_landmarks == 2


def test_the_landmark_column_is_the_default() -> None:
    matrix = matrix_of(list("abc"), landmark=[False, True, False])
    genes, _, n_landmarks = choose_genes(matrix, None, None, STRICT, Record())
    assert list(genes.index) == ["b", "a", "c"]
    assert n_landmarks == 1
    with pytest.raises(UsageError, match="Which genes are landmarks"):
        choose_genes(matrix_of(list("abc")), None, None, STRICT, Record())


def test_absent_genes_are_named_and_recorded() -> None:
    record = Record()
    genes, _, n_landmarks = choose_genes(
        matrix_of(list("abc")), ["a", "x"], ["y", "c", "z"], STRICT, record
    )
    assert list(genes.index) == ["a", "c"]
    assert n_landmarks == 1
    assert record.dropped == [
        ("landmark", "x", "not in the expression file"),
        ("target", "y", "not in the expression file"),
        ("target", "z", "not in the expression file"),
    ]
    assert any("1 of 2 landmarks are not in <AnnData>" in note for note in record.notes)
    assert any("2 of 3 targets" in note and "(y, z)" in note for note in record.notes)


@pytest.mark.parametrize(
    "targets",
    [
        ["a", "c"],  # the landmark itself
        ["A", "C"],  # by its symbol
        ["1_at", "c"],  # one of its probe sets
    ],
)
def test_a_target_that_is_a_landmark_goes_under_strict_and_stays_under_paper(
    targets: list[str],
) -> None:
    matrix = matrix_of(["a", "1_at", "c"], symbol=["A", "A", "C"], probes=["1_at", "2_at", "3_at"])
    record = Record()
    genes, found, n_landmarks = choose_genes(matrix, ["A"], targets, STRICT, record)
    assert list(genes.index[n_landmarks:]) == targets[1:]
    assert columns_of(found) == [[0, 1], [2]]
    assert record.dropped == [("target", targets[0], "same gene as a landmark")]
    record = Record()
    genes, _, n_landmarks = choose_genes(matrix, ["A"], targets, PAPER, record)
    assert list(genes.index[n_landmarks:]) == targets
    assert record.dropped == []
    assert any("1 of 2 targets are the same gene as a landmark" in note for note in record.notes)


def test_other_probe_sets_of_a_landmark_are_no_targets_under_strict() -> None:
    matrix = matrix_of(PROBES, pr_gene_symbol=SYMBOLS)
    genes, _, n_landmarks = choose_genes(matrix, ["0_at", "3_at"], None, STRICT, Record())
    assert list(genes.index[n_landmarks:]) == ["2_at"]


def test_nothing_left_to_infer_is_refused() -> None:
    matrix = matrix_of(list("ab"))
    with pytest.raises(DataError, match="no gene besides the landmarks"):
        choose_genes(matrix, ["a", "b"], None, STRICT, Record())
    with pytest.raises(DataError, match="No target is left"):
        choose_genes(matrix, ["a", "b"], ["b"], STRICT, Record())


@pytest.mark.parametrize(("landmarks", "targets"), [(["x"], ["a"]), (["a"], ["x"]), ([], ["a"])])
def test_no_overlap_is_refused(landmarks: list[str], targets: list[str]) -> None:
    with pytest.raises(DataError, match="None of the"):
        choose_genes(matrix_of(list("ab")), landmarks, targets, STRICT, Record())


def test_a_named_id_column_serves_landmarks_and_targets() -> None:
    matrix = matrix_of(list("ab"), mine=["L", "T"], symbol=["T", "L"])
    config = PrepareConfig(id_column="mine")
    _, found, _ = choose_genes(matrix, ["L"], ["T"], config, Record())
    assert columns_of(found) == [[0], [1]]


def constant(
    x_ng: np.ndarray, landmarks: list[str], config: PrepareConfig
) -> tuple[list[str], list[list[int]], int, Record]:
    ids = [f"g{i}" for i in range(x_ng.shape[1])]
    symbols = ["P", "P", *ids[2:]]
    matrix = matrix_of(ids, x_ng, symbol=symbols)
    record = Record()
    genes, found, n = choose_genes(matrix, landmarks, None, config, record)
    genes, found, n = refuse_constant(genes, found, n, scan(matrix), config, record)
    return list(genes.index), columns_of(found), n, record


def test_constant_genes_stop_or_are_left_out() -> None:
    x_ng = np.random.default_rng(0).normal(size=(5, 6))
    x_ng[:, [1, 2, 4]] = [3.0, 0.0, -7.5]  # g1 varies with g0 in the gene P
    x_ng[0, 4] = np.nan
    with pytest.raises(DataError, match=r"2 genes have one value .*\(g2, g4\).*--drop-constant"):
        constant(x_ng, ["P", "g2", "g3"], STRICT)
    config = PrepareConfig(drop_constant=True)
    ids, columns, n, record = constant(x_ng, ["P", "g2", "g3"], config)
    assert (ids, columns, n) == (["P", "g3", "g5"], [[0, 1], [3], [5]], 2)
    assert [name for what, name, _ in record.dropped if what == "gene"] == ["g2", "g4"]


@pytest.mark.parametrize("landmarks", [["g2"], ["g3"]])
def test_no_landmark_or_no_target_left_is_refused(landmarks: list[str]) -> None:
    x_ng = np.random.default_rng(0).normal(size=(5, 4))
    x_ng[:, 2] = 1.0
    config = PrepareConfig(drop_constant=True)
    if landmarks == ["g3"]:
        x_ng[:, :2] = 1.0
    with pytest.raises(DataError, match="No landmark or no target is left"):
        constant(x_ng, landmarks, config)


def test_nothing_constant_changes_nothing() -> None:
    x_ng = np.random.default_rng(0).normal(size=(5, 4))
    ids, columns, n, record = constant(x_ng, ["P"], STRICT)
    assert (ids, columns, n) == (["P", "g2", "g3"], [[0, 1], [2], [3]], 1)
    assert record.dropped == []
