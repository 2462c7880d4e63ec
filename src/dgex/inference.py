"""Stream any number of profiles through a Model, into a file or an AnnData."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dgex import progress
from dgex.blocks import one_behind
from dgex.config import PredictConfig
from dgex.data.formats.checks import matrix_ending
from dgex.data.formats.journal import Journal
from dgex.data.formats.reader import Matrix
from dgex.data.incoming import Incoming
from dgex.data.matrix import create_matrix, open_matrix
from dgex.data.normalise import Moments
from dgex.data.plan import OWN_MOMENTS_FROM, Plan, plan_input
from dgex.data.preprocess import Preprocessor
from dgex.errors import DataError, UsageError, name_list
from dgex.files import refuse_existing, sha256_of, whole_file
from dgex.models.bundle import Bundle
from dgex.options import with_options
from dgex.provenance import write_run

if TYPE_CHECKING:
    from anndata import AnnData

log = logging.getLogger("dgex")

MOMENTS_ROWS = 16
"""Profiles whose moments are taken at once: few enough to stay in the processor's cache."""

SIMULATED_MODEL = "The Model was trained on simulated profiles."

FEW_LANDMARKS = 0.5
"""Share of the landmarks below which a warning says that little can be inferred."""


def predict(
    model: str | Path | Bundle,
    profiles: str | Path | AnnData,
    out: str | Path | None = None,
    *,
    config: PredictConfig | None = None,
    **options: Any,
) -> AnnData | Path:
    """Infer the target genes of profiles.

    Whole-transcriptome profiles are brought to the Model's quantile reference and standardised.
    A landmark-only file has no such reference: its genes are standardised by their own moments,
    as D-GEX did for L1000 (Chen et al. 2016, section 3.4), or by the training moments. The choice
    is logged.

    Parameters
    ----------
    model
        Model directory, or a loaded one.
    profiles
        A matrix in any supported format, or an AnnData; sample order is kept.
    out
        GCTX, GCT, h5ad, TSV, CSV, parquet or npy file to write, with ``<out>.run.toml`` beside
        it. None returns an AnnData instead, which holds everything in memory.
    config
        Options; see `dgex.config.PredictConfig`.
    **options
        Single options, replacing those of `config`.

    Returns
    -------
    anndata.AnnData or pathlib.Path
        The inferred profiles (n samples, landmarks then targets), or `out`. The column ``source``
        of the gene table says ``measured``, ``filled`` (an absent landmark) or ``inferred``.

    Raises
    ------
    DataError
        The profiles hold none of the landmarks or cannot be read.
    UsageError
        The request is wrong, or `out` exists.
    """
    config = with_options(config or PredictConfig(), options)
    if out is not None:
        out = Path(out)
        refuse_existing(out, config.overwrite, [profiles])
        if matrix_ending(out) is None:
            raise UsageError(
                f"{out}: name a .gctx, .gct, .h5ad, .tsv, .csv, .parquet or .npy file."
            )
    bundle = _loaded(model, config)
    config = dataclasses.replace(config, precision=bundle.precision)
    if config.standardize_output is None:
        config = dataclasses.replace(config, standardize_output=bundle.standardizes_output)
    if config.units is None:
        config = dataclasses.replace(config, units=bundle.units)
    preprocessor = bundle.preprocessor
    with open_matrix(profiles, orientation=config.orientation) as matrix:
        _check_output(matrix, bundle, config)
        plan = _plan(matrix, bundle, config)
        incoming = Incoming(
            matrix,
            preprocessor,
            ties=plan.ties,
            moments=plan.moments,
            missing_landmarks=config.missing_landmarks,
            id_column=config.id_column,
        )
        if plan.moments == "none":
            _refuse_gaps(matrix, incoming)
        notes = _notes(matrix, plan, incoming, bundle, config)
        for note in notes:
            log.info("%s", note)
        _warn_of_few(incoming)
        landmarks = (x_bl for _, x_bl in _landmark_blocks(incoming, preprocessor))
        bundle = bundle.for_cohort(landmarks, incoming.present_l)
        if bundle.model.cohort_note:
            notes.append(bundle.model.cohort_note)
        var = _output_genes(bundle, incoming.present_l, config)
        if out is None:
            blocks = _output_blocks(bundle, incoming, config)
            return _as_anndata(blocks, matrix.obs, var, plan, notes)
        # Begun first, so that no other process is writing what _resume_key may remove; done first,
        # as its hashes take time in which the profiles would have their name and no run.toml.
        with whole_file(out.with_name(out.name + ".run.toml")) as run_partial:
            key = _resume_key(matrix, bundle, config, out)
            with create_matrix(
                out, matrix.obs, var, overwrite=config.overwrite, resume_key=key
            ) as writer:
                if writer.rows_done:
                    log.info("Going on after %d profiles.", writer.rows_done)
                try:
                    blocks = _output_blocks(bundle, incoming, config, writer.rows_done)
                    one_behind(lambda block: writer.write(block[1]), blocks)
                except KeyboardInterrupt:
                    if key is not None and writer.rows_done:
                        log.warning("%d profiles are kept for --resume.", writer.rows_done)
                    raise
                inputs = {"model": bundle.path, "profiles": profiles}
                resolved = {**dataclasses.asdict(plan), "notes": notes}
                write_run(run_partial, "predict", config, inputs, resolved=resolved)
    return out


def _loaded(model: str | Path | Bundle, config: PredictConfig) -> Bundle:
    if not isinstance(model, Bundle):
        return Bundle.load(model, config.weights, config.precision)
    if config.precision in ("float32", model.precision):
        return model
    return Bundle.load(model.path, model.weights, config.precision)


def _resume_key(matrix: Matrix, bundle: Bundle, config: PredictConfig, out: Path) -> str | None:
    """What the output is made from and how; None for formats that cannot be gone on with."""
    resumable = matrix_ending(out) in (".gctx", ".h5ad")
    if config.resume and not resumable:
        raise UsageError(f"{out}: --resume is for GCTX and h5ad output.")
    if not resumable:
        return None
    same = dataclasses.replace(config, resume=False, overwrite=False)
    weights = sha256_of(bundle.path / bundle.info["weights"][bundle.weights]["file"])
    source = matrix.path.stat() if matrix.path.is_file() else None
    read = (source.st_size, source.st_mtime_ns) if source else None
    ids = hashlib.sha256("\0".join([*matrix.obs.index, *matrix.var.index]).encode()).hexdigest()
    key = f"{same} {weights} {matrix.path} {read} {ids}"
    journal = Journal(out, key)
    if not config.resume:
        journal.remove()
    elif journal.read() is None:
        raise UsageError(f"Nothing to go on with at {journal.partial}. Leave out --resume.")
    return key


def _check_output(matrix: Matrix, bundle: Bundle, config: PredictConfig) -> None:
    if bundle.units == "expression":
        idle = {
            "--units standardised": config.units == "standardised",
            "--standardize": config.standardize is not None,
            "--input whole": config.input == "whole",
            "--ties": config.ties is not None,
            "--standardize-output": bool(config.standardize_output),
        }
        given = [option for option, is_given in idle.items() if is_given]
        if given:
            raise UsageError(
                f"{name_list(given)}: of no use to {bundle.path}, which takes and gives log2 "
                "expression. Leave it out."
            )
    elif config.units == "expression" and not bundle.preprocessor.knows_expression:
        raise UsageError(
            "--units expression: this Model was trained on z-scores whose moments are not known. "
            "Leave it out."
        )
    if not config.standardize_output:
        return
    if config.units == "expression":
        raise UsageError(
            "--units expression and --standardize-output exclude each other. Leave one out, or "
            "pass --no-standardize-output where the Model asks for it."
        )
    if matrix.shape[0] < 2:
        raise UsageError(
            "--standardize-output needs at least 2 profiles; this file has one. Pass "
            "--no-standardize-output."
        )


def _plan(matrix: Matrix, bundle: Bundle, config: PredictConfig) -> Plan:
    if bundle.units == "expression":
        return Plan("landmarks", None, "none")
    return plan_input(matrix, bundle.preprocessor, config, for_new_cohorts=bundle.for_new_cohorts)


def _refuse_gaps(matrix: Matrix, incoming: Incoming) -> None:
    """Without moments there is no mean to put in the place of what is missing."""
    absent = incoming.genes.index[~incoming.present_l]
    if len(absent) or incoming.n_missing:
        what = f"{len(absent)} landmarks ({name_list(absent)})" if len(absent) else "values"
        raise DataError(
            f"{matrix.path} lacks {what}, and a Model that takes log2 expression needs every one. "
            "Fill them first."
        )


def _warn_of_few(incoming: Incoming) -> None:
    measured, n = int(incoming.present_l.sum()), len(incoming.present_l)
    if measured < FEW_LANDMARKS * n:
        log.warning(
            "Only %d of %d landmarks are measured: what is inferred may be little better than "
            "every gene's mean. Train a Model on the genes that you measure.",
            measured,
            n,
        )


def _notes(
    matrix: Matrix, plan: Plan, incoming: Incoming, bundle: Bundle, config: PredictConfig
) -> list[str]:
    """What was found and chosen, one sentence each."""
    preprocessor = bundle.preprocessor
    n, n_landmarks = matrix.shape[0], preprocessor.n_landmarks
    found = incoming.alignment
    if plan.input == "whole":
        measured = f"{incoming.present_g.sum()} of {len(incoming.present_g)} genes"
        kind = "whole-transcriptome"
    else:
        measured = f"{incoming.present_l.sum()} of {n_landmarks} landmarks"
        kind = "landmark-only"
    notes = [
        f"{matrix.path}: {n} {kind} profiles, {measured} found by {found.column} ({found.kind})."
    ]
    if plan.ties is not None:
        notes.append(f"Quantile-normalised to the Model's reference, ties: {plan.ties}.")
    elif incoming.is_linear:
        notes.append("Values look linear and are taken as log2(x + 1).")
    whose = "the file's own" if plan.moments == "own" else "the training"
    if plan.moments == "none":
        notes.append("Values are taken as log2 expression; they are not standardised.")
    elif plan.moments == "training" and not preprocessor.knows_expression:
        notes.append("Values are taken as the z-scores they are (--standardize training).")
    else:
        why = "" if config.standardize else f": {_why(plan, bundle, n)}"
        notes.append(f"Standardised gene by gene by {whose} moments (--standardize){why}.")
    filled = incoming.landmarks_filled()
    if filled:
        notes.append(filled)
    if incoming.n_missing:
        notes.append(f"{incoming.n_missing} missing values set to the gene's mean.")
    if bundle.precision != "float32":
        notes.append(f"Matrix products in {bundle.precision} (--precision).")
    if bundle.trained_on_simulated:
        notes.append(SIMULATED_MODEL)
    units = "standardised (z-score)" if config.units == "standardised" else "log2 expression"
    notes.append(f"Output units: {units}.")
    if config.standardize_output:
        notes.append(
            "Every inferred gene was given mean 0 and standard deviation 1 over these profiles "
            "(--standardize-output)."
        )
    return notes


def _why(plan: Plan, bundle: Bundle, n: int) -> str:
    """Why these moments were chosen."""
    if bundle.for_new_cohorts:
        return "the Model is for new cohorts"
    if not bundle.preprocessor.knows_expression:
        return "the Model was trained on z-scores"
    if plan.moments == "own":
        return "another platform" if plan.input == "whole" else "landmarks only"
    if n < OWN_MOMENTS_FROM:
        return f"fewer than {OWN_MOMENTS_FROM} profiles"
    return "the training platform, as nearly all of its genes are there"


def _output_genes(bundle: Bundle, present_l: np.ndarray, config: PredictConfig) -> pd.DataFrame:
    """Gene table of the output; ids are unique, also where a target is a landmark's gene."""
    preprocessor = bundle.preprocessor
    targets = preprocessor.targets.assign(role="target", source="inferred")
    if bundle.trained_on_simulated:
        targets["simulated"] = SIMULATED_MODEL
    if config.genes == "targets":
        return targets
    landmarks = preprocessor.landmarks.assign(
        role="landmark", source=np.where(present_l, "measured", "filled")
    )
    twice = targets.index.isin(landmarks.index)
    targets.index = pd.Index(np.where(twice, targets.index + ":target", targets.index))
    both = pd.concat([landmarks, targets])
    return both.fillna({"simulated": ""}) if bundle.trained_on_simulated else both


def _output_blocks(
    bundle: Bundle, incoming: Incoming, config: PredictConfig, first_row: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and output (b, genes of the output), float32.

    Blocks take turns in two places in memory, so one is overwritten when the next but one is drawn.
    """
    preprocessor = bundle.preprocessor
    inferred = _output_moments(bundle, incoming) if config.standardize_output else None
    n_shown = 0 if config.genes == "targets" else preprocessor.n_landmarks
    shape = incoming.block_rows, n_shown + len(preprocessor.targets)
    places = cycle([np.empty(shape, dtype=np.float32) for _ in range(2)])
    for start, x_bl in _landmark_blocks(incoming, preprocessor, first_row):
        y_bg = next(places)[: len(x_bl)]
        y_bt = y_bg[:, n_shown:]
        bundle.model.predict(x_bl, y_bt)
        if inferred is not None:
            # A gene that is inferred as one value everywhere stays at 0.
            scale_t = np.where(inferred.sd_g > 0, inferred.sd_g, 1.0)
            np.subtract(y_bt, inferred.mean_g, out=y_bt, casting="same_kind")
            np.divide(y_bt, scale_t, out=y_bt, casting="same_kind")
        if config.units == "expression" and bundle.units == "standardised":
            x_bl = preprocessor.expression(x_bl, slice(0, preprocessor.n_landmarks))
            y_bt[:] = preprocessor.expression(y_bt, preprocessor.of_targets)
        if n_shown:
            y_bg[:, :n_shown] = x_bl
        yield start, y_bg
        progress.report("inferring", start + len(y_bg), incoming.n)


def _landmark_blocks(
    incoming: Incoming, preprocessor: Preprocessor, first_row: int = 0
) -> Iterator[tuple[int, np.ndarray]]:
    """First row and landmarks (b, l) as the model sees them."""
    for start, z_bg in incoming.blocks(first_row):
        yield start, np.ascontiguousarray(z_bg[:, : preprocessor.n_landmarks])


def _output_moments(bundle: Bundle, incoming: Incoming) -> Moments:
    """Moments of the inferred targets over all profiles."""
    n_targets = len(bundle.preprocessor.targets)
    moments, place = Moments(n_targets), np.empty((incoming.block_rows, n_targets), np.float32)
    for start, x_bl in _landmark_blocks(incoming, bundle.preprocessor):
        y_bt = bundle.model.predict(x_bl, place[: len(x_bl)])
        for first in range(0, len(y_bt), MOMENTS_ROWS):
            moments.add(y_bt[first : first + MOMENTS_ROWS])
        progress.report("measuring inferred genes", start + len(x_bl), incoming.n)
    return moments


def _as_anndata(
    blocks: Iterator[tuple[int, np.ndarray]],
    obs: pd.DataFrame,
    var: pd.DataFrame,
    plan: Plan,
    notes: list[str],
) -> AnnData:
    from anndata import AnnData

    values = np.empty((len(obs), len(var)), dtype=np.float32)
    for start, y_bg in blocks:
        values[start : start + len(y_bg)] = y_bg
    if not np.isfinite(values).all():
        raise DataError("The Model infers values that are not numbers. Train it again.")
    uns = {"dgex": {**dataclasses.asdict(plan), "ties": plan.ties or "", "notes": notes}}
    return AnnData(values, obs=obs.copy(), var=var, uns=uns)
