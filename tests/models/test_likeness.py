"""What the landmarks of a cohort say of it, against regressions of one landmark at a time."""

from __future__ import annotations

import numpy as np
import pytest

from dgex.models.cohorts import Cohorts
from dgex.models.likeness import LEAST_RELIABILITY, adapt, noise, weigh

L, T = 7, 2


def plain_noise(a_nl, z_nl):
    """Each landmark regressed on all others, one at a time, with the profiles themselves."""
    gram_ll = a_nl.T @ a_nl / len(a_nl)
    noise_l = np.empty(L)
    for j in range(L):
        rest = np.arange(L) != j
        penalised = gram_ll[np.ix_(rest, rest)] + 0.6 * np.eye(L - 1)
        weight_r = np.linalg.solve(penalised, gram_ll[rest, j])
        r_there = np.corrcoef(z_nl[:, rest] @ weight_r, z_nl[:, j])[0, 1]
        r_training = np.corrcoef(a_nl[:, rest] @ weight_r, a_nl[:, j])[0, 1]
        noise_l[j] = 1 / np.clip(r_there / max(r_training, 0.1), 0.05, 1) - 1
    return noise_l


def plain_error(products_ll, z_nl, noise_l):
    """Root mean square of each landmark less its guess from all others, mean over landmarks."""
    error_l = np.empty(L)
    for j in range(L):
        rest = np.arange(L) != j
        penalised = products_ll[np.ix_(rest, rest)] + np.diag(1 + noise_l[rest])
        weight_r = np.linalg.solve(penalised, products_ll[rest, j])
        error_l[j] = np.sqrt(np.mean((z_nl[:, j] - z_nl[:, rest] @ weight_r) ** 2))
    return error_l.mean()


def cohorts_of(sizes, seed=0):
    """Cohorts in each of which landmarks vary together in another way."""
    rng = np.random.default_rng(seed)
    parts = []
    for c, n in enumerate(sizes):
        parts.append(rng.normal(size=(n, 2)) @ way_of(c) + 0.4 * rng.normal(size=(n, L)))
    x_nl = np.concatenate([part - part.mean(axis=0) for part in parts]).astype(np.float32)
    y_nt = np.zeros((len(x_nl), T), np.float32)
    means = np.zeros((len(sizes), L), np.float32), np.zeros((len(sizes), T), np.float32)
    return Cohorts(x_nl, y_nt, np.array(sizes), *means)


def way_of(c):
    return np.random.default_rng(100 + c).normal(size=(2, L))


def like(c, n=60, seed=1):
    """A new cohort, centred, that varies as training cohort `c` does."""
    rng = np.random.default_rng(seed)
    z_nl = rng.normal(size=(n, 2)) @ way_of(c) + 0.4 * rng.normal(size=(n, L))
    return (z_nl - z_nl.mean(axis=0)) / z_nl.std(axis=0)


@pytest.mark.parametrize("left_out", [None, 1])
@pytest.mark.parametrize("most", [300, 10])
def test_weights_are_those_of_a_plain_loop(monkeypatch, left_out, most):
    monkeypatch.setattr("dgex.models.likeness.MOST_COMPARED", most)
    # Cohorts that differ as much as these would have all weight or none by the usual ones.
    sharpnesses = (0.0, 1.0, 3.0, 9.0)
    monkeypatch.setattr("dgex.models.likeness.SHARPNESSES", sharpnesses)
    sizes = (25, 12, 40)
    cohorts, z_nl = cohorts_of(sizes), np.concatenate([like(2), like(0, n=8)])
    weight_c = cohorts.weight_c
    if left_out is not None:
        weight_c[left_out] = 0
    found = adapt(cohorts, weight_c, z_nl.T @ z_nl / len(z_nl))

    parts = np.split(cohorts.x_nl.astype(float), np.cumsum(sizes)[:-1])

    def products(weights_c):
        total = sum(w * part.T @ part for w, part in zip(weights_c, parts, strict=True))
        return total / (weights_c @ np.array(sizes))

    xx_ll = products(weight_c)
    np.testing.assert_allclose(cohorts.within(weight_c), xx_ll, rtol=1e-5, atol=1e-6)
    mean = weight_c @ np.array(sizes) / np.array(sizes)[weight_c > 0].sum()
    a_nl = np.concatenate(
        [np.sqrt(w / mean) * part for w, part in zip(weight_c, parts, strict=True) if w > 0]
    )
    np.testing.assert_allclose(found.noise_l, plain_noise(a_nl, z_nl), rtol=1e-3, atol=1e-4)
    error_c = np.empty(3)
    for c, part in enumerate(parts):
        compared = part[:: -(-len(part) // most)]
        mixed_ll = 0.5 * xx_ll + 0.5 * compared.T @ compared / len(compared)
        error_c[c] = plain_error(mixed_ll, z_nl, found.noise_l)
    least = error_c[weight_c > 0].min()
    tried = []
    for sharpness in sharpnesses:
        weighed_c = weight_c * np.exp(-sharpness * (error_c - least))
        tried.append((plain_error(products(weighed_c), z_nl, found.noise_l), sharpness, weighed_c))
    _, sharpness, weighed_c = min(tried, key=lambda one: one[0])
    assert sharpness > 0
    np.testing.assert_allclose(found.weight_c, weighed_c, rtol=5e-3, atol=1e-12)


def test_the_cohort_that_is_like_the_new_one_gains_the_most():
    cohorts = cohorts_of((30, 30, 30, 30))
    for c in range(4):
        z_nl = like(c)
        found = adapt(cohorts, cohorts.weight_c, z_nl.T @ z_nl / len(z_nl))
        assert found.weight_c.argmax() == c
        assert found.weight_c[c] > 2 * np.delete(found.weight_c, c).max()


def test_cohorts_that_are_all_alike_keep_their_weights():
    one = cohorts_of((30,))
    thrice = [np.tile(array, (3, 1)) for array in (one.x_nl, one.y_nt, one.mean_cl, one.mean_ct)]
    cohorts = Cohorts(*thrice[:2], np.array([30] * 3), *thrice[2:])
    z_nl = like(0)
    xx_ll = cohorts.within(cohorts.weight_c)
    found = weigh(cohorts, cohorts.weight_c, xx_ll, z_nl.T @ z_nl / 60, np.zeros(L))
    np.testing.assert_allclose(found, cohorts.weight_c, rtol=1e-3)


def test_noise_of_a_cohort_whose_landmark_is_shuffled():
    rng = np.random.default_rng(3)
    a_nl, z_nl = (rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, L)) for n in (400, 300))
    z_nl[:, 2] = rng.permutation(z_nl[:, 2])
    a_nl, z_nl = a_nl - a_nl.mean(axis=0), z_nl - z_nl.mean(axis=0)
    found_l = noise(a_nl.T @ a_nl / len(a_nl), z_nl.T @ z_nl / len(z_nl))
    np.testing.assert_allclose(found_l, plain_noise(a_nl, z_nl), rtol=1e-6, atol=1e-9)
    assert found_l[2] > 5 > 1 > np.delete(found_l, 2).max()


def test_a_landmark_that_is_constant_in_a_cohort_is_all_noise():
    xx_ll = np.array([[1.0, 0.5, 0.4], [0.5, 1.0, 0.3], [0.4, 0.3, 1.0]])
    own_ll = xx_ll.copy()
    # Rounding leaves less than nothing of its variance.
    own_ll[2] = own_ll[:, 2] = -1e-28
    noise_l = noise(xx_ll, own_ll)
    assert noise_l[2] == pytest.approx(1 / LEAST_RELIABILITY - 1)
    assert (noise_l[:2] < noise_l[2]).all()
