"""The training loop with the recipes of resnet and taaf, against plain loops with torch's parts."""

import json
import math
import tomllib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

import dgex.progress
from dgex.config import TrainConfig
from dgex.errors import DataError, UsageError
from dgex.models import checkpoint as checkpoint_module
from dgex.models.bundle import Bundle
from dgex.models.checkpoint import CHECKPOINT_FILE
from dgex.models.fit import train
from dgex.models.recipes import AVERAGE, WEIGHT_DECAY, one_cycle, taaf_falls
from dgex.models.resnet import ResNet
from dgex.models.taaf import TAAFNet
from dgex.models.train import train_net
from dgex.options import with_options

KINDS = ("resnet", "taaf")
OPTIONS = {
    "hidden_layers": 2,
    "hidden_units": 8,
    "dropout": 0.0,
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.01,
    "device": "cpu",
    "precision": "float32",
    "seed": 4,
}


def config_of(kind, **options):
    return with_options(TrainConfig(model=kind), {**OPTIONS, **options})


def plain_loop(dataset, config):
    """Rows of the log and the weights that are kept after every epoch."""
    torch.manual_seed(config.seed)
    kind = ResNet if config.model == "resnet" else TAAFNet
    size = len(dataset.landmarks), len(dataset.targets)
    options = {"hidden_layers": config.hidden_layers, "hidden_units": config.hidden_units}
    net = kind(*size, **options, dropout=0.0)
    kept = kind(*size, **options, dropout=0.0)
    kept.load_state_dict(net.state_dict())
    if config.model == "resnet":
        matrices = [weights for weights in net.parameters() if weights.ndim > 1]
        others = [weights for weights in net.parameters() if weights.ndim == 1]
        groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}]
        optimiser = torch.optim.AdamW([*groups, {"params": others, "weight_decay": 0.0}])
        factor, average = one_cycle, AVERAGE
    else:
        optimiser, factor, average = torch.optim.NAdam(net.parameters()), taaf_falls, 0.0
    sets = {
        name: (torch.tensor(dataset[name].x_nl), torch.tensor(dataset[name].y_nt))
        for name in dataset.sets
    }
    x_nl, y_nt = sets["train"]
    n_steps = math.ceil(len(x_nl) / config.batch_size)
    rows, step = [], 0
    for epoch in range(1, config.epochs + 1):
        rng = np.random.default_rng((config.seed, epoch))
        rng.integers(2**63)  # the seed of the dropout
        order = rng.permutation(len(x_nl))
        rates = []
        for start in range(0, len(x_nl), config.batch_size):
            batch = order[start : start + config.batch_size]
            rate = config.learning_rate * factor((step + 0.5) / (config.epochs * n_steps))
            rates.append(rate)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            functional.l1_loss(net(x_nl[batch]), y_nt[batch]).backward()
            optimiser.step()
            step += 1
            share = min(average, step / (step + 10))
            with torch.no_grad():
                for old, new in zip(kept.parameters(), net.parameters(), strict=True):
                    old.copy_(share * old + (1 - share) * new)
        row = {"learning_rate": rates[0]}
        with torch.no_grad():
            for name, (x, y) in sets.items():
                error_nt = (kept(x) - y).abs()[:, torch.tensor(dataset[name].present_t)]
                row[f"mae_{name}"] = float(error_nt.mean())
        weights = {name: array.clone().numpy() for name, array in kept.state_dict().items()}
        rows.append((row, weights))
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_a_plain_loop(dataset, kind):
    config = config_of(kind)
    trained = train_net(dataset, config)
    rows = plain_loop(dataset, config)
    for i, (row, _) in enumerate(rows):
        for name, value in row.items():
            assert trained.log[name][i] == pytest.approx(value, abs=2e-5), (i, name)
    best = trained.best["validation"]
    assert best.epoch == trained.log["mae_validation"].idxmin() + 1
    for name, array in rows[best.epoch - 1][1].items():
        np.testing.assert_allclose(best.arrays[name], array, atol=2e-4, err_msg=name)


class StopAfter:
    def __init__(self, epoch):
        self.epoch = epoch

    def update(self, what, done, total):
        if what == "training" and done == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def interrupted(monkeypatch):
    def run(epoch, call):
        with monkeypatch.context() as patched:
            patched.setattr(checkpoint_module, "CHECKPOINT_SHARE", math.inf)
            dgex.progress.set_reporter(StopAfter(epoch))
            try:
                with pytest.raises(KeyboardInterrupt):
                    call()
            finally:
                dgex.progress.set_reporter(None)

    return run


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_resumed_is_the_same_as_uninterrupted(
    dataset, tmp_path, monkeypatch, interrupted, kind, precision
):
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    config = config_of(kind, dropout=0.3, select_on="gtex", precision=precision)
    straight = train_net(dataset, config)
    interrupted(3, lambda: train_net(dataset, config, tmp_path))
    with safe_open(tmp_path / CHECKPOINT_FILE, "numpy") as checkpoint:
        assert json.loads(checkpoint.metadata()["state"])["epoch"] == 3
        averaged = [name for name in checkpoint.keys() if name.startswith("averages/")]  # noqa: SIM118
    assert bool(averaged) == (kind == "resnet")
    resumed = train_net(dataset, with_options(config, {"resume": True}), tmp_path)
    columns = straight.log.columns.drop("seconds")
    assert resumed.log[columns].equals(straight.log[columns])
    for name, best in straight.best.items():
        assert (resumed.best[name].mae, resumed.best[name].epoch) == (best.mae, best.epoch)
        for key, array in best.arrays.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(resumed.best[name].arrays[key], array)


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_of_more_epochs_is_another(dataset, tmp_path, interrupted, kind):
    interrupted(3, lambda: train_net(dataset, config_of(kind), tmp_path))
    with pytest.raises(UsageError, match="epochs is 6 there, 7 here"):
        train_net(dataset, config_of(kind, epochs=7, resume=True), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_training_learns(make, kind):
    dataset = make(sizes={"train": 600, "validation": 100, "test": 100})
    log = train_net(dataset, config_of(kind, hidden_units=60, epochs=40, learning_rate=0.005)).log
    y_nt = dataset["test"].y_nt
    assert log["mae_test"].iloc[-1] < 0.6 * np.abs(y_nt - y_nt.mean(axis=0)).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_near_float32(dataset, monkeypatch, kind):
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    exact = train_net(dataset, config_of(kind)).log
    rounded = train_net(dataset, config_of(kind, precision="bf16")).log
    np.testing.assert_allclose(rounded["mae_test"], exact["mae_test"], rtol=0.02)
    assert not rounded["mae_test"].equals(exact["mae_test"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_directory_and_back(dataset, tmp_path, kind):
    options = {name: value for name, value in OPTIONS.items() if name != "learning_rate"}
    bundle = train(dataset, tmp_path / "model", model=kind, **options)
    arrays = bundle.model.arrays()
    assert bundle.kind == kind
    assert bundle.training_log["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    run = tomllib.loads((tmp_path / "model" / "run.toml").read_text())
    assert run["options"]["learning_rate"] == {"resnet": 2e-3, "taaf": 4e-3}[kind]
    net = (ResNet if kind == "resnet" else TAAFNet)(
        6, 9, hidden_layers=2, hidden_units=8, dropout=0.0
    )
    net.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    x_nl = np.array(dataset["test"].x_nl)
    with torch.no_grad():
        expected = net.eval()(torch.tensor(x_nl)).numpy()
    np.testing.assert_allclose(bundle.predict(x_nl), expected, atol=1e-6)
    assert bundle.info["weights"]["validation"]["mae"] == pytest.approx(
        bundle.training_log["mae_validation"].min()
    )
    in_bf16 = Bundle.load(tmp_path / "model", precision="auto")
    np.testing.assert_allclose(in_bf16.predict(x_nl), expected, atol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_model_resumes(dataset, tmp_path, interrupted, kind):
    straight = train(dataset, tmp_path / "straight", model=kind, **OPTIONS)
    interrupted(2, lambda: train(dataset, tmp_path / "model", model=kind, **OPTIONS))
    resumed = train(dataset, tmp_path / "model", model=kind, **OPTIONS, resume=True)
    for name, array in straight.model.arrays().items():
        np.testing.assert_array_equal(resumed.model.arrays()[name], array)


@pytest.mark.parametrize("kind", KINDS)
def test_all_splits_and_the_last_epoch(dataset, tmp_path, kind):
    bundle = train(dataset, tmp_path / "model", model=kind, **OPTIONS, train_on="all")
    assert bundle.info["weights"]["validation"] == {
        "file": "weights.safetensors",
        "mae": None,
        "epoch": 6,
    }


def test_epochs_of_all_splits_are_those_of_train_alone(make, tmp_path):
    dataset = make(sizes={"train": 2100, "validation": 900, "test": 20})
    options = {"hidden_units": 2, "hidden_layers": 1, "batch_size": 1000, "device": "cpu"}
    bundle = train(dataset, tmp_path / "model", model="resnet", train_on="all", **options)
    assert len(bundle.training_log) == 38 == round(80_000 / 2100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [{"momentum": 0.9}, {"output_rate_factor": 1.0}, {"rate_decay": 0.5}, {"dgex_files": "x"}],
)
def test_options_of_dgex_alone_are_refused(dataset, tmp_path, kind, options):
    flag = "--" + next(iter(options)).replace("_", "-")
    with pytest.raises(UsageError, match=f"{flag}: of no use to the model {kind}"):
        train(dataset, tmp_path / "model", model=kind, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_and_a_net_too_large_leave_nothing(dataset, tmp_path, kind):
    with pytest.raises(DataError, match="diverged in epoch"):
        train(dataset, tmp_path / "model", model=kind, **{**OPTIONS, "learning_rate": 1e38})
    options = {**OPTIONS, "hidden_units": 10**6, "hidden_layers": 3}
    with pytest.raises(DataError, match="GB to be trained on this cpu"):
        train(dataset, tmp_path / "model", model=kind, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
