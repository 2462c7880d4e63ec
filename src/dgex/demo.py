"""The demo: every verb once, on real tumours that come with the package."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from dgex import demo_data
from dgex.data.matrix import create_matrix, open_matrix
from dgex.data.panel import panel
from dgex.data.prepare import prepare
from dgex.files import refuse_existing
from dgex.provenance import write_run

log = logging.getLogger("dgex")

HIDDEN_UNITS, EPOCHS, DROPOUT = 1000, 40, 0.1


def run_demo(out: str | Path, *, seed: int = 0) -> tuple[Path, pd.DataFrame]:
    """Panel, prepare, train, evaluate and predict on TCGA colorectal tumours.

    Parameters
    ----------
    out
        Folder to write; what an earlier demo left there is replaced.
    seed
        Seed of the split, the panel and the net.

    Returns
    -------
    tuple of pathlib.Path and pandas.DataFrame
        The report, and the summary of the evaluation.

    Raises
    ------
    UsageError
        `out` is a folder that dgex did not make.
    """
    from dgex.evaluation.verb import evaluate
    from dgex.inference import predict
    from dgex.models.fit import train

    out = Path(out)
    tumours = demo_data.path()
    refuse_existing(out, overwrite=True)
    out.mkdir(parents=True, exist_ok=True)
    write_run(out / "run.toml", "demo", None, {"expression": tumours}, {"seed": seed})
    log.info("1 of 5  dgex panel: 943 landmarks from the training patients")
    panel_file = out / "panel.tsv"
    panel(tumours, panel_file, group_by="patient", seed=seed, overwrite=True)

    log.info("2 of 5  dgex prepare")
    dataset = prepare(
        tumours,
        out / "tcga_coadread",
        landmarks=panel_file,
        split=panel_file.with_suffix(".split.tsv"),
        group_by="patient",
        seed=seed,
        overwrite=True,
    )
    log.info("3 of 5  dgex train: ols, ridge, and a D-GEX net of 1 x %d units", HIDDEN_UNITS)
    net: dict[str, Any] = {"hidden_units": HIDDEN_UNITS, "epochs": EPOCHS, "dropout": DROPOUT}
    # The same numbers on every processor.
    net["precision"] = "float32"
    models = {}
    options: dict[str, dict[str, Any]] = {"ols": {}, "ridge": {}, "dgex": net}
    for kind in options:
        models[kind] = out / "models" / kind
        train(dataset, models[kind], model=kind, seed=seed, overwrite=True, **options[kind])

    log.info("4 of 5  dgex evaluate: the held-out patients")
    evaluation = evaluate(dataset, list(models.values()), out / "evaluation", overwrite=True)
    report = out / "report.html"
    report.write_bytes((out / "evaluation" / "report.html").read_bytes())

    log.info("5 of 5  dgex predict: the test patients from their landmarks alone")
    plate = out / "test_landmarks.gctx"
    _write_plate(tumours, plate, list(dataset["test"].obs.index), list(dataset.landmarks.index))
    best = evaluation.summary.query("set == 'validation'").sort_values("mae")["model"].iloc[0]
    predict(
        models[best],
        plate,
        out / "test_inferred.gctx",
        standardize="training",
        units="expression",
        overwrite=True,
    )
    return report, evaluation.summary


def _write_plate(source: Path, out: Path, samples: list[str], landmarks: list[str]) -> None:
    """Write a landmark-only file, as a targeted platform would give it."""
    with open_matrix(source) as matrix:
        rows = matrix.obs.index.get_indexer(pd.Index(samples))
        columns = matrix.var.index.get_indexer(pd.Index(landmarks))
        x_nl = matrix.take(rows)[:, columns]
        with create_matrix(
            out, matrix.obs.iloc[rows], matrix.var.iloc[columns], overwrite=True
        ) as writer:
            writer.write(x_nl)
