"""Inferred genes standardised over the profiles of the file, as in D-GEX's L1000 file."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pytest

import dgex
from dgex.cli import run
from dgex.errors import UsageError

LANDMARKS = [f"g{i}" for i in range(6)]


def make_profiles(n=70, g=25, seed=0):
    rng = np.random.default_rng(seed)
    x_ng = 8 + rng.normal(size=(n, 2)) @ rng.normal(size=(2, g)) + 0.5 * rng.normal(size=(n, g))
    made = anndata.AnnData(x_ng)
    made.obs_names = [f"s{i}" for i in range(n)]
    made.var_names = [f"g{i}" for i in range(g)]
    return made


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    dataset = dgex.prepare(make_profiles(), folder / "data", landmarks=LANDMARKS)
    plain = dgex.train(dataset, folder / "plain", model="ridge", train_on="all")
    as_published = {"model": "ridge", "train_on": "all", "standardize_output": True}
    return plain, dgex.train(dataset, folder / "l1000", **as_published)


def test_a_plate_becomes_the_standardised_matrix_of_landmarks_and_targets(
    models, tmp_path, monkeypatch
):
    monkeypatch.setattr("dgex.data.formats.reader.BLOCK_BYTES", 8 * 6 * 10)
    plain, l1000 = models
    plate = make_profiles(n=47, seed=2)[:, :6].copy()
    raw = dgex.predict(plain, plate).X.astype(float)
    out = dgex.predict(l1000, plate, tmp_path / "y.gctx")
    with h5py.File(out) as file:
        written = file["/0/DATA/0/matrix"][:]
        ids = [name.decode() for name in file["/0/META/ROW/id"][:]]
    assert ids == [f"g{i}" for i in range(25)]
    np.testing.assert_allclose(written[:, :6], raw[:, :6], atol=1e-6)
    expected = (raw[:, 6:] - raw[:, 6:].mean(axis=0)) / raw[:, 6:].std(axis=0)
    np.testing.assert_allclose(written[:, 6:], expected, atol=1e-5)
    np.testing.assert_allclose(written[:, 6:].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(written[:, 6:].std(axis=0), 1, atol=1e-5)
    assert "--standardize-output" in (tmp_path / "y.gctx.run.toml").read_text()


def test_the_models_default_gives_way_to_the_option(models):
    plain, l1000 = models
    plate = make_profiles(n=30, seed=2)[:, :6]
    assert (plain.standardizes_output, l1000.standardizes_output) == (False, True)
    np.testing.assert_array_equal(
        dgex.predict(plain, plate, standardize_output=True).X, dgex.predict(l1000, plate).X
    )
    np.testing.assert_array_equal(
        dgex.predict(l1000, plate, standardize_output=False).X, dgex.predict(plain, plate).X
    )


def test_a_gene_inferred_as_one_value_stays_at_zero(models, tmp_path):
    plain, _ = models
    dataset = dgex.Dataset(plain.path.parent / "data")
    mean = dgex.train(dataset, tmp_path / "mean", model="mean", standardize_output=True)
    assert not dgex.predict(mean, make_profiles(n=30)[:, :6], genes="targets").X.any()


def test_what_excludes_it_is_refused(models):
    _, l1000 = models
    plate = make_profiles(n=30, seed=2)[:, :6]
    with pytest.raises(UsageError, match="--units expression and --standardize-output exclude"):
        dgex.predict(l1000, plate, units="expression")
    with pytest.raises(UsageError, match="--standardize-output needs at least 2 profiles"):
        dgex.predict(l1000, plate[:1])
    assert dgex.predict(l1000, plate[:1], standardize_output=False).shape == (1, 25)


def test_an_interrupted_output_goes_on_with_the_same_moments(models, tmp_path, monkeypatch):
    monkeypatch.setattr("dgex.data.formats.reader.BLOCK_BYTES", 8 * 6 * 10)
    _, l1000 = models
    plate = tmp_path / "plate.h5ad"
    make_profiles(n=45, seed=2)[:, :6].copy().write_h5ad(plate)
    whole = dgex.predict(l1000, plate, tmp_path / "whole.gctx")
    infer, calls = l1000.model.predict, []

    def interrupted(self, x_nl, y_nt=None):
        calls.append(len(x_nl))
        if len(calls) == 8:  # the first pass takes five
            raise KeyboardInterrupt
        return infer(x_nl, y_nt)

    with monkeypatch.context() as patch:
        patch.setattr(type(l1000.model), "predict", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dgex.predict(l1000, plate, tmp_path / "y.gctx")
    dgex.predict(l1000, plate, tmp_path / "y.gctx", resume=True)
    with dgex.open_matrix(whole) as expected, dgex.open_matrix(tmp_path / "y.gctx") as found:
        np.testing.assert_array_equal(found.rows(0, 45), expected.rows(0, 45))


def test_on_the_command_line(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain, _ = models
    data = str(plain.path.parent / "data")
    make_profiles(n=30, seed=2)[:, :6].copy().write_h5ad("plate.h5ad")
    options = ["--model", "ridge", "--train-on", "all", "--standardize-output"]
    assert run(["train", data, *options, "--target-range", "3:9", "--out", "m"]) == 0
    assert run(["predict", "m", "plate.h5ad", "--out", "y.gctx"]) == 0
    assert run(["predict", "m", "plate.h5ad", "--no-standardize-output", "--out", "z.gctx"]) == 0
    with dgex.open_matrix("y.gctx") as matrix, dgex.open_matrix("z.gctx") as other:
        assert matrix.shape == (30, 12)
        np.testing.assert_allclose(matrix.rows(0, 30)[:, 6:].std(axis=0), 1, atol=1e-5)
        assert not np.allclose(other.rows(0, 30)[:, 6:].std(axis=0), 1, atol=1e-2)
