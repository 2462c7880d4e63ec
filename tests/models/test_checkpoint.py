"""Checkpoints, and writing them beside the training."""

import errno
import threading

import numpy as np
import pytest

from dgex.errors import DataError
from dgex.models import checkpoint as module
from dgex.models.checkpoint import CHECKPOINT_FILE, Best, Checkpoint, CheckpointWriter


def checkpoint_of(epoch, best_epoch):
    weights = {"output.bias": np.arange(1000, dtype=np.float32) + epoch}
    best = weights if best_epoch == epoch else {"output.bias": np.ones(1000, np.float32)}
    rows = [{"epoch": float(i + 1), "mae_train": 0.5} for i in range(epoch)]
    speeds = {"output.bias": np.full(1000, 0.25, np.float32)}
    found = {"validation": Best(0.5, best_epoch, best)}
    return Checkpoint({"seed": 1}, epoch, 1e-3, rows, weights, speeds, found)


@pytest.mark.parametrize("best_epoch", [2, 3])
def test_what_is_saved_is_loaded(tmp_path, best_epoch):
    saved = checkpoint_of(3, best_epoch)
    saved.save(tmp_path)
    loaded = Checkpoint.load(tmp_path, {"seed": 1})
    assert (loaded.epoch, loaded.learning_rate, loaded.rows) == (3, 1e-3, saved.rows)
    for one, two in [
        (saved.weights, loaded.weights),
        (saved.optimiser, loaded.optimiser),
        (saved.best["validation"].arrays, loaded.best["validation"].arrays),
    ]:
        np.testing.assert_array_equal(one["output.bias"], two["output.bias"])
    assert (loaded.best["validation"].mae, loaded.best["validation"].epoch) == (0.5, best_epoch)


def test_the_best_weights_are_not_written_twice(tmp_path):
    sizes = []
    for best_epoch in (2, 3):
        checkpoint_of(3, best_epoch).save(tmp_path)
        sizes.append((tmp_path / CHECKPOINT_FILE).stat().st_size)
    assert 4000 <= sizes[0] - sizes[1] < 4400


class Slow:
    """A checkpoint whose writing waits to be let go."""

    def __init__(self):
        self.go = threading.Event()
        self.threads = []

    def __call__(self):
        self.threads.append(threading.current_thread())
        assert self.go.wait(10)
        return checkpoint_of(len(self.threads), 1)


def test_training_goes_on_while_one_is_written(tmp_path):
    writer, slow = CheckpointWriter(tmp_path, 0), Slow()
    writer.offer(1, slow, 0.0)
    writer.offer(2, slow, 0.0)  # does not wait, and is passed over
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    slow.go.set()
    writer.finish()
    assert Checkpoint.load(tmp_path, {"seed": 1}).epoch == 1
    assert len(slow.threads) == 1
    assert slow.threads[0] is not threading.main_thread()


def test_not_all_the_time(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module, "CHECKPOINT_SHARE", 0.25)
    saved = []

    class Timed:
        def __init__(self, epoch, seconds):
            self.epoch, self.seconds = epoch, seconds

        def save(self, folder):
            saved.append(self.epoch)
            clock[0] += self.seconds

    writer = CheckpointWriter(tmp_path, 0)

    def offer(epoch, seconds):
        writer.offer(epoch, lambda: Timed(epoch, seconds), 0.0)
        writer.wait()

    offer(1, 2.0)  # ends at 102, the next is due when that was a quarter of the time
    clock[0] = 107.9
    offer(2, 0.1)
    clock[0] = 108.1
    offer(3, 0.1)
    assert saved == [1, 3]


def test_a_long_epoch_waits_for_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SHARE", 1.0)
    writer = CheckpointWriter(tmp_path, 0)
    for epoch in (1, 2, 3):
        writer.offer(epoch, lambda epoch=epoch: checkpoint_of(epoch, 1), 3600.0)
        assert Checkpoint.load(tmp_path, {"seed": 1}).epoch == epoch


def test_the_last_state_is_kept_on_an_interrupt(tmp_path):
    writer = CheckpointWriter(tmp_path, 0)
    writer.offer(1, lambda: checkpoint_of(1, 1), 0.0)
    writer.offer(2, lambda: checkpoint_of(2, 1), 0.0)
    writer.keep(2, lambda: checkpoint_of(2, 1))
    assert Checkpoint.load(tmp_path, {"seed": 1}).epoch == 2
    writer = CheckpointWriter(tmp_path, 2)
    writer.keep(2, lambda: pytest.fail("epoch 2 is there already"))


def test_an_error_of_the_thread_is_raised_in_the_training(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    for raising, further in (("offer", (0.0,)), ("keep", ())):
        writer = CheckpointWriter(tmp_path, 0)
        writer.offer(1, lambda: checkpoint_of(1, 1), 0.0)
        writer._thread.join()
        with pytest.raises(DataError, match="disk is full"):
            getattr(writer, raising)(2, lambda: pytest.fail("after an error"), *further)
        writer.finish()  # once is enough
    assert not list(tmp_path.glob("*"))


def test_without_a_folder_nothing_is_written():
    writer = CheckpointWriter(None, 0)
    writer.offer(1, lambda: pytest.fail("written"), 0.0)
    writer.keep(1, lambda: pytest.fail("written"))
    writer.finish()
