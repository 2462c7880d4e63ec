"""Gradients against autograd, finite differences and loops."""

import numpy as np
import pandas as pd
import pytest
import torch

from dgex.errors import DataError, UsageError
from dgex.models.gradients import (
    Gradients,
    landmark_gradients,
    own_landmark_ranks,
    top_landmarks,
)
from dgex.progress import set_reporter

LANDMARKS, UNITS, TARGETS = 7, 5, 11


def net_arrays(layers, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    widths = [LANDMARKS] + [UNITS] * layers
    arrays = {
        "output.weight": rng.normal(0, 0.5, (TARGETS, UNITS)),
        "output.bias": rng.normal(size=TARGETS),
    }
    for layer in range(layers):
        arrays[f"hidden.{layer}.weight"] = rng.normal(0, 0.6, (UNITS, widths[layer]))
        arrays[f"hidden.{layer}.bias"] = rng.normal(0, 0.5, UNITS)
    return {name: array.astype(dtype) for name, array in arrays.items()}


def profiles(n=40, seed=1):
    return np.random.default_rng(seed).normal(size=(n, LANDMARKS))


def forward(arrays, x_nl):
    hidden, layer = x_nl, 0
    while f"hidden.{layer}.weight" in arrays:
        weight, bias = (
            torch.tensor(arrays[f"hidden.{layer}.{kind}"]) for kind in ("weight", "bias")
        )
        hidden = torch.tanh(hidden @ weight.T + bias)
        layer += 1
    return hidden @ torch.tensor(arrays["output.weight"]).T + torch.tensor(arrays["output.bias"])


def jacobians(arrays, x_nl):
    """The gradient of every profile by autograd, (n, t, l)."""
    return np.stack(
        [
            torch.autograd.functional.jacobian(
                lambda x: forward(arrays, x), torch.tensor(x)
            ).numpy()
            for x in x_nl
        ]
    )


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_means_are_those_of_autograd(layers):
    arrays, x_nl = net_arrays(layers), profiles()
    found = landmark_gradients(arrays, x_nl, sample=40, device="cpu")
    each_ntl = jacobians(arrays, x_nl)
    np.testing.assert_allclose(found.mean_tl, each_ntl.mean(axis=0), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        found.absolute_tl, np.abs(each_ntl).mean(axis=0), rtol=1e-11, atol=1e-13
    )
    assert found.mean_tl.dtype == np.float64
    assert (found.n_mean, found.n_absolute) == (40, 40)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_means_are_those_of_finite_differences(layers):
    arrays, x_nl, step = net_arrays(layers), profiles(), 1e-5
    found = landmark_gradients(arrays, x_nl, sample=40, device="cpu")
    for landmark in range(LANDMARKS):
        up, down = x_nl.copy(), x_nl.copy()
        up[:, landmark] += step
        down[:, landmark] -= step
        difference_nt = forward(arrays, torch.tensor(up)) - forward(arrays, torch.tensor(down))
        slope_nt = difference_nt.numpy() / (2 * step)
        np.testing.assert_allclose(found.mean_tl[:, landmark], slope_nt.mean(axis=0), atol=1e-8)
        np.testing.assert_allclose(
            found.absolute_tl[:, landmark], np.abs(slope_nt).mean(axis=0), atol=1e-8
        )


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_sample_is_drawn_only_for_what_needs_one(layers):
    arrays, x_nl = net_arrays(layers), profiles(n=60)
    found = landmark_gradients(arrays, x_nl, sample=9, seed=3, device="cpu")
    drawn = np.random.default_rng(3).choice(60, 9, replace=False)
    each_ntl = jacobians(arrays, x_nl)
    np.testing.assert_allclose(found.absolute_tl, np.abs(each_ntl[drawn]).mean(axis=0), rtol=1e-11)
    over = each_ntl if layers < 3 else each_ntl[drawn]
    np.testing.assert_allclose(found.mean_tl, over.mean(axis=0), rtol=1e-10, atol=1e-13)
    assert (found.n_mean, found.n_absolute) == (len(over), 9)
    other = landmark_gradients(arrays, x_nl, sample=9, seed=4, device="cpu")
    assert (other.absolute_tl != found.absolute_tl).any()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_slopes_are_means_over_units_and_profiles(layers):
    arrays, x_nl = net_arrays(layers), profiles(n=30)
    found = landmark_gradients(arrays, x_nl, sample=30, device="cpu")
    hidden, expected = x_nl, []
    for layer in range(layers):
        weight, bias = arrays[f"hidden.{layer}.weight"], arrays[f"hidden.{layer}.bias"]
        hidden = np.tanh(hidden @ weight.T + bias)
        expected.append(float(np.mean(1 - hidden**2)))
    assert found.slopes == pytest.approx(tuple(expected))


@pytest.mark.parametrize("layers", [1, 2])
def test_blocks_of_profiles_add_up(layers, monkeypatch):
    arrays, x_nl = net_arrays(layers), profiles(n=50)
    whole = landmark_gradients(arrays, x_nl, sample=5, device="cpu")
    monkeypatch.setattr("dgex.models.gradients.BLOCK_ROWS", 7)
    blocks = landmark_gradients(arrays, x_nl, sample=5, device="cpu")
    np.testing.assert_allclose(blocks.mean_tl, whole.mean_tl, rtol=1e-11, atol=1e-14)


def test_single_precision_nets_and_read_only_maps(tmp_path):
    arrays = net_arrays(2, dtype=np.float32)
    np.save(tmp_path / "x.npy", profiles().astype(np.float32))
    x_nl = np.load(tmp_path / "x.npy", mmap_mode="r")
    for array in arrays.values():
        array.setflags(write=False)
    found = landmark_gradients(arrays, x_nl, device="cpu")
    assert found.mean_tl.dtype == found.absolute_tl.dtype == np.float32
    double = {name: array.astype(np.float64) for name, array in arrays.items()}
    each_ntl = jacobians(double, np.asarray(x_nl, np.float64))
    np.testing.assert_allclose(found.mean_tl, each_ntl.mean(axis=0), atol=1e-6)


def test_it_is_the_gradient_of_the_model(dataset):
    """Not only of the formula above: of what `predict` gives."""
    from dgex.config import TrainConfig
    from dgex.models.net_model import DGEX

    model = DGEX()
    options = {"hidden_layers": 2, "hidden_units": 4, "dropout": 0.25, "epochs": 30}
    model.fit(dataset, TrainConfig(model="dgex", device="cpu", **options))
    x_nl = np.array(dataset["test"].x_nl)
    found = landmark_gradients(model.arrays(), x_nl, device="cpu")
    for landmark in range(6):
        up, down = x_nl.copy(), x_nl.copy()
        up[:, landmark] += 0.05
        down[:, landmark] -= 0.05
        slope_t = (model.predict(up) - model.predict(down)).mean(axis=0) / 0.1
        np.testing.assert_allclose(found.mean_tl[:, landmark], slope_t, atol=2e-3)


def test_progress_of_both_passes_is_reported():
    class Kept:
        def __init__(self):
            self.last = {}

        def update(self, what, done, total):
            self.last[what] = (done, total)

    kept = Kept()
    set_reporter(kept)
    try:
        landmark_gradients(net_arrays(1), profiles(n=30), sample=4, device="cpu")
    finally:
        set_reporter(None)
    assert kept.last == {"gradients": (30, 30), "gradients of single profiles": (4, 4)}


@pytest.mark.parametrize("shape", [(0, LANDMARKS), (4, LANDMARKS + 1), (LANDMARKS,)])
def test_profiles_that_do_not_fit_are_refused(shape):
    with pytest.raises(DataError, match="net of 7 landmarks"):
        landmark_gradients(net_arrays(1), np.zeros(shape), device="cpu")


def test_an_empty_sample_and_an_unknown_device_are_refused():
    with pytest.raises(UsageError, match="sample of 0"):
        landmark_gradients(net_arrays(1), profiles(), sample=0, device="cpu")
    with pytest.raises(UsageError, match="no device abacus"):
        landmark_gradients(net_arrays(1), profiles(), device="abacus")


def table(prefix, n, **columns):
    empty = dict.fromkeys(("symbol", "ensembl", "entrez"), [""] * n)
    return pd.DataFrame(empty | columns, index=[f"{prefix}{i}" for i in range(n)])


def test_top_landmarks_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    mean_tl = rng.normal(size=(6, 9))
    mean_tl[2, 3] = -mean_tl[2, 7]
    gradients = Gradients(mean_tl, rng.random((6, 9)), 3, 3, (1.0,))
    landmarks, targets = table("l", 9), table("t", 6, symbol=list("ABCDEF"))
    top = top_landmarks(gradients, landmarks, targets, 4)
    assert len(top) == 24
    assert top["symbol"].tolist() == [s for s in "ABCDEF" for _ in range(4)]
    for t in range(6):
        rows = top[top["target"] == f"t{t}"]
        ranked = sorted(range(9), key=lambda one, t=t: (-abs(mean_tl[t, one]), one))[:4]
        assert rows["landmark"].tolist() == [f"l{one}" for one in ranked]
        assert rows["rank"].tolist() == [1, 2, 3, 4]
        np.testing.assert_array_equal(rows["gradient"], mean_tl[t, ranked])
        np.testing.assert_array_equal(rows["absolute_gradient"], gradients.absolute_tl[t, ranked])
    assert len(top_landmarks(gradients, landmarks, targets, 100)) == 54
    with pytest.raises(UsageError, match="Take at least one"):
        top_landmarks(gradients, landmarks, targets, 0)


def test_own_landmarks_are_matched_by_any_identifier():
    landmarks = table(
        "l", 4, symbol=["A", "B", "", "A"], ensembl=["", "E1", "E2", ""], entrez=["", "", "7", "9"]
    )
    targets = table("t", 4, symbol=["A", "X", "", "B"], entrez=["", "7", "", "8"])
    mean_tl = np.array(
        [[0.1, 0.5, 0.2, -0.3], [0.0, 0.1, -0.9, 0.2], [1.0, 1.0, 1.0, 1.0], [0.3, 0.3, 0.1, 0.2]]
    )
    own = own_landmark_ranks(mean_tl, landmarks, targets)
    assert own[["target", "landmark", "rank"]].to_numpy().tolist() == [
        ["t0", "l3", 2],
        ["t1", "l2", 1],
        ["t3", "l1", 1],
    ]
    assert own["gradient"].tolist() == [-0.3, -0.9, 0.3]
    assert own_landmark_ranks(mean_tl, landmarks, table("t", 4)).empty
