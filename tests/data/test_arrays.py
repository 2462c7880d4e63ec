"""D-GEX's intermediate arrays: what is copied, what a Model of them takes, what is refused."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.cli import run
from dgex.data import arrays
from dgex.errors import DataError, UsageError

N = {"bgedv2_{}_tr": 40, "bgedv2_{}_va": 12, "bgedv2_{}_te": 11, "1000G_{}": 9, "GTEx_{}": 8}
NAMES = ["train", "validation", "test", "1000g", "gtex"]
PARTS = ((0, 4), (4, 7))


@pytest.fixture
def made(tmp_path):
    """Folder of arrays of 5 landmarks and 7 targets, in two parts; and the arrays."""
    rng = np.random.default_rng(0)
    weight_lt = rng.normal(size=(5, 7))
    folder = tmp_path / "arrays"
    folder.mkdir()
    x, y = {}, {}
    for name, (stem, n) in zip(NAMES, N.items(), strict=True):
        x[name] = rng.normal(size=(n, 5))
        y[name] = x[name] @ weight_lt + 0.1 * rng.normal(size=(n, 7))
        np.save(folder / f"{stem.format('X')}_float64.npy", x[name])
        for start, stop in PARTS:
            np.save(
                folder / f"{stem.format('Y')}_{start}-{stop}_float64.npy", y[name][:, start:stop]
            )
    return folder, x, y


@pytest.mark.parametrize("whole", [False, True])
def test_every_set_is_copied(made, tmp_path, monkeypatch, whole):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 8 * 12 * 7)  # seven profiles a block
    folder, x, y = made
    if whole:
        for name, stem in zip(NAMES, N, strict=True):
            for start, stop in PARTS:
                (folder / f"{stem.format('Y')}_{start}-{stop}_float64.npy").unlink()
            np.save(folder / f"{stem.format('Y')}_float64.npy", np.asfortranarray(y[name]))
    dataset = dgex.prepare(folder, tmp_path / "data")
    assert (dataset.protocol, dataset.sets) == ("paper", NAMES)
    for name in NAMES:
        one = dataset[name]
        assert one.x_nl.dtype == one.y_nt.dtype == np.float32
        np.testing.assert_array_equal(one.x_nl, x[name].astype(np.float32))
        np.testing.assert_array_equal(one.y_nt, y[name].astype(np.float32))
        assert one.present_t.all()
        assert list(one.obs.index) == [f"{name}{i}" for i in range(1, len(x[name]) + 1)]
    assert list(dataset.landmarks.index) == [f"l000{i}" for i in range(1, 6)]
    assert list(dataset.targets.index) == [f"t000{i}" for i in range(1, 8)]
    np.testing.assert_allclose(
        dataset.preprocessor.correlation_ll, np.corrcoef(x["train"].T), atol=1e-6
    )
    assert not dataset.preprocessor.knows_expression


def test_what_is_not_standardised_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(arrays, "_BLOCK_BYTES", 8 * 12 * 7)  # seven profiles a block
    rng = np.random.default_rng(3)
    z_ng = rng.normal(size=(300, 12))
    z_ng = (z_ng - z_ng.mean(axis=0)) / z_ng.std(axis=0)
    folder = tmp_path / "arrays"
    folder.mkdir()

    def warnings_of(x_ng, name):
        for split in ("tr", "va", "te"):
            np.save(folder / f"bgedv2_X_{split}_float64.npy", x_ng[:, :5])
            np.save(folder / f"bgedv2_Y_{split}_float64.npy", x_ng[:, 5:])
        caplog.clear()
        dataset = dgex.prepare(folder, tmp_path / name, protocol="paper")
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert set(told) <= set(dataset.notes)
        return told

    assert warnings_of(z_ng, "good") == []
    # What is left of standardised profiles when some are taken away.
    assert warnings_of(z_ng[:240], "part") == []
    (told,) = warnings_of(8 + 3 * z_ng, "raw")
    assert "12 of 12 genes of" in told
    assert "means are 8 to 8, their standard deviations 3 to 3" in told
    some_ng = z_ng.copy()
    some_ng[:, 1], some_ng[:, 6], some_ng[:, 9] = z_ng[:, 1] - 2, 0.1 * z_ng[:, 6], 0.0
    constant, other = warnings_of(some_ng, "some")
    assert "1 genes of" in constant
    assert constant.endswith("have one value in all training profiles (t0005).")
    assert "2 of 12 genes of" in other
    assert "(l0002, t0002)" in other
    assert "means are -2 to 0, their standard deviations 0.1 to 1." in other


def test_the_protocol_is_told_where_it_is_not_the_one_asked_for(made, tmp_path, caplog):
    dgex.prepare(made[0], tmp_path / "strict")
    assert "the Dataset is of protocol paper, not strict. Pass --protocol paper" in caplog.text
    caplog.clear()
    assert dgex.prepare(made[0], tmp_path / "paper", protocol="paper").protocol == "paper"
    assert "not strict" not in caplog.text


def test_one_half_without_external_sets(made, tmp_path):
    folder, _, y = made
    for path in {*folder.glob("1000G*"), *folder.glob("GTEx*"), *folder.glob("*_0-4_*")}:
        path.unlink()
    dataset = dgex.prepare(folder, tmp_path / "data")
    assert dataset.sets == NAMES[:3]
    assert list(dataset.targets.index) == ["t0005", "t0006", "t0007"]
    np.testing.assert_array_equal(dataset["test"].y_nt, y["test"][:, 4:].astype(np.float32))


def test_names_from_the_maps_of_the_original(data_dir, tmp_path):
    folder = tmp_path / "arrays"
    folder.mkdir()
    for name in ("tr", "va", "te"):
        np.save(folder / f"bgedv2_X_{name}_float64.npy", np.eye(2, 943))
        np.save(folder / f"bgedv2_Y_{name}_float64.npy", np.eye(2, 9520))
    maps = data_dir / "dgex-layout"
    genes = {"landmarks": maps / "map_lm.txt", "targets": maps / "map_tg.txt"}
    dataset = dgex.prepare(folder, tmp_path / "data", **genes)
    symbols = pd.read_csv(maps / "map_lm.txt", sep="\t", header=None)[0]
    assert list(dataset.landmarks["symbol"]) == list(symbols)
    for name, role in (("Y", "targets"), ("X", "landmarks")):
        for split in ("tr", "va", "te"):
            np.save(folder / f"bgedv2_{name}_{split}_float64.npy", np.zeros((2, 9)))
        with pytest.raises(DataError, match=f"list of {role} names .* genes, .* has 9 columns"):
            dgex.prepare(folder, tmp_path / "other", **genes)


def test_a_model_of_them_takes_landmarks_only(made, tmp_path, caplog):
    folder, x, y = made
    dataset = dgex.prepare(folder, tmp_path / "data")
    bundle = dgex.train(dataset, tmp_path / "ols", model="ols", target_range="2:6")
    ids = list(dataset.landmarks.index) + list(dataset.targets.index)
    plate_nl = 7 + 2 * x["test"]
    plate = anndata.AnnData(plate_nl, var=pd.DataFrame(index=ids[:5]))
    inferred = dgex.predict(bundle, plate)  # fewer than 20 profiles: own moments all the same
    z_nl = (plate_nl - plate_nl.mean(axis=0)) / (plate_nl.std(axis=0) + 1e-3)
    np.testing.assert_allclose(inferred.X[:, :5], z_nl, atol=1e-5)
    np.testing.assert_allclose(
        inferred.X[:, 5:], bundle.predict(z_nl.astype(np.float32)), atol=1e-5
    )
    z_scores = anndata.AnnData(x["test"], var=pd.DataFrame(index=ids[:5]))
    with caplog.at_level(logging.INFO, "dgex"):
        as_they_are = dgex.predict(bundle, z_scores, standardize="training", genes="targets").X
    assert "Values are taken as the z-scores they are" in caplog.text
    assert np.abs(as_they_are - y["test"][:, 2:6]).mean() < 0.2
    everything = np.hstack([x["test"], y["test"]])
    whole = anndata.AnnData(everything, var=pd.DataFrame(index=ids))
    with pytest.raises(UsageError, match=r"has no quantile reference .* --input landmarks"):
        dgex.predict(bundle, whole)
    only = dgex.predict(bundle, whole, input="landmarks", standardize="training")
    np.testing.assert_allclose(only.X[:, 5:], as_they_are, atol=1e-5)
    with pytest.raises(UsageError, match="--units expression: this Model was trained on z-scores"):
        dgex.predict(bundle, plate, units="expression")


def test_from_arrays_to_the_seven_files_on_the_command_line(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["prepare", "arrays", "--out", "data"]) == 0
    net = ["--model", "dgex", "--hidden-units", "4", "--epochs", "2", "--select-on", "1000g"]
    files = ["--target-range", "4:7", "--dgex-files", "files/half", "--out", "net"]
    assert run(["train", "data", *net, *files]) == 0
    assert len(list((tmp_path / "files").iterdir())) == 7
    assert run(["evaluate", "data", "net", "--out", "evaluation"]) == 0
    table = pd.read_csv("evaluation/summary.tsv", sep="\t").set_index(["model", "set"])
    y_hat_nt = np.load("files/half_bestva_Y_te_hat.npy")
    error = np.abs(y_hat_nt - made[2]["test"][:, 4:]).mean()
    assert table.loc[("net", "test"), "mae"] == pytest.approx(error, rel=1e-5)
    assert table.loc[("net", "test"), "n_targets"] == 3


def rename(folder, old, new):
    (folder / old).rename(folder / new)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "bgedv2_X_va_float64.npy").unlink(), "lacks bgedv2_X_va_float64.npy"),
        (
            lambda f: [path.unlink() for path in f.glob("bgedv2_Y_te*")],
            "lacks bgedv2_Y_te_float64.npy .or parts",
        ),
        (lambda f: (f / "GTEx_X_float64.npy").unlink(), "lacks GTEx_X_float64.npy"),
        (
            lambda f: (f / "bgedv2_Y_tr_0-4_float64.npy").unlink(),
            "targets of bgedv2_X_va_float64.npy are 0:7, those of bgedv2_X_tr_float64.npy 4:7",
        ),
        (
            lambda f: np.save(f / "bgedv2_Y_tr_float64.npy", np.zeros((40, 7))),
            "and parts of it too",
        ),
        (lambda f: np.save(f / "GTEx_X_float64.npy", np.zeros((8, 6))), "has 6 landmarks"),
        (lambda f: np.save(f / "GTEx_X_float64.npy", np.zeros((7, 5))), "8 profiles, .* has 7"),
        (
            lambda f: np.save(f / "GTEx_Y_0-4_float64.npy", np.zeros((8, 3))),
            "has 3 targets, not 4 as its name says",
        ),
        (
            lambda f: (
                (f / "GTEx_Y_4-7_float64.npy").unlink(),
                np.save(f / "GTEx_Y_5-7_float64.npy", np.zeros((8, 2))),
            ),
            "begins at target 5, where target 4 should come",
        ),
        (
            lambda f: np.save(f / "GTEx_Y_4-8_float64.npy", np.zeros((8, 4))),
            "begins at target 4, where target 7 should come",
        ),
        (lambda f: np.save(f / "1000G_X_float64.npy", np.zeros((9, 5), "f4")), "holds float32"),
        (lambda f: np.save(f / "1000G_X_float64.npy", np.zeros((9, 5), int)), "holds int64"),
        (lambda f: np.save(f / "1000G_X_float64.npy", np.zeros(9)), r"shape \(9,\)"),
        (lambda f: np.save(f / "1000G_X_float64.npy", np.zeros((0, 5))), r"shape \(0, 5\)"),
        (
            lambda f: np.save(f / "1000G_X_float64.npy", np.array([[{}]]), allow_pickle=True),
            "not a whole npy file of numbers .a pickle",
        ),
        (lambda f: (f / "1000G_X_float64.npy").write_bytes(b"\x80\x04."), "not a whole npy file"),
        (lambda f: (f / "1000G_X_float64.npy").write_bytes(b""), "not a whole npy file"),
        (
            lambda f: (f / "1000G_X_float64.npy").write_bytes(
                (f / "bgedv2_X_tr_float64.npy").read_bytes()[:-8]
            ),
            "not a whole npy file",
        ),
        (
            lambda f: np.save(f / "1000G_X_float64.npy", np.full((9, 5), np.nan)),
            r"values that are not finite numbers up to 1e\+36 \(profile 0\)",
        ),
        (
            lambda f: np.save(f / "bgedv2_X_tr_float64.npy", np.full((40, 5), 1e300)),
            r"bgedv2_X_tr_float64\.npy has values that are not finite numbers up to 1e\+36",
        ),
        (
            lambda f: np.save(f / "bgedv2_X_tr_float64.npy", np.zeros((40, 5))),
            "Every landmark of .*arrays has one value in all training profiles",
        ),
        (
            lambda f: (
                np.save(f / "bgedv2_Y_tr_0-4_float64.npy", np.full((40, 4), 1.1)),
                np.save(f / "bgedv2_Y_tr_4-7_float64.npy", np.full((40, 3), -0.3)),
            ),
            "Every target of .*arrays has one value in all training profiles",
        ),
    ],
)
def test_what_is_no_whole_folder_is_refused(made, tmp_path, damage, message):
    folder, _, _ = made
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        dgex.prepare(folder, tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["arrays"]


def test_an_archive_and_a_folder_of_something_else(made, tmp_path):
    folder, x, _ = made
    np.savez(folder / "a.npz", x["1000g"])
    (folder / "a.npz").rename(folder / "1000G_X_float64.npy")
    with pytest.raises(DataError, match="an archive of arrays, not one"):
        dgex.prepare(folder, tmp_path / "data")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"lacks bgedv2_X_tr_float64\.npy"):
        dgex.prepare(tmp_path / "empty", tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 3, "group_by": "study"}, "--group-by, --seed: of no use for a folder of arrays"),
        ({"external": {"a": "x.tsv"}}, "--external: of no use for a folder of arrays"),
        ({"landmarks": "var:landmark"}, "var:landmark"),
    ],
)
def test_options_that_would_do_nothing_are_refused(made, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        dgex.prepare(made[0], tmp_path / "data", **options)
