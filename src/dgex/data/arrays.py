"""The intermediate arrays of the original D-GEX, a folder of npy files, as a Dataset.

They are standardised already, so neither the quantile reference nor the moments are known.

Source: the README of D-GEX, section Preprocess.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dgex import progress
from dgex.config import PrepareConfig
from dgex.data.dataset import Dataset, RowFile, write_index, write_set_genes
from dgex.data.genes import gene_table, read_genes
from dgex.data.normalise import SD_OFFSET, Moments
from dgex.data.preprocess import Preprocessor
from dgex.data.record import Record
from dgex.data.scan import GREATEST
from dgex.data.split import SPLITS
from dgex.errors import DataError, UsageError, name_list
from dgex.files import whole_directory
from dgex.provenance import write_run

log = logging.getLogger("dgex")

Genes = str | Path | Sequence[str] | None

_SETS = {
    "train": ("bgedv2_X_tr", "bgedv2_Y_tr"),
    "validation": ("bgedv2_X_va", "bgedv2_Y_va"),
    "test": ("bgedv2_X_te", "bgedv2_Y_te"),
    "1000g": ("1000G_X", "1000G_Y"),
    "gtex": ("GTEx_X", "GTEx_Y"),
}
_ENDING = "_float64.npy"
_OPTIONS = {"protocol", "overwrite"}
# With it, standardising leaves z-scores as they are.
_IDENTITY_SD = 1.0 - SD_OFFSET
_BLOCK_BYTES = 64 * 2**20
# A part of standardised profiles, as the training profiles are, has moments a little off 0 and 1.
_MEAN_WITHIN = 0.5
_SD_WITHIN = (0.5, 2.0)


@dataclass(frozen=True)
class _Part:
    """A file of targets.

    Attributes
    ----------
    path, array
        The file, and its memory map.
    start, stop
        Which targets it holds; `stop` is None in a file of all targets.
    """

    path: Path
    array: np.ndarray
    start: int
    stop: int | None


@dataclass(frozen=True)
class _Set:
    """Landmarks and targets of one set, as memory maps."""

    x_path: Path
    x_nl: np.ndarray
    parts: list[_Part]

    @property
    def start(self) -> int:
        return self.parts[0].start

    @property
    def n_targets(self) -> int:
        return sum(part.array.shape[1] for part in self.parts)


def prepare_arrays(
    folder: Path, out: Path, landmarks: Genes, targets: Genes, config: PrepareConfig
) -> Dataset:
    """Copy a folder of D-GEX's arrays, block by block, into a Dataset of protocol ``paper``.

    Parameters
    ----------
    folder
        Holds ``bgedv2_X_tr_float64.npy``, its targets as ``bgedv2_Y_tr_float64.npy`` or in parts
        such as ``bgedv2_Y_tr_0-4760_float64.npy``, the same for ``va`` and ``te``, and perhaps
        ``1000G_X_float64.npy``, ``GTEx_X_float64.npy`` and their targets.
    out
        Folder to write.
    landmarks, targets
        Gene lists or maps in the order of the columns; genes are called l0001, …, t0001, … where
        not given.
    config
        Options of ``prepare``; all but the protocol and overwrite are refused.

    Raises
    ------
    DataError
        A file is missing, is not an npy file of float64 numbers, or does not fit the others; or
        all landmarks or all targets are constant.
    UsageError
        An option is of no use here.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("tr", "va", "te"):
    ...     np.save(folder / f"bgedv2_X_{name}_float64.npy", np.eye(3))
    ...     np.save(folder / f"bgedv2_Y_{name}_0-2_float64.npy", np.eye(3)[:, :2])
    >>> dataset = prepare_arrays(folder, folder / "data", None, None, PrepareConfig())
    >>> dataset.protocol, list(dataset.targets.index)
    ('paper', ['t0001', 't0002'])
    """
    _refuse_options(config)
    sets = _open_sets(folder)
    first = sets["train"]
    n_landmarks, n_targets = first.x_nl.shape[1], first.n_targets
    landmark_table = _named(landmarks, "landmarks", "l", 0, n_landmarks, first.x_path)
    target_table = _named(targets, "targets", "t", first.start, n_targets, first.parts[0].path)
    record = Record()
    record.note(
        f"{folder}: standardised arrays of D-GEX, {n_landmarks} landmarks and {n_targets} targets, "
        "under protocol paper; their quantile reference and moments are not known."
    )
    if config.protocol == "strict":
        _warn(
            record,
            f"{folder} was split at random and standardised over all profiles, so the Dataset is "
            "of protocol paper, not strict. Pass --protocol paper where that is meant.",
        )
    with whole_directory(out, overwrite=config.overwrite) as partial:
        for name, one in sets.items():
            moments = Moments(n_landmarks + n_targets) if name == "train" else None
            products_ll = _write_set(name, one, partial / "sets" / name, moments)
            record.note(f"{name}: {len(one.x_nl)} profiles.")
            if moments is not None:
                correlation_ll = products_ll
                genes = landmark_table.index.append(target_table.index)
                _check_moments(folder, moments, genes, n_landmarks, record)
        preprocessor = Preprocessor(
            landmark_table,
            target_table,
            reference_g=np.empty(0),
            mean_g=np.zeros(n_landmarks + n_targets),
            sd_g=np.full(n_landmarks + n_targets, _IDENTITY_SD),
            correlation_ll=correlation_ll,
        )
        preprocessor.save(partial / "preprocessing")
        set_genes = pd.DataFrame(
            {"present": True, "mean": 0.0, "sd": _IDENTITY_SD}, index=preprocessor.genes.index
        )
        for name in sets:
            write_set_genes(partial / "sets" / name, set_genes)
        record.save(partial / "dropped.tsv")
        inputs: dict[str, object] = {"landmarks": landmarks, "targets": targets}
        for one in sets.values():
            inputs |= {path.name: path for path in (one.x_path, *(p.path for p in one.parts))}
        paper = dataclasses.replace(config, protocol="paper")
        write_run(partial / "run.toml", "prepare", paper, inputs)
        write_index(partial, preprocessor, "paper", list(sets), record.notes)
    return Dataset(out)


def _refuse_options(config: PrepareConfig) -> None:
    idle = [
        "--" + field.name.replace("_", "-")
        for field in dataclasses.fields(config)
        if field.name not in _OPTIONS and getattr(config, field.name) != field.default
    ]
    if idle:
        raise UsageError(
            f"{name_list(idle)}: of no use for a folder of arrays, which are split and "
            "standardised already. Leave it out."
        )


def _open_sets(folder: Path) -> dict[str, _Set]:
    """The sets that the folder holds, train first, all of the same genes."""
    sets = {}
    missing = []
    for name, (x_stem, y_stem) in _SETS.items():
        x_path = folder / f"{x_stem}{_ENDING}"
        parts = _open_parts(folder, y_stem)
        if x_path.is_file() and parts:
            sets[name] = _Set(x_path, _open(x_path), parts)
        elif x_path.is_file() or parts or name in SPLITS:
            missing += [] if x_path.is_file() else [x_path.name]
            missing += [] if parts else [f"{y_stem}{_ENDING} (or parts such as {y_stem}_0-4760…)"]
    if missing:
        raise DataError(
            f"{folder} is not a whole folder of D-GEX's arrays: it lacks {name_list(missing, 10)}. "
            "Put the files there, or name an expression matrix."
        )
    first = sets["train"]
    for one in sets.values():
        _check_set(one, first)
    return sets


def _open_parts(folder: Path, stem: str) -> list[_Part]:
    whole = folder / f"{stem}{_ENDING}"
    pattern = re.compile(re.escape(stem) + r"_(\d+)-(\d+)" + re.escape(_ENDING))
    found = [(path, pattern.fullmatch(path.name)) for path in sorted(folder.iterdir())]
    parts = [
        _Part(path, _open(path), int(match[1]), int(match[2])) for path, match in found if match
    ]
    if whole.is_file():
        if parts:
            raise DataError(
                f"{folder} holds {whole.name} and parts of it too "
                f"({name_list(part.path.name for part in parts)}). Take one of the two away."
            )
        return [_Part(whole, _open(whole), 0, None)]
    return sorted(parts, key=lambda part: part.start)


def _open(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        # numpy's own message for a pickle advises to allow it, which may run anything.
        if "allow_pickle" in reason or "Python objects" in reason:
            reason = "a pickle of Python objects"
        raise DataError(
            f"{path} is not a whole npy file of numbers ({reason}). Save the array with numpy.save."
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an archive of arrays, not one. Save it with numpy.save.")
    if array.dtype != np.dtype("<f8"):
        raise DataError(f"{path} holds {array.dtype}, not float64 as its name says.")
    if array.ndim != 2 or 0 in array.shape:
        raise DataError(f"{path} has shape {array.shape}, not (profiles, genes).")
    return array


def _check_set(one: _Set, first: _Set) -> None:
    """Raise DataError where files of a set, or the genes of two sets, do not fit each other."""
    n = len(one.x_nl)
    if one.x_nl.shape[1] != first.x_nl.shape[1]:
        raise DataError(
            f"{one.x_path} has {one.x_nl.shape[1]} landmarks, {first.x_path.name} has "
            f"{first.x_nl.shape[1]}."
        )
    expected = one.start
    for part in one.parts:
        rows, width = part.array.shape
        if rows != n:
            raise DataError(f"{part.path} has {rows} profiles, {one.x_path.name} has {n}.")
        if part.stop is None:
            continue
        if width != part.stop - part.start:
            raise DataError(
                f"{part.path} has {width} targets, not {part.stop - part.start} as its name says."
            )
        if part.start != expected:
            raise DataError(
                f"{part.path} begins at target {part.start}, where target {expected} should come: "
                "a part is missing, or two overlap."
            )
        expected = part.stop
    if (one.start, one.n_targets) != (first.start, first.n_targets):
        raise DataError(
            f"The targets of {one.x_path.name} are {one.start}:{one.start + one.n_targets}, those "
            f"of {first.x_path.name} {first.start}:{first.start + first.n_targets}. Give every set "
            "the same parts."
        )


def _named(source: Genes, role: str, letter: str, start: int, n: int, path: Path) -> pd.DataFrame:
    """The gene table of a list, or made-up names that count from `start` + 1."""
    if source is None:
        names = [f"{letter}{start + i + 1:04d}" for i in range(n)]
        return gene_table(pd.DataFrame(index=names))
    table = read_genes(source, pd.DataFrame())
    if len(table) != n:
        raise DataError(
            f"The list of {role} names {len(table)} genes, {path} has {n} columns. Give the list "
            "that the arrays were made with."
        )
    return table


def _warn(record: Record, sentence: str) -> None:
    log.warning("%s", sentence)
    record.notes.append(sentence)


def _check_moments(
    folder: Path, moments: Moments, genes: pd.Index, n_landmarks: int, record: Record
) -> None:
    """Warn of genes that are no z-scores; refuse landmarks or targets that are all constant."""
    mean_g, sd_g, constant_g = moments.mean_g, moments.sd_g, moments.constant_g
    for role, part in (("landmark", slice(n_landmarks)), ("target", slice(n_landmarks, None))):
        if constant_g[part].all():
            raise DataError(
                f"Every {role} of {folder} has one value in all training profiles, so nothing can "
                "be learned. Take the arrays that the original wrote."
            )
    if constant_g.any():
        _warn(
            record,
            f"{constant_g.sum()} genes of {folder} have one value in all training profiles "
            f"({name_list(genes[constant_g])}).",
        )
    least, most = _SD_WITHIN
    off_g = (np.abs(mean_g) > _MEAN_WITHIN) | (~constant_g & ((sd_g < least) | (sd_g > most)))
    if off_g.any():
        mean_o, sd_o = np.round(mean_g[off_g], 2) + 0.0, np.round(sd_g[off_g], 2)
        _warn(
            record,
            f"{off_g.sum()} of {len(genes)} genes of {folder} are not standardised "
            f"({name_list(genes[off_g])}): over the training profiles their means are "
            f"{mean_o.min():g} to {mean_o.max():g}, their standard deviations "
            f"{sd_o.min():g} to {sd_o.max():g}. Models learn them as they are; where that is "
            "not meant, take the arrays that the original wrote.",
        )


def _write_set(name: str, one: _Set, folder: Path, moments: Moments | None) -> np.ndarray:
    """Copy a set to float32 files; returns the correlation of its landmarks, (l, l).

    `moments` takes its landmarks and targets.
    """
    folder.mkdir(parents=True)
    n, n_landmarks = one.x_nl.shape
    block_rows = max(1, _BLOCK_BYTES // (8 * (n_landmarks + one.n_targets)))
    sum_l, products_ll = np.zeros(n_landmarks), np.zeros((n_landmarks, n_landmarks))
    with (
        RowFile(folder / "x_nl.npy", n, n_landmarks) as x_file,
        RowFile(folder / "y_nt.npy", n, one.n_targets) as y_file,
    ):
        for start in range(0, n, block_rows):
            rows = slice(start, min(start + block_rows, n))
            x_bl = _numbers(one.x_path, one.x_nl, rows)
            x_file.write(x_bl)
            y_bt = np.hstack([_numbers(part.path, part.array, rows) for part in one.parts])
            y_file.write(y_bt)
            if moments is not None:
                moments.add(np.hstack([x_bl, y_bt]))
            sum_l += x_bl.sum(axis=0)
            products_ll += x_bl.T @ x_bl
            progress.report(f"copying {name}", rows.stop, n)
    samples = pd.Index([f"{name}{i + 1}" for i in range(n)], name="sample")
    pd.DataFrame(index=samples).to_csv(folder / "obs.tsv", sep="\t")
    covariance_ll = products_ll / n - np.outer(sum_l, sum_l) / n**2
    sd_l = np.sqrt(np.maximum(np.diag(covariance_ll), 1e-12))
    return np.asarray(covariance_ll / np.outer(sd_l, sd_l), dtype=np.float32)


def _numbers(path: Path, array: np.ndarray, rows: slice) -> np.ndarray:
    block = np.array(array[rows])
    # Also false where a value is missing.
    right_b = (np.abs(block) <= GREATEST).all(axis=1)
    if not right_b.all():
        raise DataError(
            f"{path} has values that are not finite numbers up to {GREATEST:g} (profile "
            f"{rows.start + int(np.argmin(right_b))}). The arrays of D-GEX have none."
        )
    return block
