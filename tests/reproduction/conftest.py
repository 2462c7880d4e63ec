"""A tiny reproduction, really run once, for tests that read what it wrote."""

from __future__ import annotations

import pytest

from dgex.reproduction.verb import reproduce

SIZES = {"train": 60, "validation": 20, "test": 18, "gtex": 15, "1000g": 12}
OPTIONS = {
    "grid": "small",
    "hidden_layers": (1, 2),
    "hidden_units": (3, 8),
    "dropout": (0.0, 0.25),
    "epochs": 4,
}


@pytest.fixture(scope="session")
def options():
    return OPTIONS


@pytest.fixture
def make(tmp_path, write_dataset):
    """Make Datasets, each in a folder of its own."""

    def make(name="data", sizes=SIZES, **kwargs):
        return write_dataset(tmp_path / name, sizes=sizes, **kwargs)

    return make


@pytest.fixture(scope="session")
def done(tmp_path_factory, write_dataset):
    """The Dataset, the folder and the tables of a whole reproduction."""
    folder = tmp_path_factory.mktemp("reproduction")
    dataset = write_dataset(folder / "data", sizes=SIZES, absent=(1, 4))
    tables = reproduce(dataset, folder / "out", **OPTIONS)
    return dataset, folder / "out", tables
