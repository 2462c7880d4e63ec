"""What made a folder: resolved options, versions, and hashes of the inputs, as ``run.toml``."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dgex.files import sha256_of, write_toml

_PACKAGES = ("dgex-torch", "numpy", "scipy", "pandas", "h5py", "anndata", "torch", "scikit-learn")

_NOT_REPEATED = {"overwrite", "resume"}
"""Options that belong to one run, not to what it makes."""


def versions() -> dict[str, str]:
    """Versions of Python, dgex and the packages it computes with."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _fingerprint(folder: Path) -> dict[str, str]:
    """Fingerprint of a Dataset or a Model; empty where it is neither, or has none."""
    for name in ("dataset.json", "model.json"):
        file = folder / name
        if file.is_file():
            found = json.loads(file.read_text("utf-8")).get("fingerprint")
            return {"fingerprint": str(found)} if found else {}
    return {}


def write_run(
    path: Path,
    verb: str,
    config: Any,
    inputs: Mapping[str, Any],
    resolved: Mapping[str, Any] | None = None,
) -> None:
    """Write ``run.toml``.

    Parameters
    ----------
    path
        The file to write.
    verb
        What was done: ``prepare``, ``train``, ``evaluate`` or ``predict``.
    config
        The frozen dataclass of resolved options; None for a verb without options of its own.
    inputs
        What it was done to, by role: files are named with their SHA-256, Datasets and Models with
        their fingerprint, other values by their text; None is left out.
    resolved
        What the program chose by itself.
    """
    described = {}
    for role, source in inputs.items():
        if source is None:
            continue
        if isinstance(source, (str, Path)) and Path(source).is_file():
            described[role] = {"path": str(source), "sha256": sha256_of(Path(source))}
        elif isinstance(source, (str, Path)):
            described[role] = {"name": str(source)} | _fingerprint(Path(source))
        else:
            described[role] = {"name": type(source).__name__}
    write_toml(
        path,
        {
            "verb": verb,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": {
                # As on the command line: for_ is called so only because for is a word of Python.
                name.rstrip("_"): value
                for name, value in (dataclasses.asdict(config) if config else {}).items()
                if name not in _NOT_REPEATED
            },
            "inputs": described,
            **({"resolved": resolved} if resolved else {}),
            "versions": versions(),
        },
    )
