"""The embedded demo data are what their README says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from dgex import demo_data
from dgex.data.matrix import open_matrix


@pytest.fixture(scope="module")
def path() -> Path:
    return demo_data.path()


@pytest.fixture(scope="module")
def readme(path: Path) -> str:
    return path.with_name("README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def x_ng(path: Path) -> NDArray[np.float32]:
    with h5py.File(path) as file:
        values: NDArray[np.float32] = file["0/DATA/0/matrix"][:]
    return values


def field(path: Path, name: str) -> list[str]:
    with h5py.File(path) as file:
        return [text.decode() for text in file[f"0/META/{name}"][:]]


def test_size_and_checksums_are_those_of_the_readme(
    path: Path, readme: str, x_ng: NDArray[np.float32]
) -> None:
    assert path.stat().st_size <= 10_000_000
    assert f"| {path.stat().st_size:,} bytes |" in readme
    assert f"| tcga_coadread.gctx | {hashlib.sha256(path.read_bytes()).hexdigest()} |" in readme
    assert f"| {hashlib.sha256(x_ng.astype('<f4').tobytes()).hexdigest()} |" in readme


def test_shape_and_version(path: Path, readme: str, x_ng: NDArray[np.float32]) -> None:
    assert x_ng.shape == (592, 12_500)
    assert x_ng.dtype == np.float32
    assert "592 colorectal tumours" in readme
    assert "12,500 genes" in readme
    with h5py.File(path) as file:
        assert file.attrs["version"] == b"GCTX1.0"


def test_samples_are_one_tumour_per_patient(path: Path) -> None:
    samples = field(path, "COL/id")
    patients = field(path, "COL/patient")
    assert len(samples) == len(set(samples)) == len(set(patients)) == 592
    assert all(re.fullmatch(r"TCGA-\w\w-\w{4}-01", sample) for sample in samples)
    assert [sample[:12] for sample in samples] == patients


def test_genes_have_unique_names(path: Path) -> None:
    symbols = field(path, "ROW/id")
    entrez = field(path, "ROW/entrez")
    assert len(symbols) == len(set(symbols)) == len(set(entrez)) == 12_500
    assert all(number.isdigit() for number in entrez)
    assert dict(zip(symbols, entrez, strict=True))["EPCAM"] == "4072"


def test_values_are_log2_expression(x_ng: NDArray[np.float32]) -> None:
    assert np.isfinite(x_ng).all()
    assert x_ng.min() == 0
    assert x_ng.max() < np.log2(1e6)
    np.testing.assert_array_equal(x_ng * 128, np.round(x_ng * 128))
    assert (x_ng.std(axis=0) > 0).all()
    median_g = np.median(x_ng, axis=0)
    # Highest first, but for the rounding of the two samples in the middle.
    assert (np.diff(median_g) <= 1 / 128).all()
    # A gene is kept where RSEM is at least 10 in half of the samples.
    assert ((x_ng >= np.log2(11) - 1 / 256).mean(axis=0) >= 0.5).all()
    # Samples are of like depth, or the demo would need another normalisation.
    total_n = (2.0**x_ng - 1).sum(axis=1)
    assert total_n.max() / total_n.min() < 3


def test_colorectal_genes_are_high(path: Path, x_ng: NDArray[np.float32]) -> None:
    symbols = field(path, "ROW/id")
    rank = {symbol: position for position, symbol in enumerate(symbols)}
    # An epithelial and two intestinal markers; a gene of sperm is not there at all.
    for gene in ("EPCAM", "CDX2", "VIL1"):
        assert np.median(x_ng[:, rank[gene]]) > 10
    assert "PRM1" not in rank


def test_the_reader_of_dgex_opens_it(path: Path, x_ng: NDArray[np.float32]) -> None:
    with open_matrix(path) as matrix:
        assert matrix.shape == (592, 12_500)
        assert list(matrix.obs["patient"]) == field(path, "COL/patient")
        assert list(matrix.var.index) == field(path, "ROW/id")
        np.testing.assert_array_equal(matrix.rows(10, 13), x_ng[10:13])
