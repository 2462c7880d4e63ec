"""Training and scoring the points, each kept as soon as it is done."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

from dgex.config import ReproduceConfig
from dgex.data.dataset import Dataset
from dgex.errors import DataError, DgexError, DivergedError
from dgex.evaluation.evaluate import evaluate_models
from dgex.evaluation.tables import INFO_FILE
from dgex.files import disk_errors, partial_path, write_json
from dgex.models.bundle import Bundle
from dgex.models.checkpoint import CHECKPOINT_FILE
from dgex.models.fit import train
from dgex.reproduction.grid import Point

log = logging.getLogger("dgex")


def models_folder(out: Path) -> Path:
    """Where the Models are, a folder each, named after the points."""
    return out / "models"


def scores_folder(out: Path, point: Point, weights: str = "validation") -> Path:
    """Where the scores of a point are; of a net there are some for each choice of weights."""
    return out / "scores" / (point.name if weights == "validation" else f"{point.name}@{weights}")


def scored_sets(dataset: Dataset) -> list[str]:
    """The sets in which something can be scored, ``train`` left out."""
    return [
        name
        for name in dataset.sets
        if name != "train" and dataset[name].n and dataset[name].present_t.any()
    ]


def failure_of(out: Path, point: Point) -> str | None:
    """Why a point failed, None where it did not."""
    failure = _failure(out, point)
    return None if failure is None else failure[0]


def run_point(
    point: Point, dataset: Dataset, out: Path, config: ReproduceConfig, select_on: str | None
) -> None:
    """Train a point and score it, as far as that has not been done.

    An interrupted training goes on from its checkpoint. What goes wrong is recorded for
    `failure_of`.

    Raises
    ------
    UsageError
        Another process trains this point.
    """
    failure = _failure(out, point)
    if failure is not None and failure[1] and not config.retry_failed:
        log.warning("%s diverged before; --retry-failed trains it again.", point.name)
        return
    try:
        _train(point, dataset, out, config, select_on)
        _score(point, dataset, out, select_on)
    except (DataError, MemoryError) as error:
        reason = str(error) if isinstance(error, DgexError) else "There was not enough memory."
        log.warning("%s failed: %s", point.name, reason)
        write_json(
            _failure_file(out, point),
            {"reason": reason, "diverged": isinstance(error, DivergedError)},
        )
    else:
        _failure_file(out, point).unlink(missing_ok=True)


def _train(
    point: Point, dataset: Dataset, out: Path, config: ReproduceConfig, select_on: str | None
) -> None:
    model = models_folder(out) / point.name
    if model.is_dir():
        return
    with disk_errors(out):
        for folder in (out / "scores").glob(f"{point.name}*"):
            if folder.name.partition("@")[0] == point.name:
                shutil.rmtree(folder)
    partial = partial_path(model)
    interrupted = (partial / CHECKPOINT_FILE).is_file()
    if interrupted and not _is_whole(partial / CHECKPOINT_FILE):
        log.warning("%s is damaged; %s begins anew.", partial / CHECKPOINT_FILE, point.name)
        shutil.rmtree(partial)
        interrupted = False
    train(dataset, model, point.train_config(config, select_on), resume=interrupted)


def _score(point: Point, dataset: Dataset, out: Path, select_on: str | None) -> None:
    choices = ["validation"]
    if select_on is not None and point.kind == "dgex":
        choices.append(select_on)
    for weights in choices:
        folder = scores_folder(out, point, weights)
        if (folder / INFO_FILE).is_file():
            continue
        # One copy of the weights at a time: those of the largest nets take a gigabyte.
        model = models_folder(out) / point.name
        try:
            bundle = Bundle.load(model, weights)
        except DataError as error:
            raise DataError(f"{error} Remove {model}; the next call trains it.") from error
        evaluate_models(dataset, {point.name: bundle}, scored_sets(dataset)).save(folder)


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(checkpoint, "numpy"):
            return True
    except SafetensorError:
        return False


def _failure_file(out: Path, point: Point) -> Path:
    return out / "failed" / f"{point.name}.json"


def _failure(out: Path, point: Point) -> tuple[str, bool] | None:
    """Why a point failed and whether its training diverged."""
    file = _failure_file(out, point)
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
        return str(content["reason"]), bool(content.get("diverged"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error!r}). Remove it.") from error
