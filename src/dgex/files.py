"""Files out: written beside their final name and renamed when whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgex.errors import DataError, DgexError, UsageError

PARTIAL_SUFFIX = ".partial"

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def partial_path(path: Path) -> Path:
    """The name under which `path` is written until it is whole."""
    return path.with_name(path.name + PARTIAL_SUFFIX)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into a one-line DataError that names `path`."""
    try:
        yield
    except DgexError:
        raise
    except OSError as error:
        # HDF5 reports the system's error only inside its message.
        text = str(error)
        if error.errno in _DISK_FULL or any(os.strerror(code) in text for code in _DISK_FULL):
            raise DataError(
                f"The disk is full: {path} could not be written and nothing of it was kept. "
                "Free some space or choose another --out."
            ) from error
        if isinstance(error, PermissionError):
            raise DataError(
                f"No permission to write {path}. Choose another --out or mend the folder's rights."
            ) from error
        raise


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError where `path` exists and may not be replaced, or its folder is a file."""
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UsageError(f"{parent} is a file, so {path} cannot be made. Choose another --out.")
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists already. Choose another --out or pass --overwrite.")


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it on success and removed on failure.

    Raises
    ------
    UsageError
        `path` exists and `overwrite` is false.
    DataError
        The disk is full, or the folder may not be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    partial = partial_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(
    path: Path, *, overwrite: bool = False, keep_partial: bool = False
) -> Iterator[Path]:
    """Yield a folder beside `path`, renamed to it on success.

    On failure the folder is removed, unless `keep_partial` is true: then it stays for a
    later ``--resume`` and is yielded again with what it holds.

    Raises
    ------
    UsageError
        `path` exists and `overwrite` is false.
    DataError
        The disk is full, or the folder may not be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    partial = partial_path(path)
    with disk_errors(path):
        if not keep_partial:
            shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            os.replace(partial, path)
        finally:
            if not keep_partial:
                shutil.rmtree(partial, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def write_toml(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as TOML, whole or not at all; None values are left out, as TOML has none."""
    import tomli_w

    with whole_file(path) as partial:
        partial.write_text(tomli_w.dumps(_without_none(content)), "utf-8")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    DataError
        The file is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}.") from error


def _without_none(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(k): _without_none(v) for k, v in content.items() if v is not None}
    if isinstance(content, (list, tuple)):
        return [_without_none(item) for item in content]
    if isinstance(content, Path):
        return str(content)
    return content
