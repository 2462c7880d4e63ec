"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dgex.data.dataset import Dataset, RowFile, write_index
from dgex.data.preprocess import Preprocessor

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


SIZES = {"train": 90, "validation": 24, "test": 21, "gtex": 15}


def gene_table(prefix, n):
    ids = [f"{prefix}{i}" for i in range(n)]
    table = pd.DataFrame({"symbol": ids, "ensembl": "", "entrez": "", "probes": ""}, index=ids)
    table.index.name = "gene"
    return table


def make_dataset(
    folder, *, landmarks=6, targets=9, sizes=SIZES, seed=0, x_of=None, absent=(1, 4), notes=()
):
    """Targets that depend on the landmarks, bent a little, with noise; gtex lacks `absent`."""
    rng = np.random.default_rng(seed)
    weight_lt = rng.normal(size=(landmarks, targets)) / np.sqrt(landmarks)
    names = [*gene_table("l", landmarks).index, *gene_table("t", targets).index]
    g = landmarks + targets
    preprocessor = Preprocessor(
        landmarks=gene_table("l", landmarks),
        targets=gene_table("t", targets),
        reference_g=np.sort(rng.normal(8, 2, g)),
        mean_g=rng.normal(8, 1, g),
        sd_g=np.ones(g),
        correlation_ll=np.eye(landmarks),
    )
    preprocessor.save(folder / "preprocessing")
    for name, n in sizes.items():
        x_nl = rng.normal(size=(n, landmarks)).astype(np.float32)
        if x_of is not None:
            x_nl = x_of(x_nl)
        y_nt = np.tanh(1.5 * x_nl @ weight_lt) + 0.3 * rng.normal(size=(n, targets)) + 0.1
        present_g = np.ones(g, bool)
        if name == "gtex":
            present_g[[landmarks + t for t in absent]] = False
            y_nt[:, list(absent)] = 0.0
        place = folder / "sets" / name
        place.mkdir(parents=True)
        for file, array in (("x_nl.npy", x_nl), ("y_nt.npy", y_nt)):
            with RowFile(place / file, n, array.shape[1]) as rows:
                rows.write(array)
        samples = pd.Index([f"{name}{i}" for i in range(n)], name="sample")
        pd.DataFrame(index=samples).to_csv(place / "obs.tsv", sep="\t")
        genes = pd.DataFrame({"gene": names, "present": present_g, "mean": 0.0, "sd": 1.0})
        genes.to_csv(place / "genes.tsv", sep="\t", index=False)
    write_index(folder, preprocessor, "paper", list(sizes), list(notes))
    return Dataset.open(folder)


@pytest.fixture(scope="session")
def write_dataset():
    """Write a small Dataset with its own parts, from arrays made here."""
    return make_dataset
