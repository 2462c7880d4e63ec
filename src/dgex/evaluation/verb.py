"""The verb evaluate: Models against the held-out sets of a Dataset, as tables and a report."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd

from dgex.config import EvaluateConfig
from dgex.data.dataset import Dataset
from dgex.data.record import is_simulated, taught_by_simulated
from dgex.data.split import SPLITS
from dgex.errors import UsageError, name_list
from dgex.evaluation.evaluate import evaluate_models
from dgex.evaluation.report import save_figures, write_report
from dgex.evaluation.tables import Evaluation
from dgex.files import refuse_existing, whole_directory
from dgex.models.bundle import Bundle
from dgex.options import with_options
from dgex.provenance import versions, write_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("dgex")

LOGS = "training"


def evaluate(
    dataset: str | Path | Dataset,
    models: Sequence[str | Path | Bundle],
    out: str | Path,
    *,
    config: EvaluateConfig | None = None,
    **options: Any,
) -> Evaluation:
    """Score Models on the held-out sets of a Dataset.

    A net that was also selected on an external set is scored twice: under its own name with the
    weights that were best on validation, and as ``name@set`` with those that were best there.

    Parameters
    ----------
    dataset
        The Dataset.
    models
        Model directories or loaded ones; they are called by the names of their folders.
    out
        Folder to write: ``summary.tsv``, ``genes.tsv.gz``, ``figures/`` and ``report.html``.
    config
        Options; see `dgex.config.EvaluateConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    Evaluation
        The tables.

    Raises
    ------
    DataError
        A Dataset or Model is damaged.
    UsageError
        A Model infers other genes than the Dataset holds, or `out` exists.
    """
    config = with_options(config or EvaluateConfig(), options)
    out = Path(out)
    dataset = Dataset.open(dataset)
    bundles = _named_bundles(models)
    read = [dataset.path, *(bundle.path for bundle in bundles.values())]
    refuse_existing(out, config.overwrite, read)
    notes = list(dataset.notes)
    targets = {name: _targets_of(name, bundle, dataset) for name, bundle in bundles.items()}
    held_out = set(config.sets or dataset.sets) & {"validation", "test"}
    for name, bundle in bundles.items():
        learned = held_out & set(bundle.learned_splits)
        if bundle.for_new_cohorts and held_out:
            note = (
                f"{name} is for new cohorts, standardised by their own moments: it is not scored "
                f"on {' and '.join(sorted(held_out, reverse=True))}, nor by training moments."
            )
            log.info("%s", note)
            notes.append(note)
        elif learned:
            flattered = " and ".join(one for one in SPLITS if one in learned)
            warning = (
                f"{name} was trained with --train-on {bundle.info['train_on']}: {flattered} of "
                f"{bundle.dataset_name} {'were' if len(learned) > 1 else 'was'} learned from, and "
                f"its errors there flatter it."
            )
            log.warning("%s", warning)
            notes.append(warning)
        if bundle.trained_on_simulated and not is_simulated(dataset.notes):
            notes.append(taught_by_simulated(name))
        if bundle.dataset_fingerprint != dataset.fingerprint:
            warning = (
                f"{name} was trained on another Dataset ({bundle.dataset_name}): profiles scored "
                "here may be among those it learned from, and its normalisation may differ."
            )
            log.warning("%s", warning)
            notes.append(warning)
    scores = evaluate_models(
        dataset, bundles, config.sets or None, targets=targets, both_moments=True
    )
    title = f"dgex: {', '.join(bundles)} on {dataset.name}"
    told = {"title": title, "run": _what_was_run(dataset, bundles), "notes": notes}
    told["learned_from"] = {name: list(bundle.learned_splits) for name, bundle in bundles.items()}
    if held_out:
        told["ranked"] = [
            name
            for name in scores.info["ranked"]
            if not bundles[name].trained_on_all or name == scores.info["reference"]
        ] or scores.info["ranked"]
    evaluation = dataclasses.replace(scores, info=scores.info | told)
    logs = {
        name: bundle.training_log
        for name, bundle in bundles.items()
        # Where validation was learned from, the log's errors on it are no held-out ones.
        if bundle.training_log is not None
        and bundle.weights == "validation"
        and "validation" not in bundle.learned_splits
    }
    with whole_directory(out, overwrite=config.overwrite) as folder:
        evaluation.save(folder)
        for name, training_log in logs.items():
            (folder / LOGS).mkdir(exist_ok=True)
            training_log.to_csv(folder / LOGS / f"{name}.tsv", sep="\t", index=False)
        figures = save_figures(evaluation, logs, folder / "figures")
        _write(evaluation, logs, folder / "report.html", figures)
        inputs = {"dataset": dataset.path} | {name: one.path for name, one in bundles.items()}
        write_run(folder / "run.toml", "evaluate", config, inputs)
    return evaluation


def report(
    evaluation: str | Path, out: str | Path, *, title: str | None = None, overwrite: bool = False
) -> Path:
    """Write the report of an evaluation again, in another place or under another title.

    Parameters
    ----------
    evaluation
        Folder that `evaluate` wrote.
    out
        HTML file to write.
    title
        Heading; the evaluation's own where not given.
    overwrite
        Replace `out` where it exists.

    Returns
    -------
    pathlib.Path
        The report.

    Raises
    ------
    DataError
        The folder is not a whole evaluation.
    UsageError
        `out` exists.
    """
    folder, out = Path(evaluation), Path(out)
    refuse_existing(out, overwrite)
    scores = Evaluation.load(folder)
    if title is not None:
        scores = dataclasses.replace(scores, info=scores.info | {"title": title})
    logs = {path.stem: pd.read_csv(path, sep="\t") for path in sorted(folder.glob(f"{LOGS}/*.tsv"))}
    _write(scores, logs, out, None)
    return out


def _write(
    evaluation: Evaluation,
    logs: Mapping[str, pd.DataFrame],
    path: Path,
    figures: Mapping[str, Figure] | None,
) -> None:
    info = evaluation.info
    simulated = is_simulated(info["notes"]) and "SIMULATED" not in info["title"]
    write_report(
        evaluation,
        path,
        title=f"SIMULATED profiles. {info['title']}" if simulated else info["title"],
        figures=figures,
        training_logs=logs,
        run=info["run"],
        notes=info["notes"],
    )


def _named_bundles(models: Sequence[str | Path | Bundle]) -> dict[str, Bundle]:
    if not models:
        raise UsageError("Name at least one Model to evaluate.")
    bundles: dict[str, Bundle] = {}
    for model in models:
        bundle = model if isinstance(model, Bundle) else Bundle.load(model)
        folder = bundle.path.resolve().name
        main = bundle.weights == "validation"
        name = folder if main else f"{folder}@{bundle.weights}"
        if name in bundles:
            raise UsageError(f"Two Models are called {name}. Rename the folder of one.")
        bundles[name] = bundle
        for weights in bundle.weights_available:
            if main and weights != "validation":
                bundles[f"{folder}@{weights}"] = Bundle.load(bundle.path, weights=weights)
    return bundles


def _targets_of(name: str, bundle: Bundle, dataset: Dataset) -> np.ndarray:
    """Where the targets of a Model are among those of the Dataset."""
    if bundle.units == "expression":
        raise UsageError(
            f"{name} takes and gives log2 expression, and the sets of a Dataset are z-scores. "
            "Leave it out; dgex predict uses it."
        )
    landmarks, targets = bundle.preprocessor.landmarks.index, bundle.preprocessor.targets.index
    if not landmarks.equals(dataset.landmarks.index):
        _refuse_genes(name, "landmarks", dataset.landmarks.index.symmetric_difference(landmarks))
    position_t = dataset.targets.index.get_indexer(targets)
    if (position_t < 0).any() or (np.diff(position_t) <= 0).any():
        _refuse_genes(name, "targets", targets[position_t < 0])
    return position_t


def _refuse_genes(name: str, role: str, differ: pd.Index) -> NoReturn:
    raise UsageError(
        f"{name} has other {role} than the Dataset ({name_list(differ) or 'in another order'}). "
        "Train it on this Dataset."
    )


def _what_was_run(dataset: Dataset, bundles: dict[str, Bundle]) -> dict[str, Any]:
    return {
        "Dataset": {
            "folder": str(dataset.path),
            "protocol": dataset.protocol,
            "landmarks": len(dataset.landmarks),
            "targets": len(dataset.targets),
            **{f"profiles of {name}": dataset[name].n for name in dataset.sets},
        },
        "Models": {name: _model_text(bundle) for name, bundle in bundles.items()},
        "Versions": versions(),
    }


def _model_text(bundle: Bundle) -> str:
    settings = bundle.model.settings().items()
    shown = [f"{key} {value}" for key, value in settings if not isinstance(value, (list, dict))]
    chosen = bundle.info["weights"][bundle.weights]
    if chosen["epoch"] is not None:
        shown.append(f"epoch {chosen['epoch']}, the best on {bundle.weights}")
    return ", ".join([bundle.kind, *shown])
