"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_DIR = Path(
    os.environ.get("DGEX_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data")
)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real expression data; tests that need it skip where it is absent."""
    if not DATA_DIR.is_dir():
        message = f"no real data at {DATA_DIR}; set DGEX_DATA to their folder"
        if os.environ.get("DGEX_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return DATA_DIR
