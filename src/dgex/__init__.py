"""Infer a full transcriptome from about a thousand measured landmark genes.

The verbs of the command line are functions: `prepare`, `train`, `evaluate`, `predict` and
`reproduce`.
Names are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgex.data.dataset import Dataset
    from dgex.data.matrix import create_matrix, open_matrix
    from dgex.data.panel import choose_panel
    from dgex.data.prepare import prepare
    from dgex.errors import DataError, DgexError, UsageError
    from dgex.evaluation.verb import evaluate
    from dgex.inference import predict
    from dgex.models.bundle import Bundle
    from dgex.models.fit import train
    from dgex.reproduction.verb import reproduce

__version__ = "0.1.0"

_HOME = {
    "Bundle": "dgex.models.bundle",
    "DataError": "dgex.errors",
    "Dataset": "dgex.data.dataset",
    "DgexError": "dgex.errors",
    "UsageError": "dgex.errors",
    "choose_panel": "dgex.data.panel",
    "create_matrix": "dgex.data.matrix",
    "evaluate": "dgex.evaluation.verb",
    "open_matrix": "dgex.data.matrix",
    "predict": "dgex.inference",
    "prepare": "dgex.data.prepare",
    "reproduce": "dgex.reproduction.verb",
    "train": "dgex.models.fit",
}

__all__ = [
    "Bundle",
    "DataError",
    "Dataset",
    "DgexError",
    "UsageError",
    "choose_panel",
    "create_matrix",
    "evaluate",
    "open_matrix",
    "predict",
    "prepare",
    "reproduce",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dgex' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
