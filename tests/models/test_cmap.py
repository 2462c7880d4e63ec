"""CMap's weights: read, applied and written, against the formula in plain loops."""

import json

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.cli import run
from dgex.data.matrix import create_matrix
from dgex.errors import DataError, UsageError
from dgex.models.cmap import export_cmap, import_cmap

LANDMARKS = [f"20{i}814_at" for i in range(6)]


def write_weights(path, seed=0, intercept="OFFSET"):
    """Six landmarks to eleven targets; many predictions are below 0 or above 15."""
    rng = np.random.default_rng(seed)
    w_tc = rng.normal(size=(11, 7))
    w_tc[:, 0] *= 6
    columns = pd.DataFrame({"pr_gene_symbol": ["", *"ABCDEF"]}, index=[intercept, *LANDMARKS])
    rows = pd.DataFrame(index=[f"t{i}" for i in range(11)])
    with create_matrix(path, columns, rows) as matrix:
        matrix.write(w_tc.T)
    return w_tc


def formula(w_tc, x_nl):
    """Y = W · [1; X], clipped to 0 … 15, one number at a time."""
    y_nt = np.empty((len(x_nl), len(w_tc)))
    for i, profile in enumerate(x_nl):
        for t, weights in enumerate(w_tc):
            total = weights[0]
            for weight, value in zip(weights[1:], profile, strict=True):
                total += weight * value
            y_nt[i, t] = min(max(total, 0.0), 15.0)
    return y_nt


def plate_of(x_nl, ids=LANDMARKS):
    made = anndata.AnnData(np.asarray(x_nl, dtype=float), var=pd.DataFrame(index=list(ids)))
    made.obs_names = [f"s{i}" for i in range(len(x_nl))]
    return made


@pytest.fixture
def imported(tmp_path):
    w_tc = write_weights(tmp_path / "weights.gctx")
    return import_cmap(tmp_path / "weights.gctx", tmp_path / "cmap"), w_tc


@pytest.fixture
def x_nl():
    return np.random.default_rng(1).normal(8, 2, size=(30, 6))


def test_predictions_are_the_formula(imported, x_nl):
    bundle, w_tc = imported
    expected = formula(w_tc, x_nl)
    assert (expected == 0).any()
    assert (expected == 15).any()
    assert ((expected > 0) & (expected < 15)).any()
    np.testing.assert_allclose(bundle.predict(x_nl), expected, atol=1e-3)
    for n in (1, 30):  # neither few nor many profiles are standardised
        inferred = dgex.predict(bundle, plate_of(x_nl[:n]))
        np.testing.assert_allclose(inferred.X[:, :6], x_nl[:n], rtol=1e-6)
        np.testing.assert_allclose(inferred.X[:, 6:], expected[:n], atol=1e-3)
    assert inferred.uns["dgex"]["moments"] == "none"
    assert "Output units: log2 expression." in inferred.uns["dgex"]["notes"]


def test_landmarks_in_any_order_among_other_genes_by_symbol(imported, x_nl):
    bundle, w_tc = imported
    order = [4, 0, 5, 2, 1, 3]
    others = np.full((30, 40), 3.0)
    ids = ["ABCDEF"[i] for i in order] + [f"other{i}" for i in range(29)]
    ids += [f"t{i}" for i in range(11)]  # targets are inferred, also where they are measured
    plate = plate_of(np.hstack([x_nl[:, order], others]), ids)
    inferred = dgex.predict(bundle, plate, genes="targets")
    np.testing.assert_allclose(inferred.X, formula(w_tc, x_nl), atol=1e-3)


def test_linear_values_are_taken_as_log2(imported, x_nl):
    bundle, w_tc = imported
    inferred = dgex.predict(bundle, plate_of(2**x_nl - 1), genes="targets")
    np.testing.assert_allclose(inferred.X, formula(w_tc, x_nl), atol=1e-3)


def test_import_and_export_keep_the_weights(imported, tmp_path):
    bundle, w_tc = imported
    out = export_cmap(bundle.path, tmp_path / "again.gctx")
    with h5py.File(out) as file:
        # GCTX keeps a matrix by columns: intercept and landmarks are the rows here.
        written = file["/0/DATA/0/matrix"][:]
        assert [name.decode() for name in file["/0/META/COL/id"][:]] == ["intercept", *LANDMARKS]
        assert [name.decode() for name in file["/0/META/ROW/id"][:]] == [f"t{i}" for i in range(11)]
    np.testing.assert_allclose(written, w_tc.T, atol=1e-6)
    again = import_cmap(out, tmp_path / "again")
    pd.testing.assert_frame_equal(again.preprocessor.landmarks, bundle.preprocessor.landmarks)
    pd.testing.assert_frame_equal(again.preprocessor.targets, bundle.preprocessor.targets)
    for name, array in bundle.model.arrays().items():
        np.testing.assert_array_equal(again.model.arrays()[name], array)


@pytest.mark.parametrize(
    "options",
    [
        {"model": "ols"},
        {"model": "ridge", "target_range": "3:9"},
        {"model": "ols", "train_on": "all"},
    ],
)
def test_an_exported_model_infers_what_the_model_infers(tmp_path, options):
    rng = np.random.default_rng(2)
    x_ng = 8 + rng.normal(size=(60, 3)) @ rng.normal(size=(3, 20)) + rng.normal(size=(60, 20))
    dataset = dgex.prepare(
        plate_of(x_ng, [*LANDMARKS, *(f"h{i}" for i in range(14))]),
        tmp_path / "data",
        landmarks=LANDMARKS,
    )
    bundle = dgex.train(dataset, tmp_path / "model", **options)
    plate = plate_of(8 + rng.normal(size=(25, 6)))
    by_model = dgex.predict(bundle, plate, standardize="training", units="expression")
    export_cmap(bundle, tmp_path / "weights.gctx")
    with dgex.open_matrix(tmp_path / "weights.gctx") as matrix:
        w_tc = matrix.rows(0, 7).T
        assert list(matrix.var.index) == list(bundle.preprocessor.targets.index)
        assert list(matrix.obs.index[1:]) == LANDMARKS
    assert 0 < by_model.X[:, 6:].min() < by_model.X[:, 6:].max() < 15
    np.testing.assert_allclose(formula(w_tc, plate.X), by_model.X[:, 6:], atol=1e-3)
    as_cmap = import_cmap(tmp_path / "weights.gctx", tmp_path / "cmap")
    np.testing.assert_allclose(dgex.predict(as_cmap, plate).X, by_model.X, atol=1e-3)


def test_models_without_linear_weights_are_not_exported(make, tmp_path):
    dataset = make()
    mean = dgex.train(dataset, tmp_path / "mean", model="mean")
    with pytest.raises(UsageError, match="a model of kind mean, which has no linear weights"):
        export_cmap(mean.path, tmp_path / "w.gctx")
    ols = dgex.train(dataset, tmp_path / "ols", model="ols")
    with pytest.raises(UsageError, match=r"Name a \.gctx file"):
        export_cmap(ols.path, tmp_path / "w.gct")
    export_cmap(ols.path, tmp_path / "w.gctx")
    with pytest.raises(UsageError, match="exists already"):
        export_cmap(ols.path, tmp_path / "w.gctx")
    blind = type(ols.preprocessor)(
        ols.preprocessor.landmarks,
        ols.preprocessor.targets,
        np.empty(0),
        *(getattr(ols.preprocessor, name) for name in ("mean_g", "sd_g", "correlation_ll")),
    )
    object.__setattr__(ols, "preprocessor", blind)
    with pytest.raises(UsageError, match="moments are not known"):
        export_cmap(ols, tmp_path / "other.gctx")


def test_what_its_units_exclude_is_refused(imported, x_nl, make, tmp_path):
    bundle, _ = imported
    plate = plate_of(x_nl)
    for options, flag in (
        ({"units": "standardised"}, "--units standardised"),
        ({"standardize": "own"}, "--standardize"),
        ({"input": "whole"}, "--input whole"),
        ({"ties": "unique"}, "--ties"),
        ({"standardize_output": True}, "--standardize-output"),
    ):
        with pytest.raises(UsageError, match=f"{flag}: of no use to .* takes and gives log2"):
            dgex.predict(bundle, plate, **options)
    with pytest.raises(DataError, match=r"lacks 2 landmarks \(201814_at, 204814_at\)"):
        dgex.predict(bundle, plate[:, [0, 2, 3, 5]])
    holed = plate.copy()
    holed.X[3, 2] = np.nan
    with pytest.raises(DataError, match="lacks values"):
        dgex.predict(bundle, holed)
    with pytest.raises(UsageError, match="takes and gives log2 expression"):
        dgex.evaluate(make(), [bundle], tmp_path / "evaluation")
    with pytest.raises(UsageError, match="no such model"):
        dgex.train(make("other"), tmp_path / "m", model="cmap")
    with pytest.raises(UsageError, match="import-cmap"):
        bundle.model.fit(None, None)


def change(path, index, ids):
    with h5py.File(path, "r+") as file:
        del file[index]
        file[index] = np.array(ids, dtype="S")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda p: change(p, "/0/META/COL/id", [*LANDMARKS, "Intercept"]),
            r"the intercept \(Intercept\) must be the first column",
        ),
        (
            lambda p: change(p, "/0/META/ROW/id", ["offset", *(f"t{i}" for i in range(10))]),
            r"the intercept \(offset\) as a row; .* Transpose it",
        ),
        (lambda p: change(p, "/0/META/COL/id", ["c", *["g"] * 6]), "g"),
        (
            lambda p: change(p, "/0/META/COL/id", ["GSM1", *LANDMARKS]),
            "its first column, GSM1, is not called an intercept, .* name it intercept",
        ),
    ],
)
def test_what_is_no_matrix_of_weights(tmp_path, damage, message):
    write_weights(tmp_path / "w.gctx")
    damage(tmp_path / "w.gctx")
    with pytest.raises(DataError, match=message):
        import_cmap(tmp_path / "w.gctx", tmp_path / "cmap")
    assert [path.name for path in tmp_path.iterdir()] == ["w.gctx"]


@pytest.mark.parametrize("name", ["OFFSET", "intercept", "(Intercept)"])
def test_names_of_the_intercept(tmp_path, x_nl, name):
    w_tc = write_weights(tmp_path / "w.gctx", intercept=name)
    bundle = import_cmap(tmp_path / "w.gctx", tmp_path / "cmap")
    np.testing.assert_allclose(bundle.predict(x_nl), formula(w_tc, x_nl), atol=1e-3)


@pytest.mark.parametrize("value", [1e300, -1e31])
def test_values_that_are_no_weights(tmp_path, value):
    w_ct = np.ones((3, 2))
    w_ct[2, 1] = value
    columns, rows = pd.DataFrame(index=["OFFSET", "a", "b"]), pd.DataFrame(index=["s", "t"])
    with create_matrix(tmp_path / "w.gctx", columns, rows, dtype="float64") as matrix:
        matrix.write(w_ct)
    with pytest.raises(DataError, match=r"values beyond 1e\+30 for 1 targets \(t\)"):
        import_cmap(tmp_path / "w.gctx", tmp_path / "cmap")


def test_missing_weights_and_a_lone_column(tmp_path):
    w_tc = write_weights(tmp_path / "w.gctx")
    w_tc[4, 2] = np.nan
    with h5py.File(tmp_path / "w.gctx", "r+") as file:
        file["/0/DATA/0/matrix"][...] = w_tc.T
    with pytest.raises(DataError, match=r"lacks weights of 1 targets \(t4\)"):
        import_cmap(tmp_path / "w.gctx", tmp_path / "cmap")
    with create_matrix(
        tmp_path / "one.gctx", pd.DataFrame(index=["OFFSET"]), pd.DataFrame(index=["a", "b"])
    ) as matrix:
        matrix.write(np.ones((1, 2)))
    with pytest.raises(DataError, match="has one column"):
        import_cmap(tmp_path / "one.gctx", tmp_path / "cmap")
    with pytest.raises(DataError, match="does not exist"):
        import_cmap(tmp_path / "none.gctx", tmp_path / "cmap")


def test_on_the_command_line(tmp_path, monkeypatch, capsys, x_nl):
    monkeypatch.chdir(tmp_path)
    w_tc = write_weights(tmp_path / "w.gctx")
    plate_of(x_nl).write_h5ad("plate.h5ad")
    assert run(["import-cmap", "w.gctx", "--out", "cmap"]) == 0
    assert run(["import-cmap", "w.gctx", "--out", "cmap"]) == 2
    assert run(["import-cmap", "w.gctx", "--out", "cmap", "--overwrite"]) == 0
    assert run(["info", "cmap"]) == 0
    told = capsys.readouterr().out
    assert "log2 expression" in told
    assert "w.gctx" in told
    info = json.loads((tmp_path / "cmap" / "model.json").read_text())
    assert (info["kind"], info["units"]) == ("cmap", "expression")
    assert "CMap's linear model, read from `w.gctx`" in (tmp_path / "cmap/README.md").read_text()
    assert run(["predict", "cmap", "plate.h5ad", "--out", "y.gctx"]) == 0
    with dgex.open_matrix("y.gctx") as matrix:
        np.testing.assert_allclose(matrix.rows(0, 30)[:, 6:], formula(w_tc, x_nl), atol=1e-3)
    assert run(["export-cmap", "cmap", "--out", "back.gctx"]) == 0
    assert run(["export-cmap", "cmap", "--out", "back.gctx", "--overwrite"]) == 0
    with dgex.open_matrix("back.gctx") as matrix:
        np.testing.assert_allclose(matrix.rows(0, 7), w_tc.T, atol=1e-6)
