"""The verb train: options at the door, and nothing half-written behind it."""

import errno
import logging

import numpy as np
import pytest

import dgex.progress
from dgex.config import TrainConfig
from dgex.data.dataset import Dataset
from dgex.errors import DataError, UsageError
from dgex.files import whole_directory
from dgex.models import bundle as bundle_module
from dgex.models.bundle import Bundle
from dgex.models.fit import train

NET = {"model": "dgex", "hidden_units": 5, "epochs": 4, "device": "cpu", "learning_rate": 0.05}


@pytest.mark.parametrize(
    "kind",
    [
        *("mean", "ols", "ridge", "lasso", "gene-knn", "sample-knn", "sample-lasso", "gbm"),
        *("dgex", "resnet", "taaf"),
    ],
)
def test_every_kind_from_a_path(dataset, tmp_path, kind):
    options = {**NET, "model": kind} if kind in ("dgex", "resnet", "taaf") else {"model": kind}
    bundle = train(str(dataset.path), str(tmp_path / "made" / "model"), **options)
    assert isinstance(bundle, Bundle)
    assert bundle.kind == kind == bundle.model.kind
    y_nt = bundle.predict(dataset["test"].x_nl)
    assert (y_nt.shape, y_nt.dtype) == ((21, 9), np.float32)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["model"]


def test_config_and_options_add_up(dataset, tmp_path):
    config = TrainConfig(model="ridge", penalties=(0.5, 1.0))
    assert train(dataset, tmp_path / "a", config, penalties=(2.0,)).model.penalty == 2.0
    assert train(dataset, tmp_path / "b", config).info["settings"]["penalties"] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "forest"}, "forest: no such model. Choose one of auto, mean, ols, ridge, lasso"),
        ({"hidden": 3}, "hidden: no such option"),
        ({"model": "ols", "epochs": 3}, "--epochs: of no use to the model ols"),
        ({"model": "ridge", "resume": True, "select_on": "gtex"}, "--select-on, --resume: of no"),
        ({**NET, "penalties": (1.0,)}, "--penalties: of no use to the model dgex"),
        ({**NET, "neighbours": (1,)}, "--neighbours: of no use to the model dgex"),
        (
            {"model": "gene-knn", "penalties": (1.0,)},
            "--penalties: of no use to the model gene-knn",
        ),
        ({"model": "lasso", "neighbours": (1,)}, "--neighbours: of no use to the model lasso"),
        ({"model": "lasso", "penalties": (0.0,)}, "--penalties: 0.0; they must be 1e-08 to 1e"),
        ({"model": "sample-knn", "penalties": (1.0,)}, "--penalties: of no use to the model s"),
        ({"model": "sample-lasso", "neighbours": (1,)}, "--neighbours: of no use to the model s"),
        ({"model": "gbm", "penalties": (1.0,)}, "--penalties: of no use to the model gbm"),
        ({"model": "gene-knn", "neighbours": ()}, "--neighbours: none; they must be at least 1"),
        ({"model": "gene-knn", "neighbours": (3, 0)}, "--neighbours: 0; they must be at least 1"),
        ({"model": "ridge", "penalties": ()}, "--penalties: none; they must be 1e-08"),
        (
            {"model": "ridge", "penalties": (0.1, 0.0, -1.0)},
            "--penalties: 0.0, -1.0; they must be 1e-08",
        ),
        (
            {"model": "ridge", "penalties": (float("nan"),)},
            "--penalties: nan; they must be 1e-08",
        ),
        ({**NET, "hidden_layers": 0}, "--hidden-layers is 0; it must be 1, 2 or 3"),
        ({**NET, "hidden_layers": 4}, "--hidden-layers is 4"),
        ({**NET, "hidden_units": 0}, "--hidden-units is 0; it must be at least 1"),
        (
            {**NET, "hidden_units": 10**12},
            "--hidden-units is 1000000000000; it must be at least 1 and below 1,000,001",
        ),
        ({**NET, "hidden_units": 2.5}, "--hidden-units 2.5: give a whole number"),
        ({**NET, "seed": 1.5}, "--seed 1.5: give a whole number"),
        ({"model": "ols", "seed": True}, "--seed True: give a whole number"),
        ({"model": "ols", "precision": "bf16"}, "--precision: of no use to the model ols"),
        ({**NET, "precision": "fp8"}, "fp8: no such precision. Choose one of auto, float32, bf16"),
        ({**NET, "epochs": 0}, "--epochs is 0; it must be at least 1"),
        ({**NET, "batch_size": 0}, "--batch-size is 0"),
        ({**NET, "monitor_profiles": 0}, "--monitor-profiles is 0"),
        ({**NET, "dropout": 1.0}, "--dropout is 1.0; it must be at least 0 and below 1"),
        ({**NET, "dropout": -0.1}, "--dropout is -0.1"),
        ({**NET, "momentum": 1.0}, "--momentum is 1.0"),
        (
            {"model": "kernel", "bandwidths": (1e300,)},
            "--bandwidths: .*; they must be 0.0001",
        ),
        (
            {"model": "kernel", "metric_powers": (-1.0, 1e300)},
            "--metric-powers: -1.0, .*; they must",
        ),
        ({"model": "kernel", "metric_powers": ()}, "--metric-powers: none; they must be 0 to 4"),
        ({"model": "ridge", "penalties": (1e-50, 1e40)}, "--penalties: 1e-50, .*; they must be"),
        ({**NET, "learning_rate": 0.0}, "--learning-rate is 0.0; it must be above 0"),
        ({**NET, "learning_rate": float("nan")}, "--learning-rate is nan"),
        ({**NET, "rate_decay": 1.5}, "--rate-decay is 1.5; it must be at most 1"),
        ({**NET, "seed": -1}, "--seed is -1"),
        ({**NET, "select_on": "1000g"}, "--select-on 1000g: no such external set; data has gtex"),
        ({**NET, "select_on": "test"}, "--select-on test: no such external set"),
        ({**NET, "device": "tpu"}, "tpu: no such device. Choose one of auto, cpu, cuda, mps"),
        ({**NET, "resume": True}, "no interrupted training"),
    ],
)
def test_options_are_checked_at_the_door(dataset, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        train(dataset, tmp_path / "out" / "model", **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_select_on_needs_a_measured_target(make, tmp_path):
    with pytest.raises(UsageError, match="none of the targets is measured there"):
        train(make(absent=tuple(range(9))), tmp_path / "model", **NET, select_on="gtex")
    without = make("plain", sizes={"train": 20, "validation": 5, "test": 5})
    with pytest.raises(UsageError, match="no such external set; plain has none"):
        train(without, tmp_path / "model", **NET, select_on="gtex")


@pytest.mark.parametrize("options", [{"model": "ols"}, NET])
def test_an_existing_output_is_refused_before_training(dataset, tmp_path, options, monkeypatch):
    out = tmp_path / "model"
    train(dataset, out, model="mean")
    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "__getitem__", lambda self, name: pytest.fail("data were read"))
        with pytest.raises(UsageError, match="exists already"):
            train(dataset, out, **options)
    assert Bundle.load(out).kind == "mean"
    assert train(dataset, out, **options, overwrite=True).kind == options["model"]


@pytest.mark.parametrize(
    "model",
    ["ridge", "lasso", "gene-knn", "sample-knn", "sample-lasso", "gbm", "dgex", "resnet"],
)
def test_no_validation_profiles(make, tmp_path, model):
    dataset = make(sizes={"train": 30, "validation": 0, "test": 5})
    with pytest.raises(DataError, match="no validation profiles"):
        train(dataset, tmp_path / "model", model=model)
    assert not list(tmp_path.glob("model*"))
    assert train(dataset, tmp_path / "model", model="ols").info["weights"]["validation"] == {
        "file": "weights.safetensors",
        "mae": None,
        "epoch": None,
    }


def test_a_net_too_large_for_memory_leaves_nothing(dataset, tmp_path):
    with pytest.raises(DataError, match="GB to be trained on this cpu"):
        train(dataset, tmp_path / "model", **{**NET, "hidden_units": 10**6, "hidden_layers": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("native", [True, False])
def test_the_precision_is_in_the_settings_and_on_the_card(dataset, tmp_path, monkeypatch, native):
    monkeypatch.setattr("dgex.models.device._seconds_ratio", lambda: 0.5)
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: native)
    bundle = train(dataset, tmp_path / "model", **NET)
    precision = "bf16" if native else "float32"
    assert bundle.info["settings"]["training_precision"] == precision
    card = (tmp_path / "model" / "README.md").read_text()
    assert f"- training_precision: {precision}\n" in card
    if not native:
        with pytest.raises(UsageError, match="no instructions for products in bf16"):
            train(dataset, tmp_path / "other", **NET, precision="bf16")
        assert not list(tmp_path.glob("other*"))


def test_divergence_leaves_nothing(dataset, tmp_path):
    with pytest.raises(DataError, match="diverged in epoch"):
        train(dataset, tmp_path / "model", **{**NET, "learning_rate": 1e6})
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("options", [{"model": "ols"}, {**NET, "epochs": 1}])
def test_a_full_disk_leaves_nothing(dataset, tmp_path, monkeypatch, options):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundle_module, "write_run", full)
    with pytest.raises(DataError, match="disk is full"):
        train(dataset, tmp_path / "model", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


class StopAfter:
    def __init__(self, epoch):
        self.epoch = epoch

    def update(self, what, done, total):
        if what == "training" and done == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def interrupt(dataset, tmp_path):
    """Start a training of tmp_path/model and stop it after some epochs."""

    def run(epoch, **options):
        dgex.progress.set_reporter(StopAfter(epoch))
        try:
            with pytest.raises(KeyboardInterrupt):
                train(dataset, tmp_path / "model", **{**NET, **options})
        finally:
            dgex.progress.set_reporter(None)

    return run


def test_an_interrupted_net_resumes(dataset, tmp_path, interrupt, caplog):
    straight = train(dataset, tmp_path / "straight", **NET)
    with caplog.at_level(logging.WARNING, "dgex"):
        interrupt(2)
    assert "model.partial keeps a checkpoint to go on from" in caplog.text
    assert not (tmp_path / "model").exists()
    with pytest.raises(UsageError, match="holds an interrupted training"):
        train(dataset, tmp_path / "model", **NET)
    resumed = train(dataset, tmp_path / "model", **NET, resume=True)
    for name, array in straight.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], array)
    assert not list(tmp_path.glob("*.partial"))
    assert not list((tmp_path / "model").glob("checkpoint*"))


def test_an_interrupted_net_can_be_started_again(dataset, tmp_path, interrupt):
    interrupt(2, hidden_units=6)
    with pytest.raises(UsageError, match="hidden_units is 6 there, 5 here"):
        train(dataset, tmp_path / "model", **NET, resume=True)
    again = train(dataset, tmp_path / "model", **NET, overwrite=True)
    assert again.info["settings"]["hidden_units"] == 5


def test_interrupted_in_the_first_epoch_leaves_nothing(tmp_path, interrupt):
    interrupt(0)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_training_under_way_is_left_to_its_process(dataset, tmp_path):
    out = tmp_path / "model"
    with whole_directory(out, keep_partial=True) as folder:
        (folder / "begun").touch()
        with pytest.raises(UsageError, match="written by another dgex"):
            train(dataset, out, **NET, overwrite=True)
        assert (folder / "begun").exists()


def test_a_net_that_is_worse_than_the_mean_is_kept_with_a_warning(dataset, tmp_path, caplog):
    train(dataset, tmp_path / "good", **NET)
    assert "worse on validation" not in caplog.text
    train(dataset, tmp_path / "bad", **{**NET, "epochs": 1, "learning_rate": 2.0})
    assert "worse on validation" in caplog.text
