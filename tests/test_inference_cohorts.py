"""Inference by a Model for new cohorts: own moments, and what the file's landmarks say."""

from __future__ import annotations

import logging

import anndata
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex import inference
from dgex.errors import UsageError
from dgex.files import read_toml

LANDMARKS = [f"g{i}" for i in range(6)]


def profiles(n, seed, studies=0):
    rng = np.random.default_rng(seed)
    x_ng = 8 + rng.normal(size=(n, 3)) @ np.random.default_rng(1).normal(size=(3, 20))
    x_ng += 0.3 * rng.normal(size=(n, 20))
    obs = pd.DataFrame(index=[f"s{i}" for i in range(n)])
    if studies:
        obs["study"] = [f"study{i % studies}" for i in range(n)]
    return anndata.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(20)]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohorts")
    dgex.prepare(profiles(130, 0, 4), folder / "data", landmarks=LANDMARKS)
    return dgex.train(folder / "data", folder / "model", for_="new-cohorts")


def by_hand(model, landmarks, present_l):
    x_nl = np.zeros((landmarks.n_obs, 6))
    x_nl[:, present_l] = landmarks[:, np.array(LANDMARKS)[present_l]].X
    z_nl = ((x_nl - x_nl.mean(axis=0)) / (x_nl.std(axis=0) + 1e-3)).astype(np.float32)
    return model.for_cohort([z_nl], present_l).predict(z_nl)


@pytest.mark.parametrize("absent", [[], [3]])
def test_a_plate_is_inferred_as_by_hand(model, absent, caplog):
    present_l = ~np.isin(np.arange(6), absent)
    plate = profiles(60, 5)[:, np.array(LANDMARKS)[present_l]].copy()
    with caplog.at_level(logging.INFO):
        found = dgex.predict(model, plate)
    np.testing.assert_allclose(found.X[:, 6:], by_hand(model, plate, present_l), atol=1e-5)
    assert "by the file's own moments (--standardize): the Model is for new cohorts." in caplog.text
    assert "Adapted to these 60 profiles by their landmarks" in caplog.text
    assert found.uns["dgex"]["notes"][-1].startswith("Adapted to these 60 profiles")


def test_profiles_of_the_training_platform_too(model):
    found = dgex.predict(model, profiles(40, 6))
    assert found.uns["dgex"]["input"] == "whole"
    assert found.uns["dgex"]["moments"] == "own"


def test_few_profiles_are_warned_of_and_one_is_refused(model, caplog):
    with caplog.at_level(logging.INFO):
        found = dgex.predict(model, profiles(8, 7)[:, :6].copy())
    assert "8 profiles say little about their own moments" in caplog.text
    assert "8 profiles are too few to tell which training cohorts they are like" in caplog.text
    assert np.isfinite(found.X).all()
    with pytest.raises(UsageError, match="A Model for new cohorts needs at least 2 profiles"):
        dgex.predict(model, profiles(1, 7))
    with pytest.raises(UsageError, match="--standardize training: this Model is for new cohorts"):
        dgex.predict(model, profiles(40, 7), standardize="training")


def test_blocks_and_interruptions_make_no_difference(model, tmp_path, monkeypatch):
    plate = profiles(70, 8)[:, :6].copy()
    plate.write_h5ad(tmp_path / "plate.h5ad")
    source = tmp_path / "plate.h5ad"
    whole = dgex.predict(model, source)
    monkeypatch.setattr("dgex.data.incoming.MOST_ROWS", 16)
    blocks, output_blocks = [], inference._output_blocks

    def interrupted(*arguments):
        for block in output_blocks(*arguments):
            if len(blocks) == 3:
                raise KeyboardInterrupt
            blocks.append(block[0])
            yield block

    out = tmp_path / "out.gctx"
    monkeypatch.setattr(inference, "_output_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dgex.predict(model, source, out)
    assert blocks == [0, 16, 32]
    monkeypatch.setattr(inference, "_output_blocks", output_blocks)
    dgex.predict(model, source, out, resume=True)
    with dgex.open_matrix(out) as matrix:
        np.testing.assert_allclose(matrix.rows(0, 70), whole.X, atol=1e-5)
    resolved = read_toml(tmp_path / "out.gctx.run.toml")["resolved"]
    assert resolved["moments"] == "own"
    assert any("the Model is for new cohorts" in note for note in resolved["notes"])


def test_other_models_say_why_too(tmp_path, caplog):
    dataset = dgex.prepare(profiles(60, 0), tmp_path / "data", landmarks=LANDMARKS)
    ridge = dgex.train(dataset, tmp_path / "ridge", model="ridge")
    said = {
        "the training platform, as nearly all of its genes are there": profiles(30, 2),
        "fewer than 20 profiles": profiles(10, 2)[:, :6].copy(),
        "landmarks only": profiles(30, 2)[:, :6].copy(),
        "another platform": profiles(30, 2)[:, :18].copy(),
    }
    for why, given in said.items():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            dgex.predict(ridge, given)
        assert f"moments (--standardize): {why}." in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        dgex.predict(ridge, profiles(30, 2), standardize="own")
    assert "by the file's own moments (--standardize)." in caplog.text
