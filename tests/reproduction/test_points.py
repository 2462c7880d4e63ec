import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from dgex.config import ReproduceConfig
from dgex.errors import DataError, DivergedError, UsageError
from dgex.evaluation.evaluate import evaluate_models
from dgex.evaluation.tables import Evaluation
from dgex.models.bundle import Bundle
from dgex.reproduction import points as module
from dgex.reproduction.grid import Point
from dgex.reproduction.points import failure_of, run_point, scored_sets, scores_folder

NET = Point("dgex", 1, 8, 0.25)
CONFIG = ReproduceConfig(grid="small", epochs=3)


def failing_train(error):
    def train(*arguments, **options):
        raise error

    return train


def test_trains_and_scores_a_net_by_both_choices(make, tmp_path):
    dataset, out = make(), tmp_path / "out"
    run_point(NET, dataset, out, CONFIG, "1000g")
    assert failure_of(out, NET) is None
    for weights in ("validation", "1000g"):
        bundle = Bundle.load(out / "models" / NET.name, weights)
        expected = evaluate_models(dataset, {NET.name: bundle})
        found = Evaluation.load(scores_folder(out, NET, weights))
        assert list(found.info["sets"]) == ["validation", "test", "gtex", "1000g"]
        np.testing.assert_array_equal(found.genes["mae"], expected.genes["mae"])
        np.testing.assert_array_equal(found.summary["mae"], expected.summary["mae"])


def test_what_is_done_is_not_done_again(make, tmp_path, monkeypatch):
    dataset, out = make(), tmp_path / "out"
    run_point(NET, dataset, out, CONFIG, None)
    monkeypatch.setattr(module, "train", failing_train(AssertionError("trained again")))
    monkeypatch.setattr(module, "evaluate_models", failing_train(AssertionError("scored again")))
    run_point(NET, dataset, out, CONFIG, None)


def test_a_new_model_gets_new_scores(make, tmp_path):
    dataset, out = make(), tmp_path / "out"
    near = Point("dgex", 1, 8, 0.0)
    for point in (NET, near):
        run_point(point, dataset, out, CONFIG, "1000g")
    before = Evaluation.load(scores_folder(out, NET, "1000g")).summary["mae"]
    shutil.rmtree(out / "models" / NET.name)
    kept = scores_folder(out, near).stat().st_mtime_ns
    run_point(NET, dataset, out, ReproduceConfig(grid="small", epochs=1), "1000g")
    after = Evaluation.load(scores_folder(out, NET, "1000g")).summary["mae"]
    assert (after > before).all()
    assert scores_folder(out, near).stat().st_mtime_ns == kept


def wait_for(condition, process, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("There is no room. Free some."), "There is no room. Free some."),
        (MemoryError(), "There was not enough memory."),
    ],
)
def test_a_failure_is_recorded_and_tried_again(make, tmp_path, monkeypatch, error, reason):
    dataset, out = make(), tmp_path / "out"
    monkeypatch.setattr(module, "train", failing_train(error))
    run_point(NET, dataset, out, CONFIG, None)
    assert failure_of(out, NET) == reason
    monkeypatch.undo()
    run_point(NET, dataset, out, CONFIG, None)
    assert failure_of(out, NET) is None


def test_what_diverged_is_tried_again_only_where_asked(make, tmp_path, monkeypatch, caplog):
    dataset, out = make(), tmp_path / "out"
    monkeypatch.setattr(module, "train", failing_train(DivergedError("epoch 2, rate 0.5")))
    run_point(NET, dataset, out, CONFIG, None)
    monkeypatch.undo()
    run_point(NET, dataset, out, CONFIG, None)
    assert failure_of(out, NET) == "epoch 2, rate 0.5"
    assert "--retry-failed trains it again" in caplog.text
    run_point(NET, dataset, out, ReproduceConfig(grid="small", epochs=3, retry_failed=True), None)
    assert failure_of(out, NET) is None


def test_misuse_is_not_a_failure_of_the_point(make, tmp_path, monkeypatch):
    dataset, out = make(), tmp_path / "out"
    monkeypatch.setattr(module, "train", failing_train(UsageError("another dgex writes it")))
    with pytest.raises(UsageError, match="another dgex"):
        run_point(NET, dataset, out, CONFIG, None)
    assert failure_of(out, NET) is None


def test_a_damaged_model_is_a_failure(make, tmp_path):
    dataset, out = make(), tmp_path / "out"
    run_point(Point("ols"), dataset, out, CONFIG, None)
    shutil.rmtree(out / "scores")
    weights = out / "models" / "ols" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    run_point(Point("ols"), dataset, out, CONFIG, None)
    assert "models/ols; the next call trains it" in (failure_of(out, Point("ols")) or "")
    shutil.rmtree(out / "models" / "ols")
    run_point(Point("ols"), dataset, out, CONFIG, None)
    assert failure_of(out, Point("ols")) is None


def test_a_damaged_checkpoint_costs_one_net(make, tmp_path, monkeypatch, caplog):
    dataset, out, whole = make(), tmp_path / "out", tmp_path / "whole"

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    run_point(NET, dataset, whole, CONFIG, None)
    with monkeypatch.context() as patch:
        patch.setattr("dgex.models.fit.write_bundle", interrupted)
        patch.setattr("dgex.models.checkpoint.CHECKPOINT_SHARE", float("inf"))
        with pytest.raises(KeyboardInterrupt):
            run_point(NET, dataset, out, CONFIG, None)
    checkpoint = out / "models" / f"{NET.name}.partial" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    run_point(NET, dataset, out, CONFIG, None)
    assert failure_of(out, NET) is None
    assert "is damaged; dgex-1x8-dropout25 begins anew" in caplog.text
    again, before = (
        load_file(folder / "models" / NET.name / "weights.safetensors") for folder in (out, whole)
    )
    for name, array in before.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_damaged_record_of_a_failure_is_said(tmp_path):
    file = tmp_path / "failed" / "ols.json"
    file.parent.mkdir()
    file.write_text("{")
    with pytest.raises(DataError, match=r"ols\.json is damaged"):
        failure_of(tmp_path, Point("ols"))


def test_sets_without_anything_to_score_are_left_out(make):
    dataset = make(sizes={"train": 9, "validation": 5, "test": 5, "gtex": 4}, absent=range(9))
    assert scored_sets(dataset) == ["validation", "test"]


def test_killed_it_goes_on_from_its_checkpoint(make, tmp_path):
    sizes = {"train": 400, "validation": 20, "test": 20, "gtex": 15, "1000g": 12}
    dataset = make(sizes=sizes)
    options = ["--grid", "small", "--hidden-layers", "1", "--hidden-units", "20"]
    options += ["--dropout", "0.25", "--epochs", "40000", "--device", "cpu"]
    options += ["--only", "dgex-1x20-dropout25"]
    command = [sys.executable, "-m", "dgex.cli", "reproduce", str(dataset.path), *options]
    partial = tmp_path / "out" / "models" / "dgex-1x20-dropout25.partial"
    command += ["--out", str(tmp_path / "out")]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for((partial / "checkpoint.safetensors").is_file, running)
    finally:
        running.kill()
        running.wait()
    assert load_file(partial / "checkpoint.safetensors")
    said = tmp_path / "said"
    with open(said, "w") as file:
        again = subprocess.Popen(command, stderr=file)
        try:
            wait_for(lambda: "going on after epoch" in said.read_text(), again)
        finally:
            again.kill()
            again.wait()
