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
_REPLACED_SUFFIX = ".replaced"

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def partial_path(path: Path) -> Path:
    """The name under which `path` is written until it is whole."""
    return _beside(path, PARTIAL_SUFFIX)


def _beside(path: Path, suffix: str) -> Path:
    if path.name in ("", ".."):
        raise UsageError(f"{path} is no name for something new. Choose another --out.")
    return path.with_name(path.name + suffix)


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
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            where = path if error.filename is None else error.filename
            raise DataError(
                f"No permission: {where} cannot be opened or written ({error.strerror}). "
                "Mend its rights, or choose another --out."
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise DataError(f"The name {path} is too long. Choose another --out.") from error
        raise


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise UsageError where `path` may not be written or replaced.

    It exists and `overwrite` is false; its folder is a file; or it is a folder that dgex did not
    make (it holds no ``run.toml``), which is never deleted.
    """
    _beside(path, "")
    with disk_errors(path):
        for parent in path.parents:
            if parent.exists() and not parent.is_dir():
                raise UsageError(
                    f"{parent} is a file, so {path} cannot be made. Choose another --out."
                )
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists already. Choose another --out or pass --overwrite.")
        if path.is_dir() and not (path / "run.toml").is_file() and any(path.iterdir()):
            raise UsageError(
                f"{path} is a folder that dgex did not make whole (it has no run.toml), so it is "
                "not replaced. Choose another --out, or remove it first."
            )


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = True, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it on success.

    On failure the file is removed, unless `keep_partial` is true: then it stays for a later
    ``--resume``.

    Raises
    ------
    UsageError
        `path` exists and `overwrite` is false, or it is a folder.
    DataError
        The disk is full, or the folder may not be written.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file cannot take its place. Choose another --out.")
    partial = partial_path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            if not keep_partial:
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
        `path` exists and `overwrite` is false, or it is a folder that dgex did not make.
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
            _swap_in(partial, path)
        finally:
            if not keep_partial:
                shutil.rmtree(partial, ignore_errors=True)


def _swap_in(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`; what was there is deleted only after that."""
    replaced = _beside(path, _REPLACED_SUFFIX)
    _remove(replaced)
    if path.exists() or path.is_symlink():
        os.replace(path, replaced)
    try:
        os.replace(partial, path)
    except OSError:
        if replaced.exists():
            os.replace(replaced, path)
        raise
    _remove(replaced)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
    if type(content).__module__ == "numpy" and hasattr(content, "item"):
        return content.item()
    return content
