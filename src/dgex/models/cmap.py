"""The GCTX form of the Connectivity Map's linear model, both ways.

The matrix has a row per target and a column for the intercept, then one per landmark. Landmarks
are log2 expression x, targets are W · [1; x], clipped to 0 … 15.

Source: Subramanian et al., "A next generation connectivity map", Cell 2017, and CMap's published
weights of 978 landmarks for 21,290 targets (``DS_GEO_OLS_WEIGHTS_n979x21290.gctx``).
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from dgex.config import ImportConfig
from dgex.data.genes import gene_table
from dgex.data.matrix import create_matrix, open_matrix
from dgex.data.normalise import SD_OFFSET
from dgex.data.preprocess import Preprocessor
from dgex.errors import DataError, UsageError, name_list
from dgex.files import refuse_existing, whole_directory
from dgex.models.bundle import Bundle, write_imported
from dgex.models.cmap_linear import CMapLinear
from dgex.models.linear import OLS

log = logging.getLogger("dgex")

INTERCEPT = "intercept"
# CMap's own is called OFFSET.
_INTERCEPT_NAMES = {"intercept", "(intercept)", "offset", "const", "constant", "bias"}
# Sums of weights beyond this, times expression, are no numbers in single precision.
_GREATEST = 1e30


def import_cmap(source: Path | str, out: Path | str, config: ImportConfig | None = None) -> Bundle:
    """Make a Model directory of CMap's weights; the whole matrix is held in memory.

    Parameters
    ----------
    source
        The weights in a matrix file, mostly GCTX: rows are targets, columns the intercept (called
        OFFSET or intercept), then the landmarks.
    out
        The directory to make.
    config
        Options; see `dgex.config.ImportConfig`.

    Returns
    -------
    Bundle
        The Model as read back from `out`.

    Raises
    ------
    DataError
        The file is no such matrix.
    UsageError
        `out` exists.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> columns, rows = pd.DataFrame(index=["OFFSET", "TP53"]), pd.DataFrame(index=["MYC"])
    >>> with create_matrix(folder / "w.gctx", columns, rows) as matrix:
    ...     matrix.write(np.array([[1.0], [0.5]]))
    >>> import_cmap(folder / "w.gctx", folder / "model").predict(np.array([[8.0]]))
    array([[5.]], dtype=float32)
    """
    config = config or ImportConfig()
    source, out = Path(source), Path(out)
    refuse_existing(out, config.overwrite, [source])
    with open_matrix(source) as matrix:
        columns, targets = matrix.obs, matrix.var
        _check_ids(source, columns.index, targets.index)
        w_ct = matrix.rows(0, len(columns))
    lacking = targets.index[np.isnan(w_ct).any(axis=0)]
    if len(lacking):
        raise DataError(
            f"{source} lacks weights of {len(lacking)} targets ({name_list(lacking)}). Remove "
            "these rows, or take a whole file."
        )
    too_great = targets.index[(np.abs(w_ct) > _GREATEST).any(axis=0)]
    if len(too_great):
        raise DataError(
            f"{source} has values beyond {_GREATEST:g} for {len(too_great)} targets "
            f"({name_list(too_great)}), which are no weights. Remove these rows, or take a whole "
            "file."
        )
    w_ct = w_ct.astype(np.float32)
    model = CMapLinear.from_arrays({"intercept_t": w_ct[0], "weight_lt": w_ct[1:]}, {})
    n_genes = model.n_landmarks + model.n_targets
    preprocessor = Preprocessor(
        gene_table(columns.iloc[1:]),
        gene_table(targets),
        reference_g=np.empty(0),
        mean_g=np.zeros(n_genes),
        sd_g=np.full(n_genes, 1.0 - SD_OFFSET),
        correlation_ll=np.eye(model.n_landmarks, dtype=np.float32),
    )
    log.info(
        "%s: %d landmarks to %d targets; %s is the intercept.",
        source,
        model.n_landmarks,
        model.n_targets,
        columns.index[0],
    )
    with whole_directory(out, overwrite=config.overwrite) as folder:
        write_imported(folder, model, preprocessor, source, config)
    return Bundle.load(out)


def export_cmap(model: Bundle | Path | str, out: Path | str, *, overwrite: bool = False) -> Path:
    """Write a linear Model as CMap's weights, in float64; they are held in memory.

    The standardisation is folded into weights and intercept, so that they take and give log2
    expression on the quantile reference of the Model's Dataset. Who uses them clips to 0 … 15,
    which the Model itself does not.

    Parameters
    ----------
    model
        A Model of kind ``ols``, ``ridge``, another linear one, or ``cmap``.
    out
        GCTX file to write.
    overwrite
        Replace it where it exists.

    Raises
    ------
    UsageError
        The Model is not linear or knows no expression units, `out` is no ``.gctx`` or exists.
    """
    out = Path(out)
    if out.suffix.lower() != ".gctx":
        raise UsageError(f"{out}: CMap's weights are a GCTX file. Name a .gctx file.")
    refuse_existing(out, overwrite, [] if isinstance(model, Bundle) else [model])
    bundle = model if isinstance(model, Bundle) else Bundle.load(model)
    weight_lt, intercept_t = _in_expression_units(bundle)
    landmarks = bundle.preprocessor.landmarks
    if INTERCEPT in landmarks.index:
        raise DataError(f"A landmark is called {INTERCEPT}, as the first column is. Rename it.")
    first = pd.DataFrame("", index=[INTERCEPT], columns=landmarks.columns)
    columns = pd.concat([first, landmarks])
    targets = bundle.preprocessor.targets
    with create_matrix(out, columns, targets, dtype="float64", overwrite=overwrite) as matrix:
        matrix.write(intercept_t[None, :])
        matrix.write(weight_lt)
    return out


def _check_ids(source: Path, columns: pd.Index, targets: pd.Index) -> None:
    if len(columns) < 2:
        raise DataError(f"{source} has one column; CMap's weights have an intercept and landmarks.")
    elsewhere = [name for name in columns[1:] if str(name).lower() in _INTERCEPT_NAMES]
    if elsewhere:
        raise DataError(f"{source}: the intercept ({elsewhere[0]}) must be the first column.")
    as_target = [name for name in targets if str(name).lower() in _INTERCEPT_NAMES]
    if as_target:
        raise DataError(
            f"{source} has the intercept ({as_target[0]}) as a row; rows must be targets, columns "
            "the intercept and landmarks. Transpose it."
        )
    if str(columns[0]).lower() not in _INTERCEPT_NAMES:
        raise DataError(
            f"{source}: its first column, {columns[0]}, is not called an intercept, so these are "
            f"not CMap's weights. If it is one, name it {INTERCEPT}."
        )


def _in_expression_units(bundle: Bundle) -> tuple[np.ndarray, np.ndarray]:
    """Weights (l, t) and intercept (t,), float64, from log2 expression to log2 expression."""
    model, known = bundle.model, bundle.preprocessor
    if isinstance(model, CMapLinear):
        return model.weight_lt.astype(np.float64), model.intercept_t.astype(np.float64)
    if not isinstance(model, OLS):
        raise UsageError(
            f"{bundle.path} is a model of kind {bundle.kind}, which has no linear weights. Export "
            "one of kind ols, ridge or lasso."
        )
    if not known.knows_expression:
        raise UsageError(
            f"{bundle.path} was trained on z-scores whose moments are not known, so its weights "
            "cannot be given for expression."
        )
    of_landmarks = slice(0, known.n_landmarks)
    scale_l, scale_t = (known.sd_g[part] + SD_OFFSET for part in (of_landmarks, known.of_targets))
    weight_lt = model.weight_lt * (scale_t / scale_l[:, None])
    intercept_t = model.intercept_t * scale_t + known.mean_g[known.of_targets]
    return weight_lt, intercept_t - known.mean_g[of_landmarks] @ weight_lt
