"""Files out: written beside their final name and renamed when whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dgex.errors import DataError, DgexError, UsageError

if sys.platform != "win32":
    import fcntl

PARTIAL_SUFFIX = ".partial"
_REPLACED_SUFFIX = ".replaced"
_LOCK_SUFFIX = ".partial.lock"

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
    except Exception as error:
        # HDF5 and safetensors report the system's error only inside their messages.
        text, code = str(error), getattr(error, "errno", None)
        if code in _DISK_FULL or any(os.strerror(full) in text for full in _DISK_FULL):
            raise DataError(
                f"The disk is full: {path} could not be written and nothing of it was kept. "
                "Free some space or choose another --out."
            ) from error
        if not isinstance(error, OSError):
            raise
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            where = path if error.filename is None else error.filename
            raise DataError(
                f"No permission: {where} cannot be opened or written ({error.strerror}). "
                "Mend its rights, or choose another --out."
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise DataError(f"The name {path} is too long. Choose another --out.") from error
        raise


def refuse_existing(path: Path, overwrite: bool, inputs: Iterable[object] = ()) -> None:
    """Raise UsageError where `path` may not be written or replaced.

    It exists and `overwrite` is false; its folder is a file; it is a folder that dgex did not
    make (it holds no ``run.toml``), which is never deleted; or it is, or holds, one of the files
    and folders among `inputs`.
    """
    _beside(path, "")
    with disk_errors(path):
        for source in inputs:
            if isinstance(source, (str, Path)) and _holds(path, Path(source)):
                raise UsageError(
                    f"{path} is to be read ({source}), so it is not replaced. Choose another --out."
                )
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


def _holds(path: Path, source: Path) -> bool:
    return source.exists() and source.resolve().is_relative_to(path.resolve())


def refuse_folder(path: Path) -> None:
    """Raise UsageError where `path`, the name of a file to write, is a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; a file cannot take its place. Choose another --out.")


def refuse_unwritable(path: Path) -> None:
    """Raise DataError where nothing can be made at `path`, before work that would be lost.

    Examples
    --------
    >>> import tempfile
    >>> refuse_unwritable(Path(tempfile.mkdtemp()) / "new" / "profiles.gctx")
    """
    with (
        _making(path),
        tempfile.TemporaryFile(dir=_existing_folder(path)),
        contextlib.suppress(FileNotFoundError),
    ):
        # The longest name beside it may be too long.
        _beside(path, _LOCK_SUFFIX).stat()


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that `path` lies on, or would lie on.

    Examples
    --------
    >>> free_bytes(Path("no-such-folder/profiles.gctx")) > 0
    True
    """
    with _making(path):
        return shutil.disk_usage(_existing_folder(path)).free


def _existing_folder(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.exists())


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Turn every error of the system while a file or folder is begun into a DataError."""
    try:
        with disk_errors(path):
            yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be made: its folder takes no new file ({error.strerror}). Choose "
            "another place."
        ) from error


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Refuse to write what another process is writing: both would write the same partial file."""
    if sys.platform == "win32":
        yield
        return
    lock = _beside(path, _LOCK_SUFFIX)
    with open(lock, "ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{path} is being written by another dgex. Wait for it, or choose another --out."
            ) from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = True, keep_partial: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`, renamed to it on success.

    On failure the file is removed, unless `keep_partial` is true: then it stays for a later
    ``--resume``.

    Raises
    ------
    UsageError
        `path` exists and `overwrite` is false, it is a folder, or another process writes it.
    DataError
        The disk is full, or the folder takes no new file.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    refuse_folder(path)
    partial = partial_path(path)
    with disk_errors(path), contextlib.ExitStack() as stack:
        with _making(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_only_writer(path))
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
        `path` exists and `overwrite` is false, it is a file or a folder that dgex did not make,
        or another process writes it.
    DataError
        The disk is full, or the folder takes no new file.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    if path.is_file():
        raise UsageError(f"{path} is a file; a folder cannot take its place. Choose another --out.")
    partial = partial_path(path)
    with disk_errors(path), contextlib.ExitStack() as stack:
        with _making(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_only_writer(path))
            if not keep_partial:
                shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(exist_ok=True)
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
