"""The training loop against D-GEX's recipe written out in numpy."""

import errno
import json
import logging
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

import dgex.progress
from dgex.config import TrainConfig
from dgex.errors import DataError, UsageError
from dgex.models import checkpoint as checkpoint_module
from dgex.models import epoch as epoch_module
from dgex.models import train as module
from dgex.models.checkpoint import CHECKPOINT_FILE
from dgex.models.device import Profiles
from dgex.models.nets import DGEXNet
from dgex.models.train import train_net
from dgex.options import with_options

BASE = TrainConfig(
    model="dgex",
    hidden_units=7,
    dropout=0.0,
    epochs=12,
    batch_size=20,
    device="cpu",
    precision="float32",
    seed=4,
)


def config_of(**options):
    return with_options(BASE, options)


def recipe(dataset, config):
    """D-GEX's training, float64: (log rows, best weights on validation)."""
    torch.manual_seed(config.seed)
    net = DGEXNet(
        len(dataset.landmarks),
        len(dataset.targets),
        hidden_layers=config.hidden_layers,
        hidden_units=config.hidden_units,
        dropout=0.0,
    )
    layers = [
        [weights.detach().numpy().astype(np.float64) for weights in (layer.weight, layer.bias)]
        for layer in net.linear_layers()
    ]
    speeds = [[np.zeros_like(weights) for weights in layer] for layer in layers]
    data = {
        name: (
            np.array(dataset[name].x_nl, np.float64),
            np.array(dataset[name].y_nt, np.float64),
            dataset[name].present_t,
        )
        for name in dataset.sets
    }

    def forward(x_nl):
        states = [x_nl]
        for weight, bias in layers[:-1]:
            states.append(np.tanh(states[-1] @ weight.T + bias))
        return states, states[-1] @ layers[-1][0].T + layers[-1][1]

    def mae(name, rows=slice(None)):
        x_nl, y_nt, present_t = data[name]
        return np.abs(forward(x_nl[rows])[1] - y_nt[rows])[:, present_t].mean()

    x_nl, y_nt, _ = data["train"]
    n = len(x_nl)
    monitored = np.random.default_rng((config.seed, 0)).permutation(n)[: config.monitor_profiles]
    rate = config.learning_rate
    rows, best, best_mae = [], None, math.inf
    for epoch in range(1, config.epochs + 1):
        rng = np.random.default_rng((config.seed, epoch))
        rng.integers(2**63)  # the seed of the dropout
        order = rng.permutation(n)
        for start in range(0, n, config.batch_size):
            batch = order[start : start + config.batch_size]
            states, y_hat = forward(x_nl[batch])
            delta = 2 * (y_hat - y_nt[batch]) / len(batch)
            for depth in reversed(range(len(layers))):
                gradient = [delta.T @ states[depth], delta.sum(axis=0)]
                if depth:
                    delta = (delta @ layers[depth][0]) * (1 - states[depth] ** 2)
                rates = [rate * (config.output_rate_factor if depth else 1.0), rate]
                for i in range(2):
                    speed = config.momentum * speeds[depth][i] - rates[i] * gradient[i]
                    speeds[depth][i] = speed
                    layers[depth][i] = layers[depth][i] + speed
        row = {"epoch": epoch, "learning_rate": rate, "mae_train": mae("train", monitored)}
        rows.append(row | {f"mae_{name}": mae(name) for name in dataset.sets if name != "train"})
        if rows[-1]["mae_validation"] < best_mae:
            best_mae = rows[-1]["mae_validation"]
            best = epoch, [[weights.copy() for weights in layer] for layer in layers]
        if len(rows) > 1 and rows[-1]["mae_train"] > rows[-2]["mae_train"]:
            rate = max(rate * config.rate_decay, config.least_learning_rate)
    return rows, best


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("learning_rate", [0.005, 0.1])
def test_training_is_the_recipe_in_numpy(dataset, layers, learning_rate):
    config = config_of(hidden_layers=layers, learning_rate=learning_rate, monitor_profiles=40)
    trained = train_net(dataset, config)
    rows, (epoch, expected) = recipe(dataset, config)
    assert list(trained.log.columns) == [
        "epoch",
        "learning_rate",
        "seconds",
        "mae_train",
        "mae_validation",
        "mae_test",
        "mae_gtex",
    ]
    for column in rows[0]:
        np.testing.assert_allclose(trained.log[column], [row[column] for row in rows], atol=1e-5)
    best = trained.best["validation"]
    assert best.epoch == epoch
    assert best.mae == trained.log["mae_validation"].min()
    names = [f"hidden.{i}" for i in range(layers)] + ["output"]
    for name, (weight, bias) in zip(names, expected, strict=True):
        np.testing.assert_allclose(best.arrays[f"{name}.weight"], weight, atol=1e-5)
        np.testing.assert_allclose(best.arrays[f"{name}.bias"], bias, atol=1e-5)


def test_the_recipe_above_meets_falling_learning_rates(dataset):
    config = config_of(hidden_layers=2, learning_rate=0.1, monitor_profiles=40)
    rows, _ = recipe(dataset, config)
    assert len({row["learning_rate"] for row in rows}) >= 3


def rates(monkeypatch, dataset, maes, **options):
    """Learning rate of each epoch where the training MAE goes as told."""
    told = iter(maes)
    monkeypatch.setattr(
        module,
        "mae_of",
        lambda net, profiles, rows=None: torch.tensor(
            1.0 if rows is None else next(told), dtype=torch.float32
        ),
    )
    trained = train_net(dataset, config_of(epochs=len(maes), **options))
    return trained.log["learning_rate"].tolist()


def test_learning_rate_falls_where_the_training_mae_rises(monkeypatch, dataset):
    found = rates(monkeypatch, dataset, [5.0, 6.0, 6.0, 4.0, 4.5, 1.0], learning_rate=1e-3)
    np.testing.assert_allclose(found, np.array([1, 1, 0.9, 0.9, 0.9, 0.81]) * 1e-3, rtol=1e-12)


def test_learning_rate_has_a_floor(monkeypatch, dataset):
    found = rates(monkeypatch, dataset, [1.0, 2.0, 3.0, 4.0, 5.0], learning_rate=1.15e-5)
    np.testing.assert_allclose(found, [1.15e-5, 1.15e-5, 1.035e-5, 1e-5, 1e-5])


@pytest.mark.parametrize(("layers", "rate"), [(1, 5e-4), (2, 3e-4), (3, 3e-4)])
def test_first_learning_rate_depends_on_depth(dataset, layers, rate):
    trained = train_net(dataset, config_of(hidden_layers=layers, epochs=1))
    assert trained.log["learning_rate"].tolist() == [rate]


def test_training_learns(make):
    dataset = make(sizes={"train": 600, "validation": 100, "test": 100})
    config = config_of(hidden_units=60, learning_rate=0.01, epochs=40, dropout=0.1)
    log = train_net(dataset, config).log
    y_nt = dataset["test"].y_nt
    assert log["mae_test"].iloc[-1] < 0.6 * np.abs(y_nt - y_nt.mean(axis=0)).mean()


def test_the_same_seed_gives_the_same_net_and_leaves_the_callers_seed_alone(dataset):
    config = config_of(dropout=0.3, learning_rate=0.01, epochs=4)
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first = train_net(dataset, config)
    assert torch.equal(torch.rand(3), expected)
    torch.rand(1000)
    again = train_net(dataset, config)
    other = train_net(dataset, config_of(dropout=0.3, learning_rate=0.01, epochs=4, seed=5))
    for name, array in first.best["validation"].arrays.items():
        np.testing.assert_array_equal(again.best["validation"].arrays[name], array)
        assert not np.array_equal(other.best["validation"].arrays[name], array)


def test_dropout_changes_the_training_but_not_the_scores_of_equal_weights(dataset):
    plain = train_net(dataset, config_of(learning_rate=1e-12, epochs=1))
    dropped = train_net(dataset, config_of(learning_rate=1e-12, epochs=1, dropout=0.9))
    assert dropped.log["mae_test"].iloc[0] == pytest.approx(plain.log["mae_test"].iloc[0])
    moved = train_net(dataset, config_of(learning_rate=0.02, epochs=1))
    moved_dropped = train_net(dataset, config_of(learning_rate=0.02, epochs=1, dropout=0.9))
    assert moved.log["mae_test"].iloc[0] != moved_dropped.log["mae_test"].iloc[0]


def test_two_best_copies(dataset):
    trained = train_net(dataset, config_of(learning_rate=0.1, dropout=0.3, select_on="gtex"))
    assert list(trained.best) == ["validation", "gtex"]
    for name, best in trained.best.items():
        row = trained.log[f"mae_{name}"].idxmin()
        assert (best.epoch, best.mae) == (row + 1, trained.log[f"mae_{name}"][row])
    assert trained.best["gtex"].epoch != trained.best["validation"].epoch


@pytest.mark.parametrize(
    "case",
    [
        {"targets": 1, "absent": ()},
        {"landmarks": 1},
        {"sizes": {"train": 5, "validation": 1, "test": 1}},
        {"sizes": {"train": 41, "validation": 3, "test": 0}},
        {"absent": tuple(range(9))},
    ],
)
def test_small_and_lopsided_datasets(make, case):
    log = train_net(make(**case), config_of(epochs=2)).log
    assert np.isfinite(log[["mae_train", "mae_validation"]]).all(axis=None)
    assert np.isnan(log["mae_test"]).all() == (case.get("sizes", {}).get("test") == 0)


def test_an_epoch_is_one_log_line(dataset, caplog):
    with caplog.at_level(logging.INFO, "dgex"):
        trained = train_net(dataset, config_of(epochs=2))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert lines[0] == "training on cpu, products in float32"
    assert lines[2].startswith("epoch 2 of 2: MAE train 0.")
    for name in ("validation", "test", "gtex"):
        assert f"{name} {trained.log[f'mae_{name}'][1]:.4f}" in lines[2]
    assert "learning rate 0.0005; " in lines[2]


def test_divergence_is_an_error_that_names_epoch_and_rate(dataset):
    with pytest.raises(DataError, match=r"diverged in epoch \d+ at learning rate 1e\+06"):
        train_net(dataset, config_of(learning_rate=1e6))


class StopAfter:
    """Interrupts as Ctrl-C would, when so many epochs are reported as done."""

    def __init__(self, epoch):
        self.epoch = epoch

    def update(self, what, done, total):
        if what == "training" and done == self.epoch:
            raise KeyboardInterrupt


@pytest.fixture
def stop_after():
    yield lambda epoch: dgex.progress.set_reporter(StopAfter(epoch))
    dgex.progress.set_reporter(None)


INTERRUPTED = {"dropout": 0.3, "learning_rate": 0.1, "select_on": "gtex", "epochs": 6}


@pytest.mark.parametrize("share", [math.inf, 1e-12])
def test_resumed_is_the_same_as_uninterrupted(dataset, tmp_path, monkeypatch, stop_after, share):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SHARE", share)
    straight = train_net(dataset, config_of(**INTERRUPTED))
    assert straight.log["learning_rate"].nunique() > 1
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        train_net(dataset, config_of(**INTERRUPTED), tmp_path)
    assert [file.name for file in tmp_path.glob("*.safetensors*")] == [CHECKPOINT_FILE]
    with safe_open(tmp_path / CHECKPOINT_FILE, "numpy") as checkpoint:
        assert json.loads(checkpoint.metadata()["state"])["epoch"] == 3
    dgex.progress.set_reporter(None)
    resumed = train_net(dataset, config_of(**INTERRUPTED, resume=True), tmp_path)
    columns = straight.log.columns.drop("seconds")
    assert resumed.log[columns].equals(straight.log[columns])
    assert list(resumed.best) == list(straight.best)
    for name, best in straight.best.items():
        assert resumed.best[name].epoch == best.epoch
        for key, array in best.arrays.items():
            np.testing.assert_array_equal(resumed.best[name].arrays[key], array)


def test_an_interrupt_within_an_epoch_keeps_the_epochs_before(dataset, tmp_path, monkeypatch):
    straight = train_net(dataset, config_of(**INTERRUPTED))
    take, taken = Profiles.take, []

    def interrupted_take(self, rows):
        taken.append(len(rows))
        # 5 batches and 4 sets make an epoch: this is the third batch of the fourth.
        if len(taken) == 3 * 9 + 3:
            raise KeyboardInterrupt
        return take(self, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Profiles, "take", interrupted_take)
        with pytest.raises(KeyboardInterrupt):
            train_net(dataset, config_of(**INTERRUPTED), tmp_path)
    with safe_open(tmp_path / CHECKPOINT_FILE, "numpy") as checkpoint:
        assert json.loads(checkpoint.metadata()["state"])["epoch"] == 3
    resumed = train_net(dataset, config_of(**INTERRUPTED, resume=True), tmp_path)
    for key, array in straight.best["validation"].arrays.items():
        np.testing.assert_array_equal(resumed.best["validation"].arrays[key], array)


def test_checkpoints_are_not_written_all_the_time(dataset, tmp_path, monkeypatch):
    saved = []

    def slow(self, folder):
        time.sleep(1)
        saved.append(self.epoch)

    monkeypatch.setattr(module.Checkpoint, "save", slow)
    train_net(dataset, config_of(epochs=6), tmp_path)
    assert saved == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_units": 8}, "hidden_units is 7 there, 8 here"),
        ({"seed": 9, "dropout": 0.1}, "dropout is 0.3 there, 0.1 here, seed is 4 there, 9 here"),
        ({"epochs": 2}, "3 epochs already, more than the 2 asked for"),
    ],
)
def test_resume_refuses_another_training(
    dataset, tmp_path, monkeypatch, stop_after, options, message
):
    monkeypatch.setattr(checkpoint_module, "CHECKPOINT_SHARE", math.inf)
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        train_net(dataset, config_of(**INTERRUPTED), tmp_path)
    dgex.progress.set_reporter(None)
    with pytest.raises(UsageError, match=message):
        train_net(dataset, config_of(**{**INTERRUPTED, **options}, resume=True), tmp_path)


def test_resume_refuses_another_dataset_and_a_damaged_checkpoint(make, tmp_path, stop_after):
    dataset, folder = make(), tmp_path / "partial"
    folder.mkdir()
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        train_net(dataset, config_of(**INTERRUPTED), folder)
    dgex.progress.set_reporter(None)
    with pytest.raises(UsageError, match="dataset fingerprint is"):
        train_net(make("other", seed=1), config_of(**INTERRUPTED, resume=True), folder)
    checkpoint = folder / CHECKPOINT_FILE
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5])
    with pytest.raises(DataError, match="is damaged"):
        train_net(dataset, config_of(**INTERRUPTED, resume=True), folder)
    checkpoint.unlink()
    with pytest.raises(UsageError, match="no training to go on with"):
        train_net(dataset, config_of(**INTERRUPTED, resume=True), folder)


@pytest.fixture
def any_bf16(monkeypatch):
    """Take bf16 on any processor: slow where it is emulated, but the same numbers."""
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_bf16_is_near_the_recipe(dataset, any_bf16, layers):
    config = config_of(hidden_layers=layers, learning_rate=0.005, precision="bf16")
    trained = train_net(dataset, config)
    rows, _ = recipe(dataset, config)
    assert trained.precision == "bf16"
    for column in ("mae_train", "mae_validation", "mae_test", "mae_gtex"):
        expected = np.array([row[column] for row in rows])
        np.testing.assert_allclose(trained.log[column], expected, rtol=0.005)
        assert not np.array_equal(trained.log[column], expected.astype(np.float32))


def test_the_best_weights_in_bf16_are_float32_with_their_own_mae(dataset, any_bf16):
    trained = train_net(dataset, config_of(learning_rate=0.05, precision="bf16", select_on="gtex"))
    for name, best in trained.best.items():
        arrays = {key: array.astype(np.float64) for key, array in best.arrays.items()}
        assert {array.dtype for array in best.arrays.values()} == {np.dtype(np.float32)}
        weights = torch.from_numpy(best.arrays["output.weight"])
        assert not torch.equal(weights, weights.bfloat16().float())
        hidden_nh = np.tanh(
            dataset[name].x_nl @ arrays["hidden.0.weight"].T + arrays["hidden.0.bias"]
        )
        y_nt = hidden_nh @ arrays["output.weight"].T + arrays["output.bias"]
        error_nt = np.abs(y_nt - dataset[name].y_nt)[:, dataset[name].present_t]
        assert best.mae == pytest.approx(error_nt.mean(), rel=1e-6)
        assert best.epoch == trained.log[f"mae_{name}"].idxmin() + 1


def test_precision_is_auto_resolved_and_named(dataset, monkeypatch, caplog):
    monkeypatch.setattr("dgex.models.device._seconds_ratio", lambda: 0.5)
    for native, expected in ((True, "bf16"), (False, "float32")):
        monkeypatch.setattr("dgex.models.device.has_bf16", lambda device, native=native: native)
        with caplog.at_level(logging.INFO, "dgex"):
            trained = train_net(dataset, config_of(epochs=1, precision="auto"))
        assert trained.precision == expected
        assert f"training on cpu, products in {expected}" in caplog.messages


def test_resuming_in_bf16_and_not_in_another_precision(
    dataset, tmp_path, monkeypatch, stop_after, any_bf16
):
    straight = train_net(dataset, config_of(**INTERRUPTED, precision="bf16"))
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        train_net(dataset, config_of(**INTERRUPTED, precision="bf16"), tmp_path)
    dgex.progress.set_reporter(None)
    with pytest.raises(UsageError, match="precision is bf16 there, float32 here"):
        train_net(dataset, config_of(**INTERRUPTED, resume=True, precision="float32"), tmp_path)
    # auto goes on in bf16, even on a machine on which it would begin in float32.
    monkeypatch.setattr("dgex.models.device._seconds_ratio", lambda: 2.0)
    resumed = train_net(dataset, config_of(**INTERRUPTED, resume=True, precision="auto"), tmp_path)
    for key, array in straight.best["validation"].arrays.items():
        np.testing.assert_array_equal(resumed.best["validation"].arrays[key], array)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_profiles_held_whole_train_the_same_net(dataset, monkeypatch, any_bf16, precision):
    config = config_of(learning_rate=0.05, dropout=0.2, precision=precision, select_on="gtex")
    read = train_net(dataset, config)
    monkeypatch.setattr(
        module,
        "all_profiles",
        lambda dataset, device, dtype: {
            name: Profiles(dataset[name], device, torch.float32) for name in dataset.sets
        },
    )
    held = train_net(dataset, config)
    for name, best in read.best.items():
        assert held.best[name].mae == best.mae
        for key, array in best.arrays.items():
            np.testing.assert_array_equal(held.best[name].arrays[key], array)


def test_a_full_disk_stops_the_training(dataset, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(DataError, match="disk is full"):
        train_net(dataset, config_of(epochs=3), tmp_path)
    assert not list(tmp_path.glob("checkpoint*"))


def test_out_of_memory_names_the_size(dataset, monkeypatch):
    with pytest.raises(DataError, match=r"\d+ GB to be trained on this cpu.*Take fewer --hidden"):
        train_net(dataset, config_of(hidden_layers=3, hidden_units=10**6))

    def refused(self, rows):
        return torch.empty(2**60)

    monkeypatch.setattr(Profiles, "take", refused)
    with pytest.raises(DataError, match=r"1 x 7 hidden units .* and there is not as much\. Take"):
        train_net(dataset, config_of())


def test_other_errors_stay_what_they_are(dataset, monkeypatch):
    def broken(self, rows):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Profiles, "take", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train_net(dataset, config_of())


@pytest.fixture
def compiling(monkeypatch):
    """Compile on the processor as on a GPU, with a backend that needs no C compiler."""
    real = torch.compile
    monkeypatch.setattr(epoch_module, "_compiling_pays", lambda *args: True)
    return lambda backend: monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: real(function, backend=backend, dynamic=dynamic)
    )


def test_a_compiled_training_is_the_same(dataset, compiling, caplog):
    config = config_of(learning_rate=0.05, epochs=4, dropout=0.2, hidden_layers=2)
    plain = config_of(learning_rate=0.05, epochs=4, hidden_layers=2)
    compiling("aot_eager")
    compiled = train_net(dataset, plain)
    rows, _ = recipe(dataset, plain)
    np.testing.assert_allclose(
        compiled.log["mae_validation"], [row["mae_validation"] for row in rows], atol=1e-5
    )
    runs = [train_net(dataset, config).best["validation"].arrays for _ in range(2)]
    for name, array in runs[0].items():
        np.testing.assert_array_equal(runs[1][name], array)
    assert "Compiling" not in caplog.text


def test_a_failing_compiler_is_said_and_done_without(dataset, compiling, caplog):
    def failing(graph, inputs):
        raise RuntimeError("no compiler here\nand much more")

    compiling(failing)
    config = config_of(learning_rate=0.05, epochs=4, dropout=0.2)
    found = train_net(dataset, config)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith("Compiling the net failed, training goes on without: ")
    assert "no compiler here and much more" in warnings[0]
    assert "\n" not in warnings[0]
    plain = train_net(dataset, config)
    for name, array in plain.best["validation"].arrays.items():
        np.testing.assert_array_equal(found.best["validation"].arrays[name], array)


@pytest.mark.parametrize(
    ("device", "epochs", "pays"),
    [("cuda", 10**6, True), ("cuda", 10, False), ("cpu", 10**6, False)],
)
def test_compiling_pays_for_long_trainings_on_a_gpu(device, epochs, pays):
    net = DGEXNet(943, 9520, hidden_layers=1, hidden_units=30, dropout=0.0)
    train = SimpleNamespace(device=torch.device(device), n=88_807)
    config = config_of(epochs=epochs, batch_size=200)
    assert epoch_module._compiling_pays(net, train, config) is pays
