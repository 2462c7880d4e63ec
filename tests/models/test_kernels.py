"""Kernels against scikit-learn's, plain formulas and a wide layer drawn at random."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import fractional_matrix_power
from scipy.spatial.distance import cdist, pdist
from sklearn.metrics.pairwise import rbf_kernel

from dgex.config import KERNEL_NAMES
from dgex.models.kernels import KERNELS, metric_root, squared_distances, typical_scale


def drawn(n, n_landmarks, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_landmarks))


def likeness(name, x_nl, x_ml, scale):
    return KERNELS[name](torch.tensor(x_nl), torch.tensor(x_ml), scale).numpy()


def arc_cosine(x_nl, x_ml, scale):
    """The published formula, with angles by numpy."""
    x_nl = np.hstack([x_nl, np.full((len(x_nl), 1), math.sqrt(scale))])
    x_ml = np.hstack([x_ml, np.full((len(x_ml), 1), math.sqrt(scale))])
    value_nm = np.empty((len(x_nl), len(x_ml)))
    for n, a_l in enumerate(x_nl):
        for m, b_l in enumerate(x_ml):
            lengths = np.linalg.norm(a_l) * np.linalg.norm(b_l)
            angle = math.acos(min(1.0, a_l @ b_l / lengths))
            value_nm[n, m] = lengths * (math.sin(angle) + (math.pi - angle) * math.cos(angle))
    return value_nm / (1.5 * math.pi * scale)


FORMULAS = {
    "sum": lambda x_nl, x_ml, scale: (
        (FORMULAS["inverse-multiquadric"](x_nl, x_ml, scale) + arc_cosine(x_nl, x_ml, scale)) / 2
    ),
    "rbf": lambda x_nl, x_ml, scale: rbf_kernel(x_nl, x_ml, gamma=1 / scale),
    "laplacian": lambda x_nl, x_ml, scale: np.exp(-cdist(x_nl, x_ml) / (2 * math.sqrt(scale))),
    "inverse-multiquadric": lambda x_nl, x_ml, scale: (
        (1 + cdist(x_nl, x_ml, "sqeuclidean") / scale) ** -0.5
    ),
    "arc-cosine": arc_cosine,
}


def test_every_name_is_a_kernel():
    assert set(KERNELS) == set(KERNEL_NAMES) == set(FORMULAS)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("scale", [0.5, 7.0, 300.0])
def test_agrees_with_its_formula(name, scale):
    x_nl, x_ml = drawn(11, 5), drawn(7, 5, seed=1)
    np.testing.assert_allclose(
        likeness(name, x_nl, x_ml, scale), FORMULAS[name](x_nl, x_ml, scale), rtol=1e-9, atol=1e-12
    )


def test_arc_cosine_is_a_wide_layer_of_rectified_units():
    x_nl, scale = drawn(4, 3), 2.5
    rng = np.random.default_rng(2)
    weight_lh = rng.normal(size=(4, 1_000_000))
    with_bias_nl = np.hstack([x_nl, np.full((4, 1), math.sqrt(scale))])
    unit_nh = np.maximum(with_bias_nl @ weight_lh, 0)
    # Cho and Saul's kernel is twice the mean product of two units.
    expected_nn = 2 * unit_nh @ unit_nh.T / weight_lh.shape[1] / (1.5 * scale)
    np.testing.assert_allclose(
        likeness("arc-cosine", x_nl, x_nl, scale), expected_nn, rtol=0.02, atol=0.005
    )


@pytest.mark.parametrize("name", KERNELS)
def test_a_typical_profile_is_about_1_with_itself(name):
    x_nl = drawn(60, 40)
    scale = typical_scale(torch.tensor(x_nl))
    own = np.diagonal(likeness(name, x_nl, x_nl, scale))
    np.testing.assert_allclose(own, 1.0, atol=0.3)
    assert own.mean() == pytest.approx(1.0, abs=0.05)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(KERNELS)),
    n=st.integers(1, 15),
    n_landmarks=st.integers(1, 20),
    width=st.floats(0.05, 20),
    seed=st.integers(0, 99),
    repeated=st.booleans(),
)
def test_symmetric_and_positive_semidefinite(name, n, n_landmarks, width, seed, repeated):
    x_nl = drawn(n, n_landmarks, seed)
    if repeated:
        x_nl[n // 2 :] = x_nl[: n - n // 2]
    value_nn = likeness(name, x_nl, x_nl, width * 2 * n_landmarks)
    np.testing.assert_allclose(value_nn, value_nn.T, atol=1e-12)
    # The root of a squared distance of rounding, in the Laplacian kernel, is about 1e-7.
    assert np.linalg.eigvalsh(value_nn).min() > -1e-6 * n
    assert np.isfinite(value_nn).all()


def test_distances_are_those_of_scipy_and_the_scale_is_their_median():
    x_nl, x_ml = drawn(9, 6), drawn(5, 6, seed=3)
    distance_nm = squared_distances(torch.tensor(x_nl), torch.tensor(x_ml)).numpy()
    np.testing.assert_allclose(distance_nm, cdist(x_nl, x_ml, "sqeuclidean"), atol=1e-12)
    pairs_p = np.sort(pdist(x_nl, "sqeuclidean"))
    assert len(pairs_p) % 2 == 0
    assert typical_scale(torch.tensor(x_nl)) == pytest.approx(pairs_p[len(pairs_p) // 2 - 1])


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_the_root_of_a_metric_gives_its_distances(power):
    x_nl = drawn(40, 5) * np.arange(1, 6)
    root_ll = metric_root(torch.tensor(x_nl), power).numpy()
    np.testing.assert_allclose(root_ll, root_ll.T, atol=1e-12)
    metric_ll = fractional_matrix_power(x_nl.T @ x_nl / 40, power)
    apart_pl = (x_nl[:, None] - x_nl[None]).reshape(-1, 5)
    expected_p = np.einsum("pl,lk,pk->p", apart_pl, metric_ll, apart_pl)
    turned_nl = x_nl @ root_ll
    np.testing.assert_allclose(cdist(turned_nl, turned_nl, "sqeuclidean").ravel(), expected_p)


def test_directions_that_no_profile_takes_do_not_count():
    x_nl = drawn(3, 5)
    root_ll = metric_root(torch.tensor(x_nl), 0.3).numpy()
    beside_l = np.linalg.svd(x_nl)[2][-1]
    np.testing.assert_allclose(beside_l @ root_ll, 0, atol=1e-2)


def test_profiles_that_are_mostly_the_same_have_a_scale_above_0():
    x_nl = np.zeros((9, 3))
    x_nl[0] = 2.0
    assert typical_scale(torch.tensor(x_nl)) == pytest.approx(12 * 8 / 36)
    assert typical_scale(torch.zeros(4, 3)) == 1.0
