"""The best Model within a budget: what is tried, what is kept, and what is said of it."""

import logging
import math

import numpy as np
import pandas as pd
import pytest

import dgex.progress
from dgex.config import TrainConfig, net_options
from dgex.data.view import TrainingView, join_splits
from dgex.errors import DataError, DivergedError, UsageError
from dgex.models import auto as module
from dgex.models import kernel as kernel_module
from dgex.models.auto import Auto, seconds_of
from dgex.models.base import set_mae
from dgex.models.bundle import TRIED_FILE, Bundle
from dgex.models.calibrate import calibrate
from dgex.models.ensemble import Ensemble
from dgex.models.fit import train
from dgex.models.kernel import Kernel
from dgex.models.linear import Ridge
from dgex.models.net_model import ResNetModel

COLUMNS = ["model", "seconds", "mae_validation", "weight", "note"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Nets of few units and epochs, two of them."""

    def few(config, n_train):
        given = config.epochs or 3
        options = {"epochs": given, "hidden_units": 8, "batch_size": 20}
        return net_options(TrainConfig(**vars(config) | options), n_train)

    monkeypatch.setattr(module, "net_options", few)
    monkeypatch.setattr(module, "NETS", 2)


def view(dataset):
    return TrainingView(dataset, slice(0, len(dataset.targets)))


def joined_view(dataset, tmp_path):
    folder = join_splits(dataset, tmp_path / "joined", ("train", "validation"))
    return view(dataset).joined(folder)


def chosen(dataset, **options):
    auto = Auto(view(dataset), TrainConfig(model="auto", device="cpu", **options))
    return auto, auto.choose()


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("60s", 60), ("10min", 600), ("2h", 7200), ("0.5min", 30), (" 5s ", 5), ("3.s", 3)],
)
def test_seconds_of_a_budget(budget, seconds):
    assert seconds_of(budget) == seconds


def test_no_budget_is_no_limit():
    assert seconds_of(None) == math.inf


@pytest.mark.parametrize(
    "budget",
    ["5", "0s", "0.0min", "", "s", "-5s", "1e3s", "5 s", "5m", "5S", "infs", "1,5s", "5ss"],
)
def test_other_budgets_are_refused_before_anything_is_read(budget, tmp_path):
    with pytest.raises(UsageError, match="give a time such as 60s, 10min or 2h"):
        seconds_of(budget)
    with pytest.raises(UsageError, match="--budget"):
        train("no-such-dataset", tmp_path / "out", model="auto", budget=budget)


def test_everything_is_tried_in_order_and_the_chosen_is_no_worse_than_any(dataset):
    auto, model = chosen(dataset)
    tried = auto.tried
    assert list(tried.columns) == COLUMNS
    assert list(tried["model"]) == [
        *("ridge", "kernel", "kernel, calibrated", "resnet", "resnet 2", "all of these")
    ]
    assert list(tried["note"][3:5]) == ["3 epochs", "3 epochs"]
    assert (tried["seconds"] >= 0).all()
    mae = set_mae(model.predict, dataset["validation"])
    assert mae <= tried["mae_validation"].min() + 1e-6
    assert tried["mae_validation"].iloc[-1] == pytest.approx(mae)
    assert isinstance(model, Ensemble)
    assert tried["weight"].iloc[:-1].sum() == pytest.approx(1.0, abs=0.01)
    # What each scored is what it scores when trained by itself.
    ridge = Ridge()
    ridge.fit(dataset, TrainConfig(model="ridge"))
    alone = set_mae(ridge.predict, dataset["validation"])
    assert tried["mae_validation"].iloc[0] == pytest.approx(alone)
    kernel = Kernel()
    kernel.fit(dataset, TrainConfig(model="kernel", device="cpu"))
    alone = set_mae(kernel.predict, dataset["validation"])
    assert tried["mae_validation"].iloc[1] == pytest.approx(alone)
    calibration = calibrate(kernel.left_out_guesses(dataset), dataset["train"].y_nt)
    alone = set_mae(lambda x_bl: calibration(kernel.predict(x_bl)), dataset["validation"])
    assert tried["mae_validation"].iloc[2] == pytest.approx(alone)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [5, 8, 15, 30])
def test_tiny_datasets(make, n, seed):
    dataset = make(sizes={"train": n, "validation": 3, "test": 4}, seed=seed)
    auto, model = chosen(dataset)
    mae = set_mae(model.predict, dataset["validation"])
    assert mae <= auto.tried["mae_validation"].min() + 1e-6
    assert np.isfinite(model.predict(dataset["test"].x_nl)).all()


def test_one_target(make):
    dataset = make(targets=1, absent=(), sizes={"train": 30, "validation": 9, "test": 4})
    auto, model = chosen(dataset)
    assert model.predict(dataset["test"].x_nl).shape == (4, 1)
    mae = set_mae(model.predict, dataset["validation"])
    assert mae <= auto.tried["mae_validation"].min() + 1e-6


def test_members_with_little_weight_are_left_out(dataset, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WEIGHT", 0.4)
    auto, model = chosen(dataset)
    tried = auto.tried.set_index("model")
    left_out = tried["weight"] == 0
    assert left_out.any()
    kept = model.names if isinstance(model, Ensemble) else [model.kind]
    assert kept == list(tried.index[tried["weight"] > 0])
    assert tried["mae_validation"].idxmin() in [*kept, "all of these"]
    mae = set_mae(model.predict, dataset["validation"])
    assert mae <= tried["mae_validation"].min() + 1e-6


def test_the_best_member_stays_whatever_its_weight(dataset, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WEIGHT", 2.0)
    auto, model = chosen(dataset)
    tried = auto.tried.set_index("model")
    assert (tried["weight"] == 1).sum() == 1
    best = tried["mae_validation"].idxmin()
    assert best in (tried["weight"].idxmax(), "all of these")
    mae = set_mae(model.predict, dataset["validation"])
    assert mae == pytest.approx(tried["mae_validation"].min(), rel=1e-5)


def test_a_model_that_is_best_alone_is_returned_as_such(make, monkeypatch):
    monkeypatch.setattr(module, "LEAST_SHARE", 2.0)
    monkeypatch.setattr(Kernel, "least_seconds", staticmethod(lambda *args: 1e9))
    auto, model = chosen(make(), budget="50s")
    assert isinstance(model, Ridge)
    tried = auto.tried.set_index("model")
    assert list(tried.index) == ["ridge", "kernel", "resnet"]
    assert tried["note"]["kernel"].startswith("left out: it needs at least 1000000000 s, ")
    assert tried["note"]["resnet"].startswith("left out: ")
    assert list(tried["weight"]) == [1.0, 0.0, 0.0]
    assert tried["mae_validation"].isna().tolist() == [False, True, True]


def test_a_short_budget_still_gives_a_model_and_says_what_was_left_out(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "dgex"):
        bundle = train(dataset, tmp_path / "out", model="auto", budget="0.01s", device="cpu")
    assert bundle.kind == "ridge"
    tried = pd.read_csv(tmp_path / "out" / TRIED_FILE, sep="\t").set_index("model")
    assert tried["note"]["kernel"].startswith("left out")
    assert tried["note"]["resnet"].startswith("left out")
    assert "kernel: left out: it needs at least" in caplog.text


def test_nets_get_the_epochs_for_which_there_is_time(dataset, monkeypatch):
    clock = [0.0]
    trained = []

    def fit(self, dataset, config, folder=None):
        trained.append(config.epochs)
        clock[0] += config.epochs * 10.0 + (100.0 if len(trained) == 1 else 0.0)
        ridge = Ridge()
        ridge.fit(dataset, TrainConfig(model="ridge"))
        self._predict_block = ridge._predict_block
        self._n_genes = ridge.n_landmarks, ridge.n_targets

    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(ResNetModel, "fit", fit)

    def tried(seconds, epochs=40):
        clock[0] = 0.0
        trained.clear()
        # One part in twenty is kept for writing.
        options = {"device": "cpu", "budget": f"{seconds / 0.95:.6f}s", "epochs": epochs}
        auto = Auto(view(dataset), TrainConfig(model="auto", train_on="train", **options))
        auto.choose()
        return auto.tried.set_index("model")["note"]

    # The first net takes 100 s more: the second trial shows that epochs take 10 s.
    note = tried(2000)
    assert trained == [1, 1, 40, 40]
    assert list(note[["resnet", "resnet 2"]]) == ["40 epochs", "40 epochs"]
    note = tried(1250)
    assert trained == [1, 1, 40, 40]
    assert note["resnet 2"] == "40 epochs"
    # Another net would not be ready in time.
    note = tried(1300, epochs=70)
    assert trained == [1, 1, 70]
    assert "resnet 2" not in note
    note = tried(1300, epochs=200)
    assert trained == [1, 1, 106]
    assert note["resnet"] == "106 epochs"
    note = tried(1300, epochs=500)
    assert trained == [1, 1]
    assert note["resnet"] == "left out: an epoch takes 10.0 s, 1180 s are left for 500"
    # A second trial could take too much of the time left.
    note = tried(400)
    assert trained == [1]
    assert note["resnet"] == "left out: an epoch takes 110.0 s, 290 s are left for 40"


def test_learns_from_validation_too_in_the_end(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LEAST_WEIGHT", 0.0)
    auto, of_train = chosen(dataset)
    bundle = train(dataset, tmp_path / "out", model="auto", device="cpu")
    assert bundle.kind == "ensemble"
    assert (bundle.info["n_train"], bundle.info["train_on"]) == (114, "train+validation")
    assert bundle.info["weights"]["validation"]["mae"] is None
    ensemble = bundle.model
    np.testing.assert_array_equal(ensemble.weight_mt, of_train.weight_mt)
    assert ensemble.names == of_train.names
    joined = train(dataset, tmp_path / "ridge", model="ridge", train_on="train+validation")
    x_nl = dataset["test"].x_nl
    ridge = ensemble.members[ensemble.names.index("ridge")]
    np.testing.assert_allclose(ridge.predict(x_nl), joined.predict(x_nl), atol=1e-5)
    for before, after in zip(of_train.members, ensemble.members, strict=True):
        assert np.abs(before.predict(x_nl) - after.predict(x_nl)).max() > 1e-4
    assert not (tmp_path / "out" / "joined").exists()
    tried = pd.read_csv(tmp_path / "out" / TRIED_FILE, sep="\t")
    pd.testing.assert_frame_equal(
        tried.drop(columns="seconds").fillna({"note": ""}),
        auto.tried.drop(columns="seconds"),
        check_exact=False,
    )


def test_the_calibration_is_learned_again_too(make, tmp_path):
    dataset = make(sizes={"train": 200, "validation": 100, "test": 21})
    auto = Auto(view(dataset), TrainConfig(model="auto", device="cpu"))
    ensemble = Ensemble()
    for number in range(2):
        kernel = Kernel()
        kernel.fit(dataset, TrainConfig(model="kernel", device="cpu"))
        learned = calibrate(kernel.left_out_guesses(dataset), dataset["train"].y_nt)
        ensemble.add(str(number), kernel, learned if number else None)
    ensemble.weigh(dataset, seed=0)
    joined = joined_view(dataset, tmp_path)
    auto.refit(ensemble, joined)
    kernel.refit(joined)
    expected = calibrate(kernel.left_out_guesses(joined), joined["train"].y_nt)
    none, found = ensemble.calibrations
    assert none is None
    np.testing.assert_allclose(found.added_kt, expected.added_kt, atol=1e-5)
    assert (len(learned.guess_kt), len(found.guess_kt)) == (3, 5)


def test_train_on_train_keeps_what_was_chosen(dataset, tmp_path):
    _, model = chosen(dataset, train_on="train")
    bundle = train(dataset, tmp_path / "out", model="auto", device="cpu", train_on="train")
    x_nl = dataset["test"].x_nl
    np.testing.assert_allclose(bundle.predict(x_nl), model.predict(x_nl), atol=1e-6)
    assert bundle.info["n_train"] == 90
    mae = bundle.info["weights"]["validation"]["mae"]
    assert mae == pytest.approx(set_mae(bundle.predict, dataset["validation"]), rel=1e-5)


def test_a_net_without_time_to_learn_again_stays(dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "LEAST_WEIGHT", 0.0)
    auto, model = chosen(dataset, budget="1000s")
    net = model.members[model.names.index("resnet")]
    x_nl = dataset["test"].x_nl
    before_nt = net.predict(x_nl)
    joined = joined_view(dataset, tmp_path)
    auto._deadline = 0.0
    with caplog.at_level(logging.INFO, "dgex"):
        auto.refit(model, joined)
    why = "no time to learn again from 114 profiles"
    assert f"resnet: {why}" in caplog.text
    np.testing.assert_array_equal(net.predict(x_nl), before_nt)
    notes = auto.tried.set_index("model")["note"]
    assert notes["resnet"].endswith(f" epochs, {why}")
    assert notes["kernel, calibrated" if "kernel, calibrated" in model.names else "kernel"] == why
    assert notes["ridge"] == ""


def test_the_same_seed_gives_the_same_model(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_module, "CHOICE_TRAIN", 40)
    x_nl = dataset["test"].x_nl
    first, second, other = (
        train(dataset, tmp_path / name, model="auto", device="cpu", seed=seed).predict(x_nl)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-4


def test_more_profiles_than_a_left_out_guess_is_made_for(dataset, monkeypatch):
    monkeypatch.setattr(kernel_module, "EIGEN_PROFILES", 50)
    auto, model = chosen(dataset, budget="500s")
    assert "kernel, calibrated" not in list(auto.tried["model"])
    assert model.calibrations == [None] * len(model.members)
    # Time to solve again is kept, as much as it all took.
    assert auto._kernel_seconds == pytest.approx(auto.tried["seconds"][1], abs=0.3)


def test_a_net_that_diverges_is_left_out(dataset, tmp_path, monkeypatch):
    def diverge(self, dataset, config, folder=None):
        raise DivergedError("the loss is no longer a number")

    monkeypatch.setattr(ResNetModel, "fit", diverge)
    bundle = train(dataset, tmp_path / "model", model="auto")
    notes = bundle.tried.set_index("model")["note"]
    assert notes["resnet"] == "left out: its training diverged"
    assert not any("resnet" in one["name"] for one in bundle.info["settings"]["members"])


def test_a_net_that_diverges_when_it_learns_again_stays(dataset, tmp_path, monkeypatch, caplog):
    fit = ResNetModel.fit

    def diverge_later(self, dataset, config, folder=None):
        if config.train_on != "train":
            raise DivergedError("the loss is no longer a number")
        fit(self, dataset, config, folder)

    monkeypatch.setattr(module, "LEAST_WEIGHT", 0.0)
    monkeypatch.setattr(ResNetModel, "fit", diverge_later)
    bundle = train(dataset, tmp_path / "model", model="auto")
    assert "learning again diverged" in caplog.text
    assert "learning again diverged" in bundle.tried.set_index("model")["note"]["resnet"]
    assert any("resnet" in one["name"] for one in bundle.info["settings"]["members"])


def test_needs_validation_profiles(make, tmp_path):
    dataset = make(sizes={"train": 30, "validation": 0, "test": 5})
    with pytest.raises(DataError, match="no validation profiles to choose on"):
        train(dataset, tmp_path / "out", model="auto")
    assert not list(tmp_path.glob("out*"))


def test_a_folder_holds_what_was_made(dataset, tmp_path):
    bundle = train(
        dataset, tmp_path / "out", model="auto", device="cpu", train_on="all", target_range="0:3"
    )
    assert (bundle.info["n_train"], bundle.info["n_targets"]) == (135, 3)
    assert bundle.trained_on_all
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("README.md", "model.json", "preprocessing", "run.toml", TRIED_FILE),
        "weights.safetensors",
    }
    again = Bundle.load(tmp_path / "out")
    x_nl = dataset["test"].x_nl
    np.testing.assert_array_equal(again.predict(x_nl), bundle.predict(x_nl))


class StopAt:
    """Interrupts after some epochs, counted over all nets."""

    def __init__(self, epochs):
        self.left = epochs

    def update(self, what, done, total):
        self.left -= what == "training"
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epochs", [2, 4, 6, 8])
def test_an_interrupted_auto_goes_on_with_the_nets_it_has(
    dataset, tmp_path, monkeypatch, caplog, epochs
):
    monkeypatch.setattr(module, "LEAST_WEIGHT", 0.0)
    options = {"model": "auto", "device": "cpu"}
    straight = train(dataset, tmp_path / "straight", **options)
    dgex.progress.set_reporter(StopAt(epochs))
    try:
        with pytest.raises(KeyboardInterrupt):
            train(dataset, tmp_path / "out", **options)
    finally:
        dgex.progress.set_reporter(None)
    assert not (tmp_path / "out").exists()
    assert "keeps the nets to go on from" in caplog.text
    with pytest.raises(UsageError, match="holds an interrupted training"):
        train(dataset, tmp_path / "out", **options)
    with pytest.raises(UsageError, match="within --budget begins anew"):
        train(dataset, tmp_path / "out", **options, resume=True, budget="60s")
    with monkeypatch.context() as patch:
        patch.setattr(Auto, "_try_ridge", None)  # refused before anything is learned
        with pytest.raises(UsageError, match="holds another training: seed is 0 there, 1 here"):
            train(dataset, tmp_path / "out", **options, resume=True, seed=1)
    resumed = train(dataset, tmp_path / "out", **options, resume=True)
    for name, array in straight.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], array)
    assert not list(tmp_path.glob("*.partial"))
    assert not (tmp_path / "out" / "nets").exists()


def test_nothing_to_resume(dataset, tmp_path):
    with pytest.raises(UsageError, match="There is no interrupted training"):
        train(dataset, tmp_path / "out", model="auto", resume=True)
    assert not list(tmp_path.glob("out*"))
