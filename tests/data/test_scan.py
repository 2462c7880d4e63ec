"""One pass that counts what is missing and finds ranges and scale."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dgex.data.formats import reader
from dgex.data.matrix import open_matrix
from dgex.data.scan import Scan, choose_scale, log2_of, scan
from dgex.errors import DataError


def scanned(x_ng: np.ndarray) -> Scan:
    return scan(open_matrix(anndata.AnnData(x_ng)))


@settings(max_examples=80, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 8), st.integers(1, 6)),
        elements=st.one_of(st.floats(-9, 99), st.just(np.nan), st.just(1.0)),
    )
)
def test_counts_and_ranges_are_those_of_plain_loops(x_ng: np.ndarray) -> None:
    x_ng[:, 0] = np.where(np.isnan(x_ng[:, 0]), 0.5, x_ng[:, 0])  # no profile without values
    found = scanned(x_ng)
    for column, values in enumerate(x_ng.T):
        measured = [v for v in values if v == v]
        assert found.n_missing_p[column] == len(values) - len(measured)
        assert bool(found.constant_p[column]) == (len(set(measured)) <= 1)
        if measured:
            assert (found.low_p[column], found.high_p[column]) == (min(measured), max(measured))
        else:
            assert np.isnan(found.low_p[column])


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x_ng = rng.normal(size=(50, 7))
    x_ng[rng.random(x_ng.shape) < 0.2] = np.nan
    whole = scanned(x_ng)
    monkeypatch.setattr(reader, "BLOCK_BYTES", 8 * 7 * 3)
    parts = scanned(x_ng)
    for name in ("n_missing_p", "low_p", "high_p"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_profiles_without_values_are_named_from_every_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x_ng = np.ones((6, 2))
    x_ng[[1, 5]] = np.nan
    obs = pd.DataFrame(index=[f"sample {i}" for i in range(6)])
    monkeypatch.setattr(reader, "BLOCK_BYTES", 8 * 2 * 2)
    with pytest.raises(DataError, match=r"2 profiles of <AnnData> .*\(sample 1, sample 5\)"):
        scan(open_matrix(anndata.AnnData(x_ng, obs=obs)))


@pytest.mark.parametrize(
    ("values", "linear"),
    [
        ([0.0, 5000.0], True),
        ([0.0, 50.1], True),
        ([0.0, 50.0], False),
        ([2.0, 16.0], False),
        ([-1.5, 900.0], False),  # log-ratios times something: no TPM
        ([0.0, 0.0], False),
    ],
)
def test_tpm_and_counts_are_told_from_log2(values: list[float], linear: bool) -> None:
    assert scanned(np.array([values])).looks_linear is linear


def scale_of(low: float, high: float, log2: str) -> tuple[bool, list[str]]:
    notes: list[str] = []
    transform = choose_scale(
        Scan(np.array([0]), np.array([low]), np.array([high])), log2, notes.append
    )
    return float(transform(np.array([[7.0]]))[0, 0]) == 3.0, notes


@pytest.mark.parametrize(
    ("low", "high", "log2", "taken"),
    [
        (0, 1000, "auto", True),
        (0, 1000, "no", False),
        (0, 1000, "yes", True),
        (0, 12, "auto", False),
        (0, 12, "yes", True),
        (-3, 1000, "auto", False),
        (-3, 12, "no", False),
    ],
)
def test_log2_is_taken_as_asked_and_said(low: float, high: float, log2: str, taken: bool) -> None:
    found, notes = scale_of(low, high, log2)
    assert found is taken
    assert bool(notes) is taken


def test_log2_of_negative_values_is_refused() -> None:
    with pytest.raises(DataError, match=r"--log2 yes: the least value is -0\.5"):
        scale_of(-0.5, 12, "yes")


@pytest.mark.parametrize(("low", "high", "log2"), [(-2e36, 5, "auto"), (0, 1e39, "no")])
def test_values_too_great_to_be_squared_are_refused(low: float, high: float, log2: str) -> None:
    with pytest.raises(DataError, match="are no expression"):
        scale_of(low, high, log2)
    assert scale_of(0, 1e39, "auto")[0]


def test_log2_keeps_the_type_and_missing_values() -> None:
    x_bg = np.array([[1.0, np.nan]], dtype=np.float32)
    assert log2_of(x_bg).dtype == np.float32
    np.testing.assert_array_equal(log2_of(x_bg), [[1.0, np.nan]])
