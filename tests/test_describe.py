"""What `info` says of each kind of thing."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.describe import describe
from dgex.errors import DataError, UsageError


@pytest.fixture
def work(tmp_path):
    x_ng = np.random.default_rng(0).normal(8, 2, (40, 12)).astype(np.float32)
    x_ng[2, 11] = np.nan
    x_ng[:, 10] = 3
    var = pd.DataFrame(
        {"symbol": [f"A{i}" for i in range(12)]}, index=[f"{i}_at" for i in range(12)]
    )
    table = anndata.AnnData(x_ng, var=var)
    with dgex.create_matrix(tmp_path / "x.gctx", table.obs, table.var) as writer:
        writer.write(x_ng)
    dataset = dgex.prepare(
        table, tmp_path / "data", landmarks=["A0", "A1", "A2"], drop_constant=True
    )
    dgex.train(dataset, tmp_path / "ridge", model="ridge")
    dgex.evaluate(dataset, [tmp_path / "ridge"], tmp_path / "scores")
    return tmp_path


def test_each_kind_of_thing(work):
    matrix = dict(describe(work / "x.gctx"))
    assert matrix["format"] == "GCTX, float32"
    assert (matrix["profiles"], matrix["genes"]) == ("40", "12")
    assert matrix["missing values"] == "1 in 1 genes"
    assert matrix["constant genes"] == "1"
    assert matrix["gene identifiers"] == "symbol, probes"
    dataset = dict(describe(work / "data"))
    assert dataset["protocol"] == "strict"
    assert dataset["train"] == "32 profiles"
    assert dataset["landmarks"].startswith("3 (")
    model = dict(describe(work / "ridge"))
    assert model["kind"] == "ridge"
    assert model["targets"] == "8"
    assert dict(describe(work / "scores"))["models"] == "ridge"


def test_what_is_none_of_them(work):
    with pytest.raises(UsageError, match="no such file"):
        describe(work / "absent")
    (work / "folder").mkdir()
    with pytest.raises(DataError, match="neither"):
        describe(work / "folder")
    (work / "data" / "dataset.json").unlink()
    with pytest.raises(DataError, match="cut off"):
        describe(work / "data")


def test_an_evaluation_whose_summary_was_cut_off(work):
    summary = work / "scores" / "summary.tsv"
    whole = summary.read_bytes()
    head, first, second = whole.splitlines(keepends=True)
    for left in (head, head + first, head + first[: len(first) // 2], head + first + second[:20]):
        summary.write_bytes(left)
        with pytest.raises(DataError, match=r"summary\.tsv .*Evaluate again"):
            describe(work / "scores")
    summary.write_bytes(head + first)
    with pytest.raises(DataError, match="has no scores of ridge on test: it was cut off"):
        describe(work / "scores")
    summary.write_bytes(whole)
    assert dict(describe(work / "scores"))["sets"] == "validation, test"
