"""The data set that comes with dgex: 592 colorectal tumours of TCGA, see README.md here."""

from __future__ import annotations

import importlib.resources
from pathlib import Path


def path() -> Path:
    """Path of the embedded GCTX: log2(RSEM + 1), shape (592 samples, 12,500 genes).

    Examples
    --------
    >>> path().name
    'tcga_coadread.gctx'
    """
    # A wheel is always installed unpacked, so the resource is a file of its own.
    return Path(str(importlib.resources.files(__name__) / "tcga_coadread.gctx"))
