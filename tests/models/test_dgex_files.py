"""The seven files of D-GEX: their names, their numbers, and what is refused before training."""

import errno

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from dgex.errors import DataError, UsageError
from dgex.models import dgex_files as module
from dgex.models.bundle import Bundle
from dgex.models.fit import train

SETS = {"train": 60, "validation": 13, "test": 11, "1000g": 9, "GTEX": 8}
NET = {
    "model": "dgex",
    "hidden_layers": 2,
    "hidden_units": 5,
    "epochs": 4,
    "learning_rate": 0.05,
    "device": "cpu",
    "select_on": "1000g",
}
ENDINGS = {
    ".log",
    "_bestva_model.safetensors",
    "_bestva_Y_va_hat.npy",
    "_bestva_Y_te_hat.npy",
    "_best1000G_model.safetensors",
    "_best1000G_Y_1000G_hat.npy",
    "_best1000G_Y_GTEx_hat.npy",
}


def forward(weights, x_nl):
    """The net written out: two tanh layers, a linear one."""
    hidden = x_nl.astype(float)
    for layer in ("hidden.0", "hidden.1"):
        hidden = np.tanh(hidden @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"])
    return hidden @ weights["output.weight"].T + weights["output.bias"]


@pytest.mark.parametrize("chosen", [None, "3:7"])
def test_the_seven_files(make, tmp_path, chosen):
    dataset = make(sizes=SETS)
    base = tmp_path / "made" / "9_H2_10"
    train(dataset, tmp_path / "net", **NET, dgex_files=base, target_range=chosen)
    assert {path.name for path in base.parent.iterdir()} == {base.name + end for end in ENDINGS}
    assert len({path.stat().st_mode for path in base.parent.iterdir()}) == 1
    targets = slice(3, 7) if chosen else slice(None)
    for prefix, weights, sets in (
        ("_bestva", "validation", {"va": "validation", "te": "test"}),
        ("_best1000G", "1000g", {"1000G": "1000g", "GTEx": "GTEX"}),
    ):
        arrays = load_file(f"{base}{prefix}_model.safetensors")
        kept = Bundle.load(tmp_path / "net", weights=weights)
        for name, array in kept.model.arrays().items():
            np.testing.assert_array_equal(arrays[name], array)
        for short, name in sets.items():
            y_nt = np.load(f"{base}{prefix}_Y_{short}_hat.npy", allow_pickle=False)
            assert y_nt.dtype == np.float64
            assert y_nt.shape == dataset[name].y_nt[:, targets].shape
            np.testing.assert_allclose(y_nt, forward(arrays, dataset[name].x_nl), atol=1e-5)
            error = np.abs(y_nt - dataset[name].y_nt[:, targets]).mean()
            if name == weights:
                assert error == pytest.approx(kept.info["weights"][name]["mae"], rel=1e-5)


def test_the_log_is_that_of_the_original(make, tmp_path):
    bundle = train(make(sizes=SETS), tmp_path / "net", **NET, dgex_files=tmp_path / "base")
    lines = (tmp_path / "base.log").read_text().splitlines()
    assert lines[0].split("\t") == [
        "epoch",
        *("MAE_va", "MAE_va_change", "MAE_te", "MAE_te_change"),
        *("MAE_1000G", "MAE_1000G_change", "MAE_GTEx", "MAE_GTEx_change"),
        *("MAE_tr", "MAE_tr_change", "learing_rate", "time(sec)"),
    ]
    log = bundle.training_log
    columns = ["validation", "test", "1000g", "GTEX", "train"]
    before = [10.0] * 5
    for epoch in range(4):
        found = lines[1 + epoch].split("\t")
        expected = [str(epoch + 1)]
        for i, name in enumerate(columns):
            mae = log[f"mae_{name}"][epoch]
            expected += ["%.6f" % mae, "%.6f" % ((mae - before[i]) / before[i])]  # noqa: UP031
            before[i] = mae
        rate, seconds = log["learning_rate"][epoch], log["seconds"][epoch]
        assert found == [*expected, f"{rate:.5f}", str(int(seconds))]
    assert lines[5:] == [
        f"MAE_va_best : {log['mae_validation'].min():.6f}",
        f"MAE_1000G_best : {log['mae_1000g'].min():.6f}",
    ]


def test_an_error_of_zero_has_no_change():
    columns = ("train", "validation", "test", "a", "b")
    log = pd.DataFrame({"epoch": [1, 2], "learning_rate": 1e-3, "seconds": 61.9})
    log = log.assign(**{f"mae_{name}": [0.0, 0.5] for name in columns})
    second = module.log_text(log, {"1000G": "a", "GTEx": "b"}).splitlines()[2].split("\t")
    assert second == ["2", *["0.500000", "nan"] * 5, "0.00100", "61"]


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({}, {}, "has no 1000g and no gtex"),
        ({"1000G": 5}, {"select_on": "1000G"}, "data has no gtex. Prepare it with --external"),
        ({"1000g": 5, "gtex": 5}, {"select_on": None}, "Pass --select-on 1000g"),
        ({"1000g": 5, "gtex": 5}, {"select_on": "gtex"}, "Pass --select-on 1000g"),
        ({"1000g": 5, "gtex": 5}, {"train_on": "all"}, "with --train-on all none is"),
        ({"1000g": 5, "gtex": 5}, {"dgex_files": "{out}/base"}, "outside of"),
        ({"1000g": 5, "gtex": 5}, {"dgex_files": "/"}, "beginning of the files' names"),
        (
            {"1000g": 5, "gtex": 5},
            {"dgex_files": "{out.parent}/data/"},
            r"is a folder. .*data/dgex",
        ),
        ({"1000g": 5, "gtex": 5}, {"dgex_files": "/proc/x"}, "/proc/x.log cannot be made"),
        ({"1000g": 5, "gtex": 5}, {"dgex_files": "{out.parent}/" + 220 * "n"}, "is too long"),
        ({"1000g": 5, "gtex": 5}, {"model": "ols"}, "--dgex-files: of no use to the model ols"),
    ],
)
def test_what_is_missing_is_said_before_training(
    make, tmp_path, monkeypatch, sizes, options, message
):
    dataset = make(sizes={"train": 20, "validation": 5, "test": 5, **sizes})
    monkeypatch.setattr("dgex.models.train.train_net", lambda *_: pytest.fail("was trained"))
    chosen = {**NET, "select_on": "1000g" if "1000g" in sizes else None, **options}
    base = str(chosen.pop("dgex_files", tmp_path / "base")).format(out=tmp_path / "net")
    if chosen["model"] == "ols":
        chosen = {"model": "ols"}
    with pytest.raises((UsageError, DataError), match=message):
        train(dataset, tmp_path / "net", **chosen, dgex_files=base)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_files_that_exist_are_kept(make, tmp_path):
    dataset = make(sizes=SETS)
    (tmp_path / "base_bestva_Y_te_hat.npy").write_text("mine")
    options = {**NET, "epochs": 1, "dgex_files": tmp_path / "base"}
    with pytest.raises(UsageError, match=r"base_bestva_Y_te_hat\.npy exists already"):
        train(dataset, tmp_path / "net", **options)
    assert (tmp_path / "base_bestva_Y_te_hat.npy").read_text() == "mine"
    train(dataset, tmp_path / "net", **options, overwrite=True)
    assert np.load(tmp_path / "base_bestva_Y_te_hat.npy").shape == (11, 9)


def test_a_full_disk_leaves_neither_model_nor_files(make, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write_inferred", full)
    with pytest.raises(DataError, match="disk is full"):
        train(make(sizes=SETS), tmp_path / "net", **{**NET, "epochs": 1}, dgex_files=tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
