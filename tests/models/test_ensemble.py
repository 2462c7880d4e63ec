"""Models combined gene by gene: weights, files, and members that cannot be."""

import json
import shutil
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex.cli import run
from dgex.config import TrainConfig
from dgex.errors import DataError, UsageError
from dgex.models import choice
from dgex.models.base import set_mae
from dgex.models.bundle import Bundle
from dgex.models.calibrate import Calibration
from dgex.models.ensemble import CHOSEN, SHARED, Ensemble, select
from dgex.models.fit import train
from dgex.models.linear import OLS, MeanModel, Ridge


def plain_weights(guess_mnt, y_nt):
    """Members chosen one after another, with lists."""
    n_members, _, n_targets = guess_mnt.shape
    chosen = [[] for _ in range(n_targets)]
    for step in range(CHOSEN):
        mae_mt = np.empty((n_members, n_targets))
        for member in range(n_members):
            for target in range(n_targets):
                together = [guess_mnt[one, :, target] for one in [*chosen[target], member]]
                mae_mt[member, target] = np.abs(np.mean(together, axis=0) - y_nt[:, target]).mean()
        for target in range(n_targets):
            errors_m = mae_mt.mean(axis=1) if step < SHARED else mae_mt[:, target]
            chosen[target].append(int(np.argmin(errors_m)))
    count_mt = [[one.count(member) for one in chosen] for member in range(n_members)]
    return np.array(count_mt) / CHOSEN


def drawn(seed, n_members=3, n=12, n_targets=4):
    rng = np.random.default_rng(seed)
    y_nt = rng.normal(size=(n, n_targets))
    sd_m = rng.uniform(0.3, 1, (n_members, 1, 1))
    return y_nt + sd_m * rng.normal(size=(n_members, n, n_targets)), y_nt


@pytest.mark.parametrize("seed", range(6))
def test_members_are_selected_as_by_a_plain_loop(seed):
    guess_mnt, y_nt = drawn(seed)
    weight_mt = select(guess_mnt, y_nt)
    np.testing.assert_allclose(weight_mt, plain_weights(guess_mnt, y_nt), atol=1e-12)
    assert len(np.unique(weight_mt)) > 2


class Fixed(MeanModel):
    """Infers what it was given, whatever the landmarks: profiles are their own row numbers."""

    def __init__(self, guess_nt):
        super().__init__()
        self._guess_nt = guess_nt
        self.n_known = guess_nt.shape

    n_landmarks = 1

    @property
    def n_targets(self):
        return self._guess_nt.shape[1]

    def _predict_block(self, x_bl, y_bt):
        y_bt[:] = self._guess_nt[x_bl[:, 0].astype(int)]


def of_arrays(y_nt, present_t=None):
    """What `weigh` takes of a Dataset."""
    n, n_targets = y_nt.shape
    validation = SimpleNamespace(
        n=n,
        x_nl=np.arange(n, dtype=np.float32)[:, None],
        y_nt=y_nt.astype(np.float32),
        present_t=np.ones(n_targets, bool) if present_t is None else present_t,
    )
    return {"validation": validation}


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999),
    n_members=st.integers(1, 4),
    n=st.integers(1, 30),
    n_targets=st.integers(1, 6),
)
def test_on_validation_it_is_never_worse_than_its_best_member(seed, n_members, n, n_targets):
    guess_mnt, y_nt = drawn(seed, n_members, n, n_targets)
    guess_mnt[-1, :, 0] += 3.0
    ensemble = Ensemble()
    for number, guess_nt in enumerate(guess_mnt):
        ensemble.add(str(number), Fixed(guess_nt))
    dataset = of_arrays(y_nt)
    ensemble.weigh(dataset, seed=0)
    mae_m = np.abs(guess_mnt - y_nt).mean(axis=(1, 2))
    assert list(ensemble.validation_mae.values()) == pytest.approx(mae_m, rel=1e-5)
    mean_nt = ensemble.predict(dataset["validation"].x_nl)
    assert np.abs(mean_nt - y_nt).mean() <= mae_m.min() + 1e-6
    # Target by target it is never worse than the member that is best over all of them.
    best_t = np.abs(guess_mnt[np.argmin(mae_m)] - y_nt).mean(axis=0)
    assert (np.abs(mean_nt - y_nt).mean(axis=0) <= best_t + 1e-6).all()
    np.testing.assert_allclose(ensemble.weight_mt.sum(axis=0), 1.0, atol=1e-6)
    assert (ensemble.weight_mt >= 0).all()


def test_the_best_member_is_the_best_on_measured_targets():
    y_nt = np.random.default_rng(0).normal(size=(20, 3))
    near_nt, far_nt = (y_nt + np.array(by_t) for by_t in ([0.1, 0.1, 90], [0.5, 0.5, 0]))
    ensemble = Ensemble()
    ensemble.add("near", Fixed(near_nt))
    ensemble.add("far", Fixed(far_nt))
    ensemble.weigh(of_arrays(y_nt, np.array([True, True, False])), seed=0)
    assert ensemble.validation_mae == pytest.approx({"near": 0.1, "far": 0.5}, rel=1e-4)
    np.testing.assert_allclose(ensemble.weight_mt[:, :2], [[1, 1], [0, 0]])


def test_weights_come_from_a_sample_of_many_validation_profiles(monkeypatch):
    monkeypatch.setattr(choice, "CHOICE_PROFILES", 8)
    guess_mnt, y_nt = drawn(1, n=40)
    ensemble = Ensemble()
    for number, guess_nt in enumerate(guess_mnt):
        ensemble.add(str(number), Fixed(guess_nt))
    ensemble.weigh(of_arrays(y_nt), seed=3)
    rows = np.sort(np.random.default_rng(3).choice(40, 8, replace=False))
    expected_m = np.abs(guess_mnt - y_nt)[:, rows].mean(axis=(1, 2))
    assert list(ensemble.validation_mae.values()) == pytest.approx(expected_m, rel=1e-5)


def test_members_may_be_calibrated(dataset):
    ols, mean = OLS(), MeanModel()
    for model in (ols, mean):
        model.fit(dataset, TrainConfig(model=model.kind))
    shift = Calibration(np.zeros((1, 9), np.float32), np.full((1, 9), 0.25, np.float32))
    ensemble = Ensemble()
    ensemble.add("ols", ols, shift)
    ensemble.add("mean", mean)
    ensemble.weight_mt = np.tile(np.float32([[0.75], [0.25]]), 9)
    x_nl = dataset["test"].x_nl
    expected_nt = 0.75 * (ols.predict(x_nl) + 0.25) + 0.25 * mean.predict(x_nl)
    np.testing.assert_allclose(ensemble.predict(x_nl), expected_nt, atol=1e-6)
    again = Ensemble.from_arrays(ensemble.arrays(), ensemble.settings())
    np.testing.assert_array_equal(again.predict(x_nl), ensemble.predict(x_nl))
    assert again.settings() == ensemble.settings()
    alone = ensemble.only([1])
    assert (alone.names, alone.calibrations) == (["mean"], [None])


@pytest.fixture
def members(dataset, tmp_path, monkeypatch):
    """A ridge, a kernel and a net of the Dataset, in folders of these names."""
    monkeypatch.chdir(tmp_path)
    train(dataset, "ridge", model="ridge", penalties=(0.05, 0.1, 0.2))
    train(dataset, "kernel", model="kernel", kernels=("rbf",), device="cpu")
    train(dataset, "net", model="dgex", hidden_units=5, epochs=2, device="cpu")
    return ["ridge", "kernel", "net"]


def test_from_folders_to_a_folder(dataset, members, tmp_path, capsys):
    arguments = ["train", str(dataset.path), "--model", "ensemble", "--out", "both"]
    assert run([*arguments, "--members", *members, "--seed", "3"]) == 0
    bundle = Bundle.load("both")
    assert bundle.kind == "ensemble"
    x_nl = dataset["test"].x_nl
    guesses = [Bundle.load(name).predict(x_nl) for name in members]
    expected_nt = np.einsum("mt,mnt->nt", bundle.model.weight_mt, guesses)
    np.testing.assert_allclose(bundle.predict(x_nl), expected_nt, atol=1e-5)
    validation = dataset["validation"]
    maes = {name: set_mae(Bundle.load(name).predict, validation) for name in members}
    assert bundle.model.validation_mae == pytest.approx(maes, rel=1e-5)
    assert bundle.info["weights"]["validation"]["mae"] <= min(maes.values())
    recorded = tomllib.loads((tmp_path / "both" / "run.toml").read_text())["inputs"]
    for number, name in enumerate(members):
        fingerprint = Bundle.load(name).fingerprint
        assert recorded[f"member_{number}"] == {"name": name, "fingerprint": fingerprint}
    # The members are no longer needed.
    for name in members:
        shutil.rmtree(name)
    np.testing.assert_array_equal(Bundle.load("both").predict(x_nl), bundle.predict(x_nl))
    assert "- mean_weights: ridge 0." in (tmp_path / "both" / "README.md").read_text()
    assert run(["info", "both"]) == 0
    assert "ridge 0." in capsys.readouterr().out


@pytest.fixture
def ridge(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(dataset, "ridge", model="ridge")
    train(dataset, "ols", model="ols")


def damaged(dataset, tmp_path):
    train(dataset, "bad", model="mean")
    path = tmp_path / "bad" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:40])
    return DataError, "bad is not whole"


def of_some_targets(dataset, tmp_path):
    train(dataset, "bad", model="mean", target_range="0:4")
    return UsageError, "--members bad: it does not infer these 9 targets but 4 others"


def of_validation_too(dataset, tmp_path):
    train(dataset, "bad", model="ridge", train_on="train+validation")
    return UsageError, "--members bad: it has learned from the validation profiles"


def of_all(dataset, tmp_path):
    train(dataset, "bad", model="ridge", train_on="all")
    return UsageError, "--members bad: it has learned from the validation profiles"


def an_ensemble(dataset, tmp_path):
    train(dataset, "bad", model="ensemble", members=("ridge", "ols"))
    return UsageError, "--members bad: it is of kind ensemble, which cannot be a member"


def a_dataset(dataset, tmp_path):
    (tmp_path / "bad").symlink_to(dataset.path)
    return UsageError, "bad is a Dataset, not a Model"


def nothing(dataset, tmp_path):
    return UsageError, "bad: no such Model"


@pytest.mark.parametrize(
    "make_bad",
    [
        damaged,
        of_some_targets,
        of_validation_too,
        of_all,
        an_ensemble,
        a_dataset,
        nothing,
    ],
)
def test_members_that_cannot_be(dataset, ridge, tmp_path, make_bad):
    kind, message = make_bad(dataset, tmp_path)
    with pytest.raises(kind, match=message):
        train(dataset, "out", model="ensemble", members=("ridge", "bad"))
    assert not list(tmp_path.glob("out*"))


def test_a_member_of_another_dataset(dataset, make, ridge, tmp_path):
    train(make("other", seed=1), "bad", model="mean")
    with pytest.raises(UsageError, match="bad: it was trained on another Dataset, other"):
        train(dataset, "out", model="ensemble", members=("ridge", "bad"))
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("members", [(), ("ridge",)])
def test_two_members_at_least(dataset, ridge, members):
    with pytest.raises(UsageError, match="--members names fewer than two Models"):
        train(dataset, "out", model="ensemble", members=members)


def test_a_member_twice(dataset, ridge):
    with pytest.raises(UsageError, match=r"--members names .*ridge more than once"):
        train(dataset, "out", model="ensemble", members=("ridge", "ols", "./ridge"))


def test_a_member_is_not_replaced(dataset, ridge):
    with pytest.raises(UsageError, match="ols is to be read"):
        train(dataset, "ols", model="ensemble", members=("ridge", "ols"), overwrite=True)
    assert Bundle.load("ols").kind == "ols"


def test_other_options_are_of_no_use(dataset, ridge, tmp_path):
    both = {"model": "ensemble", "members": ("ridge", "ols")}
    with pytest.raises(UsageError, match="--train-on: not for a model of kind ensemble"):
        train(dataset, "out", **both, train_on="all")
    with pytest.raises(UsageError, match="--penalties: of no use to the model ensemble"):
        train(dataset, "out", **both, penalties=(1.0,))
    with pytest.raises(UsageError, match="--members: of no use to the model ridge"):
        train(dataset, "out", **{**both, "model": "ridge"})
    assert not list(tmp_path.glob("out*"))


def test_some_of_the_targets_and_folders_of_one_name(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(dataset, "a/model", model="ridge", target_range="2:6")
    train(dataset, "b/model", model="ols", target_range="2:6")
    bundle = train(
        dataset, "c", model="ensemble", members=("a/model", "b/model"), target_range="2:6"
    )
    assert bundle.model.names == ["a/model", "b/model"]
    assert list(bundle.preprocessor.targets.index) == ["t2", "t3", "t4", "t5"]
    assert bundle.predict(dataset["test"].x_nl).shape == (21, 4)


def fitted(dataset):
    ensemble = Ensemble()
    for model in (OLS(), Ridge()):
        model.fit(dataset, TrainConfig(model=model.kind))
        ensemble.add(model.kind, model)
    ensemble.weigh(dataset, seed=0)
    return ensemble.arrays(), json.loads(json.dumps(ensemble.settings()))


@pytest.mark.parametrize("damage", ["rows", "targets", "member", "kind", "nested", "few", "array"])
def test_damaged_arrays_and_settings_are_refused(dataset, damage):
    arrays, said = fitted(dataset)
    Ensemble.from_arrays(arrays, said)
    weight_mt = arrays["weight_mt"]
    if damage == "rows":
        arrays["weight_mt"] = weight_mt[:1]
    elif damage == "targets":
        arrays["weight_mt"] = weight_mt[:, :5]
    elif damage == "member":
        del said["members"][0]["kind"]
    elif damage == "kind":
        said["members"][0]["kind"] = "forest"
    elif damage == "nested":
        said["members"][1]["kind"] = "ensemble"
    elif damage == "few":
        said["members"] = said["members"][:1]
    else:
        del arrays["1.model.weight_lt"]
    with pytest.raises((KeyError, TypeError, ValueError)):
        Ensemble.from_arrays(arrays, said)


def test_a_folder_of_damaged_weights_is_said_in_one_line(dataset, ridge, tmp_path):
    train(dataset, "out", model="ensemble", members=("ridge", "ols"))
    file = tmp_path / "out" / "model.json"
    info = json.loads(file.read_text())
    info["settings"]["members"][0]["calibrated"] = True
    file.write_text(json.dumps(info))
    with pytest.raises(DataError, match="does not hold the weights of a model of kind ensemble"):
        Bundle.load("out")
