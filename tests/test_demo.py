"""The demo, with a smaller net."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest

from dgex import demo
from dgex.errors import UsageError
from dgex.evaluation.tables import Evaluation


def test_the_demo_runs_twice_and_is_honest_about_its_split(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "HIDDEN_UNITS", 50)
    monkeypatch.setattr(demo, "EPOCHS", 2)
    report, table = demo.run_demo(tmp_path / "demo")
    assert "http" not in report.read_text("utf-8").split("<body")[0]
    pd.testing.assert_frame_equal(Evaluation.load(tmp_path / "demo" / "evaluation").summary, table)
    scores = table.set_index(["model", "set"])["mae"]
    assert scores["ridge", "test"] < scores["ols", "test"]
    with h5py.File(tmp_path / "demo" / "test_inferred.gctx") as file:
        inferred = file["/0/DATA/0/matrix"][:]
        assert inferred.shape == (59, 12_500)
        assert np.isfinite(inferred).all()
        test_ids = {sample.decode() for sample in file["/0/META/COL/id"][:]}
    split = pd.read_csv(tmp_path / "demo" / "panel.split.tsv", sep="\t", index_col=0)["split"]
    assert test_ids == set(split.index[split == "test"])
    assert (
        len({sample[:12] for sample in test_ids} & {s[:12] for s in split.index[split == "train"]})
        == 0
    )
    demo.run_demo(tmp_path / "demo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    with pytest.raises(UsageError, match="dgex did not make"):
        demo.run_demo(tmp_path / "mine")
