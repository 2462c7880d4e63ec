"""The net as a Model: arrays in, the same numbers out."""

import numpy as np
import pytest
import torch

from dgex.config import NetConfig, TrainConfig
from dgex.errors import UsageError
from dgex.models.net_model import DGEX, TAAF, ResNetModel, net_settings
from dgex.models.nets import DGEXNet
from dgex.models.recipes import make_net


def model_of(layers):
    torch.manual_seed(1)
    net = DGEXNet(6, 9, hidden_layers=layers, hidden_units=5, dropout=0.5)
    torch.nn.init.normal_(net.output.weight)
    arrays = {name: array.detach().numpy() for name, array in net.named_parameters()}
    settings = {"hidden_layers": layers, "hidden_units": 5, "dropout": 0.5}
    return net.eval(), DGEX.from_arrays(arrays, settings)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 2500])
def test_predict_is_the_net_without_dropout(layers, n):
    net, model = model_of(layers)
    x_nl = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    x_nl.setflags(write=False)  # as memory maps are
    y_nt = model.predict(x_nl)
    assert y_nt.dtype == np.float32
    with torch.no_grad():
        expected = net(torch.tensor(x_nl)).numpy()
    np.testing.assert_allclose(y_nt, expected, atol=1e-5)
    np.testing.assert_array_equal(model.predict(x_nl), y_nt)


def test_fit_keeps_the_best_weights(dataset):
    model = DGEX()
    model.fit(dataset, TrainConfig(model="dgex", hidden_units=4, epochs=3, device="cpu"))
    assert (model.n_landmarks, model.n_targets) == (6, 9)
    settings = dict(model.settings())
    assert settings.pop("training_precision") in ("float32", "bf16")
    assert settings == {"hidden_layers": 1, "hidden_units": 4, "dropout": 0.1}
    assert model.predict(dataset["test"].x_nl).shape == (21, 9)


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: arrays.pop("output.weight"),
        lambda arrays: arrays.update({"hidden.2.bias": arrays["hidden.1.bias"]}),
        lambda arrays: arrays.update({"hidden.1.weight": arrays["hidden.1.weight"][1:]}),
    ],
)
def test_arrays_that_are_no_net_are_refused(damage):
    _, model = model_of(2)
    arrays = dict(model.arrays())
    damage(arrays)
    with pytest.raises(ValueError, match="do not make a net of 2 x 5 units"):
        DGEX.from_arrays(arrays, model.settings())


@pytest.mark.parametrize(
    ("kind", "gone"),
    [
        (ResNetModel, "input.weight"),
        (ResNetModel, "norm.bias"),
        (ResNetModel, "blocks.1.outer.weight"),
        (TAAF, "dense.0.weight"),
        (TAAF, "output.weight"),
        (TAAF, "output_activation.delta"),
    ],
)
def test_arrays_of_other_nets_there_and_back(kind, gone):
    config = NetConfig(kind.kind, hidden_layers=2, hidden_units=5)
    net = make_net(6, 9, config)
    arrays = {name: array.detach().numpy() for name, array in net.named_parameters()}
    model = kind.from_arrays(arrays, net_settings(config))
    assert (model.n_landmarks, model.n_targets) == (6, 9)
    assert model.arrays() == arrays
    assert model.settings() == {"hidden_layers": 2, "hidden_units": 5, "dropout": 0.0}
    with pytest.raises(ValueError, match="do not make a net of 3 x 5 units"):
        kind.from_arrays(arrays, {**model.settings(), "hidden_layers": 3})
    with pytest.raises(ValueError, match="do not make a net of -1 x 5 units"):
        kind.from_arrays(arrays, {**model.settings(), "hidden_layers": -1})
    del arrays[gone]
    with pytest.raises(ValueError, match="do not make a net of 2 x 5 units"):
        kind.from_arrays(arrays, model.settings())
    with pytest.raises(ValueError, match="do not make a net of 2 x 5 units"):
        DGEX.from_arrays(model.arrays(), model.settings())


@pytest.fixture
def made_for_bf16(monkeypatch):
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: True)
    monkeypatch.setattr("dgex.models.device.choose_device", lambda name: torch.device("cpu"))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("made_for_bf16")
def test_in_bf16_weights_are_rounded_and_the_rest_is_as_torch_does_it(layers):
    net, model = model_of(layers)
    exact = {name: array.copy() for name, array in model.arrays().items()}
    x_nl = np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32)
    in_float32 = model.predict(x_nl)
    model.infer_in("bf16")
    assert (model.precision, model.n_landmarks, model.n_targets) == ("bf16", 6, 9)
    block_ng = np.zeros((1500, 15), np.float32)
    y_nt = model.predict(x_nl, block_ng[:, 6:])
    with torch.no_grad():
        expected = net.bfloat16()(torch.tensor(x_nl)).float().numpy()
    np.testing.assert_array_equal(y_nt, expected)
    assert 0 < np.abs(y_nt - in_float32).max() < 0.1
    for name, array in model.arrays().items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, torch.tensor(exact[name]).bfloat16().float().numpy())


@pytest.mark.parametrize(("native", "taken"), [(True, "bf16"), (False, "float32")])
def test_auto_takes_what_the_device_is_made_for(monkeypatch, native, taken):
    monkeypatch.setattr("dgex.models.device._seconds_ratio", lambda: 0.5)
    monkeypatch.setattr("dgex.models.device.has_bf16", lambda device: native)
    _, model = model_of(1)
    model.infer_in("auto")
    assert model.precision == taken
    _, model = model_of(1)
    model.infer_in("float32")
    assert model.precision == "float32"
    if not native:
        with pytest.raises(UsageError, match="no instructions for products in bf16"):
            model.infer_in("bf16")
        assert model.predict(np.zeros((1, 6), np.float32)).shape == (1, 9)
