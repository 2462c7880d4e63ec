"""Sets by their own and by training moments: converted as they would have been prepared."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import dgex
from dgex.data.moments import moments_of, standardisations


def expression(seed, n, genes, shift=0.0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    weights = np.random.default_rng(1).normal(size=(3, 20))[:, genes]
    x_ng = 8 + shift + hidden @ weights + 0.3 * rng.normal(size=(n, len(genes)))
    return anndata.AnnData(x_ng, var=pd.DataFrame(index=[f"g{i}" for i in genes]))


@pytest.fixture(params=["infer", "mean"])
def both(request, tmp_path):
    """The same files prepared with either option; the external sets lack two landmarks."""
    made = {}
    externals = {
        "other": expression(4, 40, [i for i in range(20) if i not in (1, 3, 12)], 2.0),
        "whole": expression(5, 30, list(range(20))),
    }
    for moments in ("own", "training"):
        made[moments] = dgex.prepare(
            expression(0, 80, list(range(20))),
            tmp_path / moments,
            landmarks=[f"g{i}" for i in range(6)],
            external=externals,
            external_moments=moments,
            missing_landmarks=request.param,
        )
    return made


@pytest.mark.parametrize("name", ["other", "whole"])
@pytest.mark.parametrize("prepared", ["own", "training"])
def test_a_converted_set_is_the_set_prepared_so(both, name, prepared):
    dataset = both[prepared]
    assert moments_of(dataset, name) == prepared
    found = standardisations(dataset, name)
    assert set(found) == {"own", "training"}
    for moments, one in found.items():
        expected = both[moments][name]
        blocks = list(one.blocks(16))
        assert [start for start, _, _ in blocks] == list(range(0, expected.n, 16))
        x_nl = np.concatenate([x_bl for _, x_bl, _ in blocks])
        y_nt = np.concatenate([y_bt for _, _, y_bt in blocks])
        assert x_nl.dtype == y_nt.dtype == np.float32
        np.testing.assert_allclose(x_nl, expected.x_nl, atol=2e-5)
        np.testing.assert_allclose(y_nt, expected.y_nt, atol=2e-5)
        assert one.n == expected.n
        np.testing.assert_array_equal(one.present_l, expected.present_l)
        np.testing.assert_array_equal(one.present_t, expected.present_t)


def test_splits_have_the_training_moments_only(both):
    for name in ("train", "validation", "test"):
        assert moments_of(both["own"], name) == "training"
        assert list(standardisations(both["own"], name)) == ["training"]


def test_one_profile_has_no_moments_of_its_own(tmp_path):
    one = expression(4, 1, list(range(20)))
    dataset = dgex.prepare(
        expression(0, 60, list(range(20))),
        tmp_path / "data",
        landmarks=["g0", "g1", "g2"],
        external={"one": one},
        external_moments="training",
    )
    assert list(standardisations(dataset, "one")) == ["training"]
