"""A Dataset: standardised landmarks and targets of every split and external set, on disk.

The folder holds ``dataset.json``, ``run.toml``, ``dropped.tsv``, ``preprocessing/`` and one folder
per set under ``sets/`` with ``x_nl.npy``, ``y_nt.npy`` (float32, z-scores), ``obs.tsv`` and
``genes.tsv`` (which genes were measured, and the moments they were standardised by).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pandas as pd

from dgex.data.preprocess import Preprocessor
from dgex.data.split import SPLITS
from dgex.data.tables import read_table
from dgex.errors import DataError, UsageError, name_list
from dgex.files import sha256_of, write_json

FORMAT_VERSION = 1
_INDEX: dict[str, Callable[[Any], Any]] = {
    "protocol": str,
    "n_landmarks": int,
    "n_targets": int,
    "sets": list,
    "fingerprint": str,
    "notes": list,
}


class RowFile:
    """An npy file, float32 unless asked otherwise, written block by block, in order.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "x.npy"
    >>> with RowFile(path, n_rows=2, width=3) as rows:
    ...     rows.write(np.ones((2, 3)))
    >>> np.load(path).shape
    (2, 3)
    """

    def __init__(
        self, path: Path, n_rows: int, width: int, dtype: Literal["<f4", "<f8"] = "<f4"
    ) -> None:
        self._handle = open(path, "wb")  # noqa: SIM115 - closed by close()
        self._dtype = dtype
        header = {"descr": dtype, "fortran_order": False, "shape": (n_rows, width)}
        np.lib.format.write_array_header_1_0(self._handle, header)

    def write(self, x_bw: np.ndarray) -> None:
        """Append rows, shape (b, width)."""
        self._handle.write(np.ascontiguousarray(x_bw, dtype=self._dtype).data)

    def close(self) -> None:
        """Finish the file."""
        self._handle.close()

    def __enter__(self) -> RowFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class ProfileSet:
    """One split or external set of a Dataset.

    Attributes
    ----------
    name
        ``train``, ``validation``, ``test`` or the name of an external set.
    folder
        Where its files are.
    n_landmarks, n_targets
        Numbers of genes in its files.
    targets
        Which of the targets in its files it holds.
    """

    name: str
    folder: Path
    n_landmarks: int
    n_targets: int
    targets: slice = field(default_factory=lambda: slice(None))

    @cached_property
    def x_nl(self) -> np.ndarray:
        """Landmarks, z-scores, float32 memory map of shape (n, l)."""
        return _open_array(self.folder / "x_nl.npy", self.n_landmarks)

    @cached_property
    def y_nt(self) -> np.ndarray:
        """Targets, z-scores, float32 memory map of shape (n, t); 0 where not measured."""
        return _open_array(self.folder / "y_nt.npy", self.n_targets)[:, self.targets]

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Table of profiles, all columns text, indexed by sample id."""
        return read_table(self.folder / "obs.tsv").rename_axis("sample")

    @cached_property
    def genes(self) -> pd.DataFrame:
        """Landmarks then targets: ``gene``, ``present``, ``mean``, ``sd`` (log2 expression)."""
        table = read_table(self.folder / "genes.tsv").reset_index()
        table["present"] = table["present"] == "True"
        targets = table.iloc[self.n_landmarks :].iloc[self.targets]
        table = pd.concat([table.iloc[: self.n_landmarks], targets], ignore_index=True)
        return table.astype({"mean": float, "sd": float})

    @property
    def present_l(self) -> np.ndarray:
        """Which landmarks were measured, shape (l,)."""
        return self.genes["present"].to_numpy(bool)[: self.n_landmarks]

    @property
    def present_t(self) -> np.ndarray:
        """Which targets were measured, shape (t,)."""
        return self.genes["present"].to_numpy(bool)[self.n_landmarks :]

    @property
    def n(self) -> int:
        """Number of profiles."""
        return len(self.x_nl)

    def blocks(self, rows: int = 1024) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Yield (first row, landmarks, targets) for row blocks, as arrays in memory."""
        for start in range(0, self.n, rows):
            stop = min(start + rows, self.n)
            yield start, np.array(self.x_nl[start:stop]), np.array(self.y_nt[start:stop])


def _open_array(path: Path, width: int) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}). Prepare the Dataset again.") from error
    if array.ndim != 2 or array.shape[1] != width:
        raise DataError(f"{path} has shape {array.shape}, not (n, {width}). Prepare it again.")
    return array


class Dataset:
    """A prepared Dataset, opened from its folder.

    Parameters
    ----------
    path
        The folder that ``prepare`` wrote.

    Attributes
    ----------
    learned
        What a model computed from the training profiles that the next one can use, by name.

    Raises
    ------
    UsageError
        There is no such folder.
    DataError
        The folder is not a whole Dataset.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.learned: dict[str, Any] = {}
        self._index = _read_index(self.path)

    @classmethod
    def open(cls, source: Dataset | str | Path) -> Dataset:
        """The Dataset at a path, or `source` itself if it is one already."""
        return source if isinstance(source, Dataset) else cls(source)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def protocol(self) -> str:
        """``strict`` or ``paper``."""
        return str(self._index["protocol"])

    @property
    def sets(self) -> list[str]:
        """Names of the splits and external sets."""
        return list(self._index["sets"])

    @property
    def externals(self) -> list[str]:
        """Names of the external sets."""
        return [name for name in self.sets if name not in SPLITS]

    @property
    def fingerprint(self) -> str:
        """Hash of values, genes, samples, splits and normalisation: equal for equal Datasets."""
        return str(self._index["fingerprint"])

    @property
    def notes(self) -> list[str]:
        """What was dropped, filled or imputed when it was made, one sentence each."""
        return list(self._index["notes"])

    @cached_property
    def preprocessor(self) -> Preprocessor:
        """Panel, targets and normalisation."""
        return Preprocessor.load(self.path / "preprocessing")

    @property
    def landmarks(self) -> pd.DataFrame:
        """Gene table of the landmarks."""
        return self.preprocessor.landmarks

    @property
    def targets(self) -> pd.DataFrame:
        """Gene table of the targets."""
        return self.preprocessor.targets

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {self[name].n}" for name in self.sets)
        genes = f"{self._index['n_landmarks']} landmarks, {self._index['n_targets']} targets"
        return f"<Dataset {self.path} ({self.protocol}): {genes}; {sizes}>"

    def __getitem__(self, name: str) -> ProfileSet:
        if name not in self.sets:
            raise UsageError(f"{self.path} has no set {name}; it has {', '.join(self.sets)}.")
        folder = self.path / "sets" / name
        return ProfileSet(name, folder, self._index["n_landmarks"], self._index["n_targets"])


def _read_index(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise UsageError(f"{path}: no such Dataset. Make one with dgex prepare.")
    index_path = path / "dataset.json"
    if not index_path.is_file():
        if (path / "model.json").is_file():
            raise UsageError(f"{path} is a Model, not a Dataset. Name the folder of a Dataset.")
        raise DataError(
            f"{path} is not a whole Dataset: dataset.json is missing. Prepare it again."
        )
    try:
        index = json.loads(index_path.read_text("utf-8"))
        version = index["format"]
        if version == FORMAT_VERSION:
            sizes = dict(index["files"])
            index = {key: kind(index[key]) for key, kind in _INDEX.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index_path} is damaged ({error}). Prepare the Dataset again.") from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} has format {version}; this dgex reads {FORMAT_VERSION}. Prepare it again."
        )
    check_files(path, sizes, "Prepare the Dataset again.")
    return index


def write_index(
    folder: Path, preprocessor: Preprocessor, protocol: str, sets: list[str], notes: list[str]
) -> None:
    """Write ``dataset.json``, last of all files: a folder without it is not a Dataset."""
    digest = hashlib.sha256()
    for name in sets:
        digest.update(f"\0{name}\0".encode())
        for file in ("obs.tsv", "genes.tsv", "x_nl.npy", "y_nt.npy"):
            digest.update(sha256_of(folder / "sets" / name / file).encode())
    digest.update(preprocessor.reference_g.tobytes())
    content = {
        "format": FORMAT_VERSION,
        "protocol": protocol,
        "n_landmarks": len(preprocessor.landmarks),
        "n_targets": len(preprocessor.targets),
        "sets": sets,
        "fingerprint": digest.hexdigest(),
        "notes": notes,
        "files": file_sizes(folder),
    }
    write_json(folder / "dataset.json", content)


def write_set_genes(folder: Path, genes: pd.DataFrame) -> None:
    """Write a set's ``genes.tsv``: ``present``, ``mean`` and ``sd``, indexed by gene id."""
    genes.to_csv(folder / "genes.tsv", sep="\t", index_label="gene")


def file_sizes(folder: Path) -> dict[str, int]:
    """Size in bytes of every file below `folder`, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_files(folder: Path, sizes: dict[str, int], remedy: str) -> None:
    """Raise DataError where a file of `folder` is missing or has another size."""
    wrong = [
        name
        for name, size in sizes.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    if wrong:
        raise DataError(f"{folder} is not whole: {name_list(wrong)} missing or cut off. {remedy}")
