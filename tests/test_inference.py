"""Inference against the same arithmetic done by hand, from files of every kind."""

from __future__ import annotations

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

import dgex
from dgex import inference
from dgex.errors import DataError, UsageError
from dgex.files import read_toml, whole_file
from dgex.models.bundle import Bundle


def gene(i):
    return f"ENSG{i:011d}"


LANDMARKS = [gene(i) for i in range(6)]


def make_profiles(n=70, g=25, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 2))
    x_ng = 8 + hidden @ rng.normal(size=(2, g)) + 0.2 * rng.normal(size=(n, g))
    obs = pd.DataFrame({"batch": ["b"] * n}, index=[f"s{i}" for i in range(n)])
    return anndata.AnnData(x_ng, obs=obs, var=pd.DataFrame(index=[gene(i) for i in range(g)]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    dataset = dgex.prepare(make_profiles(), folder / "data", landmarks=LANDMARKS)
    return dgex.train(dataset, folder / "ridge", model="ridge"), dataset


def test_profiles_of_the_training_platform_come_out_as_in_the_dataset(model):
    bundle, dataset = model
    everything = make_profiles()
    inferred = dgex.predict(bundle, everything)
    for name in ("train", "test"):
        part = dataset[name]
        rows = everything.obs.index.get_indexer(part.obs.index)
        np.testing.assert_allclose(inferred.X[rows, :6], part.x_nl, atol=1e-5)
        np.testing.assert_allclose(inferred.X[rows, 6:], bundle.predict(part.x_nl), atol=1e-5)
    assert inferred.uns["dgex"]["input"] == "whole"
    assert list(inferred.obs.index) == list(everything.obs.index)
    assert list(inferred.var["source"]) == ["measured"] * 6 + ["inferred"] * 19


def test_an_external_profile_is_ranked_among_unique_values_and_standardised_by_own_moments(model):
    bundle, _ = model
    other = make_profiles(n=30, seed=1)[:, :23].copy()
    other.X = np.round(2**other.X, 0)  # ties, linear, two genes absent
    inferred = dgex.predict(bundle, other)
    reference = bundle.preprocessor.reference_g
    expected = np.empty((30, 23))
    for row, values in enumerate(other.X):
        rank = rankdata(values, method="dense") / len(np.unique(values))
        expected[row] = reference[(rank * len(reference)).astype(int) - 1]
    z_nl = (expected - expected.mean(axis=0)) / (expected.std(axis=0) + 1e-3)
    np.testing.assert_allclose(inferred.X[:, :6], z_nl[:, :6], atol=1e-5)
    assert inferred.uns["dgex"]["moments"] == "own"


def test_landmark_only_profiles_by_own_and_by_training_moments(model):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)[:, :6].copy()
    x_nl = np.asarray(plate.X)
    own = dgex.predict(bundle, plate)
    expected = (x_nl - x_nl.mean(axis=0)) / (x_nl.std(axis=0) + 1e-3)
    np.testing.assert_allclose(own.X[:, :6], expected, atol=1e-5)
    np.testing.assert_allclose(own.X[:, 6:], bundle.predict(expected.astype("f4")), atol=1e-5)
    assert own.uns["dgex"]["input"] == "landmarks"
    training = dgex.predict(bundle, plate, standardize="training")
    p = bundle.preprocessor
    expected = (x_nl - p.mean_g[:6]) / (p.sd_g[:6] + 1e-3)
    np.testing.assert_allclose(training.X[:, :6], expected, atol=1e-5)
    linear = plate.copy()
    linear.X = 2 ** np.asarray(plate.X) - 1
    again = dgex.predict(bundle, linear, standardize="training")
    np.testing.assert_allclose(again.X, training.X, atol=1e-4)


def test_few_landmark_only_profiles_use_the_training_moments(model):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)[:, :6]
    assert dgex.predict(bundle, plate[:19]).uns["dgex"]["moments"] == "training"
    assert dgex.predict(bundle, plate[:20]).uns["dgex"]["moments"] == "own"
    with pytest.raises(UsageError, match="at least 2"):
        dgex.predict(bundle, plate[:1], standardize="own")


def test_absent_landmarks_are_inferred_or_set_to_the_mean(model):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)[:, [0, 1, 2, 4, 5]]
    mean = dgex.predict(bundle, plate, missing_landmarks="mean")
    assert np.all(mean.X[:, 3] == 0)
    assert mean.var["source"].iloc[3] == "filled"
    inferred = dgex.predict(bundle, plate)
    p = bundle.preprocessor
    known, one = [0, 1, 2, 4, 5], 3
    weights = np.linalg.solve(
        p.correlation_ll[np.ix_(known, known)] + np.eye(5), p.correlation_ll[known, one]
    )
    np.testing.assert_allclose(inferred.X[:, 3], inferred.X[:, known] @ weights, atol=1e-5)


def test_missing_values_become_the_mean_and_an_empty_profile_is_refused(model):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)[:, :6].copy()
    plate.X[3, 2] = np.nan
    inferred = dgex.predict(bundle, plate)
    assert inferred.X[3, 2] == 0
    assert any("1 missing" in note for note in inferred.uns["dgex"]["notes"])
    plate.X[5] = np.nan
    with pytest.raises(DataError, match="s5"):
        dgex.predict(bundle, plate)


@pytest.mark.parametrize("ending", ["gctx", "h5ad", "tsv.gz", "gct"])
def test_files_hold_what_the_anndata_holds(model, tmp_path, ending):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)[:, :6]
    expected = dgex.predict(bundle, plate, units="expression", genes="targets")
    out = dgex.predict(
        bundle.path, plate, tmp_path / f"y.{ending}", units="expression", genes="targets"
    )
    with dgex.open_matrix(out) as matrix:
        np.testing.assert_allclose(matrix.rows(0, 24), expected.X, rtol=1e-6)
        assert list(matrix.var.index) == list(expected.var.index)
        assert list(matrix.obs.index) == list(expected.obs.index)
    p = bundle.preprocessor
    z = dgex.predict(bundle, plate, genes="targets").X
    np.testing.assert_allclose(expected.X, z * (p.sd_g[6:] + 1e-3) + p.mean_g[6:], rtol=1e-5)
    assert (tmp_path / f"y.{ending}.run.toml").is_file()


def test_what_cannot_be_inferred_is_refused_and_nothing_is_left(model, tmp_path):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)
    stranger = plate[:, :6].copy()
    stranger.var_names = [f"other{i}" for i in range(6)]
    with pytest.raises(DataError, match="other0"):
        dgex.predict(bundle, stranger, tmp_path / "y.gctx")
    with pytest.raises(DataError, match="None of the 6 genes"):
        dgex.predict(bundle, plate[:, 6:], tmp_path / "y.gctx")
    with pytest.raises(UsageError, match="ties"):
        dgex.predict(bundle, plate[:, :6], tmp_path / "y.gctx", ties="unique")
    with pytest.raises(UsageError, match="xlsx"):
        dgex.predict(bundle, plate, tmp_path / "y.xlsx")
    with pytest.raises(UsageError, match="no such option"):
        dgex.predict(bundle, plate, tmp_path / "y.gctx", unit="z")
    assert list(tmp_path.iterdir()) == []


def test_a_real_plate_through_a_net_trained_on_real_arrays(data_dir, tmp_path):
    layout = data_dir / "dgex-layout"
    dataset = dgex.prepare(
        layout / "GEO_U133_QNORM_n586x22268.gctx",
        tmp_path / "geo",
        landmarks=layout / "map_lm.txt",
        targets=layout / "map_tg.txt",
        external={"1000g": layout / "LCL_GeneQuantTPM_n69.txt.gz"},
        protocol="paper",
    )
    assert dataset["1000g"].present_l.sum() == 923
    assert dataset["1000g"].present_t.sum() == 9133
    net = {"model": "dgex", "hidden_units": 50, "epochs": 2, "select_on": "1000g"}
    bundle = dgex.train(dataset, tmp_path / "net", **net)
    ols = dgex.train(dataset, tmp_path / "ols", model="ols")
    evaluation = dgex.evaluate(dataset, [bundle.path, ols.path], tmp_path / "evaluation")
    assert set(evaluation.summary["model"]) == {"net", "net@1000g", "ols"}
    assert (tmp_path / "evaluation" / "report.html").stat().st_size > 10_000
    plate = data_dir / "formats" / "LJP009_A375_24H_X1_B20_QNORM_n371x978.gct"
    out = dgex.predict(bundle.path, plate, tmp_path / "l1000.gctx")
    with dgex.open_matrix(out) as matrix, dgex.open_matrix(plate) as source:
        assert matrix.shape == (371, 943 + 9520)
        assert list(matrix.obs.index) == list(source.obs.index)
        assert (matrix.var["source"] == "filled").sum() == 0
        x_nl = matrix.rows(0, 371)[:, :943]
        np.testing.assert_allclose(x_nl.mean(axis=0), 0, atol=1e-4)
    assert Bundle.load(bundle.path, weights="1000g").weights == "1000g"


@pytest.mark.parametrize("ending", ["gctx", "h5ad"])
def test_an_interrupted_output_is_gone_on_with(model, tmp_path, monkeypatch, ending):
    bundle, _ = model
    monkeypatch.setattr("dgex.data.formats.reader.BLOCK_BYTES", 8 * 6 * 10)
    plate = tmp_path / "plate.h5ad"
    make_profiles(n=45, seed=2)[:, :6].copy().write_h5ad(plate)
    whole = dgex.predict(bundle.path, plate, tmp_path / f"whole.{ending}")
    out = tmp_path / f"y.{ending}"
    infer, calls = Bundle.load(bundle.path).model.predict, []

    def interrupted(self, x_nl, y_nt=None):
        calls.append(len(x_nl))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return infer(x_nl, y_nt)

    kind = type(bundle.model)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "predict", interrupted)
        with pytest.raises(KeyboardInterrupt):
            dgex.predict(bundle.path, plate, out)
    assert not out.exists()
    with pytest.raises(UsageError, match="another model, input or options"):
        dgex.predict(bundle.path, plate, out, resume=True, units="expression")
    rows = []
    with monkeypatch.context() as patch:
        patch.setattr(kind, "predict", lambda self, x, y: rows.append(len(x)) or infer(x, y))
        dgex.predict(bundle.path, plate, out, resume=True)
    assert rows == [10, 10, 5]
    with dgex.open_matrix(out) as matrix, dgex.open_matrix(whole) as expected:
        np.testing.assert_array_equal(matrix.rows(0, 45), expected.rows(0, 45))
        pd.testing.assert_frame_equal(matrix.var, expected.var)
    assert not list(tmp_path.glob("*.partial*"))
    with pytest.raises(UsageError, match="Nothing to go on with"):
        dgex.predict(bundle.path, plate, tmp_path / f"z.{ending}", resume=True)
    with pytest.raises(UsageError, match="GCTX and h5ad"):
        dgex.predict(bundle.path, plate, tmp_path / "z.tsv", resume=True)


def test_an_input_is_never_replaced(model, tmp_path):
    bundle, _ = model
    plate = tmp_path / "plate.h5ad"
    make_profiles(n=5).write_h5ad(plate)
    before = plate.read_bytes()
    with pytest.raises(UsageError, match="is to be read"):
        dgex.predict(bundle, plate, plate, overwrite=True)
    assert plate.read_bytes() == before


@pytest.mark.parametrize("rows", [0, 10])
def test_what_is_left_of_an_interrupted_output(model, tmp_path, monkeypatch, rows):
    """What has no rows yet is of no use to --resume; nothing has a run.toml before it is whole."""
    bundle, _ = model
    monkeypatch.setattr("dgex.data.formats.reader.BLOCK_BYTES", 8 * 6 * 10)
    infer = bundle.model.predict
    done = []

    def interrupted(self, x_nl, y_nt=None):
        if len(done) * 10 == rows:
            raise KeyboardInterrupt
        done.append(len(x_nl))
        return infer(x_nl, y_nt)

    monkeypatch.setattr(type(bundle.model), "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dgex.predict(bundle, make_profiles(n=45)[:, :6].copy(), tmp_path / "y.gctx")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == (["y.gctx.partial", "y.gctx.partial.json"] if rows else [])


def test_an_output_that_another_process_writes_is_left_to_it(model, tmp_path):
    bundle, _ = model
    partial = [tmp_path / "y.gctx.partial", tmp_path / "y.gctx.partial.json"]
    with whole_file(tmp_path / "y.gctx.run.toml") as run_partial:
        run_partial.touch()
        for path in partial:
            path.write_text("mine")
        with pytest.raises(UsageError, match="written by another dgex"):
            dgex.predict(bundle, make_profiles(n=5), tmp_path / "y.gctx", overwrite=True)
        assert [path.read_text() for path in partial] == ["mine", "mine"]


def test_run_toml_is_ready_when_the_profiles_are(model, tmp_path, monkeypatch):
    bundle, _ = model

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("dgex.inference.write_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dgex.predict(bundle, make_profiles(n=5), tmp_path / "y.tsv")
    assert list(tmp_path.iterdir()) == []


def test_profiles_of_the_training_platform_may_lack_a_few_genes(tmp_path):
    everything = make_profiles(n=80, g=150)
    everything.X = np.round(everything.X, 1)  # full of ties
    dataset = dgex.prepare(everything, tmp_path / "data", landmarks=LANDMARKS)
    bundle = dgex.train(dataset, tmp_path / "ridge", model="ridge")
    test = everything[dataset["test"].obs.index]
    whole = dgex.predict(bundle, test)
    less = dgex.predict(bundle, test[:, :149])
    assert less.uns["dgex"]["ties"] == "average"
    assert less.uns["dgex"]["moments"] == "training"
    assert np.abs(less.X - whole.X).mean() < 0.05
    few = dgex.predict(bundle, test[:, :130])
    assert (few.uns["dgex"]["ties"], few.uns["dgex"]["moments"]) == ("average", "training")
    other = dgex.predict(bundle, everything[:, :130])
    assert (other.uns["dgex"]["ties"], other.uns["dgex"]["moments"]) == ("unique", "own")


def test_few_landmarks_are_warned_of(model, caplog):
    bundle, _ = model
    plate = make_profiles(n=24, seed=2)
    dgex.predict(bundle, plate[:, :3])
    assert "landmarks are measured" not in caplog.text
    dgex.predict(bundle, plate[:, :2])
    assert "Only 2 of 6 landmarks are measured" in caplog.text


def test_inputs_are_named_with_their_fingerprints(model, tmp_path):
    bundle, dataset = model
    dgex.predict(bundle.path, make_profiles(n=24)[:, :6].copy(), tmp_path / "y.gctx")
    inputs = read_toml(tmp_path / "y.gctx.run.toml")["inputs"]
    assert inputs["model"] == {"name": str(bundle.path), "fingerprint": bundle.fingerprint}
    assert len(bundle.fingerprint) == 64
    dgex.evaluate(dataset, [bundle.path], tmp_path / "evaluation")
    inputs = read_toml(tmp_path / "evaluation/run.toml")["inputs"]
    assert inputs["dataset"]["fingerprint"] == dataset.fingerprint
    assert inputs["ridge"]["fingerprint"] == bundle.fingerprint


def test_what_simulated_profiles_taught_says_so(tmp_path):
    profiles = make_profiles()
    profiles.obs_names = [f"simulated-geo-{row}" for row in range(70)]
    dataset = dgex.prepare(profiles, tmp_path / "data", landmarks=LANDMARKS)
    bundle = dgex.train(dataset, tmp_path / "ridge", model="ridge")
    assert "trained on SIMULATED profiles" in (bundle.path / "README.md").read_text()
    plate = make_profiles(n=24, seed=2)[:, :6].copy()
    out = dgex.predict(bundle, plate, tmp_path / "y.gctx")
    with h5py.File(out) as file:
        assert file.attrs["simulated"] == "The Model was trained on simulated profiles."
    with dgex.open_matrix(out) as matrix:
        assert list(matrix.var["simulated"]) == [""] * 6 + [inference.SIMULATED_MODEL] * 19
    assert inference.SIMULATED_MODEL in (tmp_path / "y.gctx.run.toml").read_text()
    real = dgex.train(
        dgex.prepare(make_profiles(), tmp_path / "real", landmarks=LANDMARKS),
        tmp_path / "real-ridge",
        model="ridge",
    )
    assert "SIMULATED" not in (real.path / "README.md").read_text()
    dgex.predict(real, plate, tmp_path / "z.gctx")
    with h5py.File(tmp_path / "z.gctx") as file:
        assert "simulated" not in file.attrs


def test_a_net_in_bf16_is_as_good_and_is_recorded(model, tmp_path, monkeypatch):
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    _, dataset = model
    net = dgex.train(
        dataset,
        tmp_path / "net",
        model="dgex",
        hidden_layers=2,
        hidden_units=30,
        epochs=20,
        learning_rate=0.01,
        device="cpu",
    )
    plate = make_profiles(n=300, seed=2)
    error = {}
    for precision in ("float32", "bf16"):
        out = tmp_path / f"{precision}.gctx"
        dgex.predict(net, plate[:, :6], out, precision=precision, standardize="training")
        run = read_toml(tmp_path / f"{precision}.gctx.run.toml")
        assert run["options"]["precision"] == precision
        noted = any("products in bf16" in note for note in run["resolved"]["notes"])
        assert noted == (precision == "bf16")
        with dgex.open_matrix(out) as matrix:
            y_nt = matrix.rows(0, 300)[:, 6:]
        p = net.preprocessor
        z_nt = (np.asarray(plate.X)[:, 6:] - p.mean_g[6:]) / (p.sd_g[6:] + 1e-3)
        error[precision] = np.abs(y_nt - z_nt).mean()
    assert error["bf16"] != error["float32"]
    assert error["bf16"] == pytest.approx(error["float32"], rel=0.005)
    assert net.precision == "float32"  # the one given loaded is left as it was


def test_a_wide_block_holds_no_more_than_so_many_profiles(model, tmp_path, monkeypatch):
    bundle, _ = model
    monkeypatch.setattr("dgex.data.incoming.MOST_ROWS", 7)
    plate = make_profiles(n=45, seed=2)[:, :6].copy()
    rows, infer = [], bundle.model.predict
    with monkeypatch.context() as patch:
        record = lambda self, x, y: rows.append(len(x)) or infer(x, y)  # noqa: E731
        patch.setattr(type(bundle.model), "predict", record)
        in_parts = dgex.predict(bundle, plate).X
    assert rows == [7] * 6 + [3]
    monkeypatch.undo()
    np.testing.assert_allclose(in_parts, dgex.predict(bundle, plate).X, atol=1e-6)
