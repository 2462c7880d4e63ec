"""A small Dataset on disk for every test."""

from __future__ import annotations

import pytest


@pytest.fixture
def make(tmp_path, write_dataset):
    """Make Datasets, each in a folder of its own."""
    return lambda name="data", **kwargs: write_dataset(tmp_path / name, **kwargs)


@pytest.fixture
def dataset(make):
    return make()
