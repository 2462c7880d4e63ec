"""Momentum on float32 weights, whatever the net computes in."""

import numpy as np
import pytest
import torch

from dgex.models import optimiser as module
from dgex.models.descent import Descent
from dgex.models.nets import DGEXNet

MOMENTUM, FACTOR = 0.5, 3.0


def net_and_descent(dtype, layers=2):
    torch.manual_seed(3)
    net = DGEXNet(5, 7, hidden_layers=layers, hidden_units=6, dropout=0.0)
    return net, Descent(net, momentum=MOMENTUM, upper_factor=FACTOR, dtype=dtype)


def gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    for parameters in net.parameters():
        drawn = torch.randn(parameters.shape, generator=generator)
        parameters.grad = drawn.to(parameters.dtype)


@pytest.mark.parametrize("chunk", [1, 4, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_are_the_formula_in_float64(monkeypatch, dtype, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    net, descent = net_and_descent(dtype)
    upper = {"hidden.1.weight", "output.weight"}
    weights = {name: array.double().numpy() for name, array in descent.weights.items()}
    speeds = {name: np.zeros_like(array) for name, array in weights.items()}
    for step, rate in enumerate([0.1, 0.1, 0.05, 0.2]):
        gradients(net, step)
        for name, parameters in net.named_parameters():
            gradient = parameters.grad.double().numpy()
            own_rate = rate * (FACTOR if name in upper else 1.0)
            speeds[name] = MOMENTUM * speeds[name] - own_rate * gradient
            weights[name] = weights[name] + speeds[name]
        descent.step(rate)
    for name, parameters in net.named_parameters():
        assert descent.weights[name].dtype == descent.speeds[name].dtype == torch.float32
        np.testing.assert_allclose(descent.weights[name], weights[name], atol=1e-6)
        np.testing.assert_allclose(descent.speeds[name], speeds[name], atol=1e-6)
        assert parameters.dtype == dtype
        assert torch.equal(parameters, descent.weights[name].to(dtype))


def test_small_steps_add_up_in_bf16():
    # 1 + 1e-4 is 1 in bfloat16: weights held there would stay where they are.
    net, descent = net_and_descent(torch.bfloat16)
    with torch.no_grad():
        descent.weights["output.bias"].fill_(1.0)
    for _ in range(200):
        for parameters in net.parameters():
            parameters.grad = torch.zeros_like(parameters)
        net.output.bias.grad.fill_(-1.0)
        descent.step(1e-4)
    # A constant gradient moves by rate / (1 - momentum) a step, less at the start.
    np.testing.assert_allclose(descent.weights["output.bias"], 1.0398, atol=1e-5)
    assert net.output.bias.data.tolist() == [1.0390625] * 7


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restored_goes_on_as_if_never_stopped(dtype):
    net, descent = net_and_descent(dtype)
    gradients(net, 0)
    descent.step(0.1)
    other_net, other = net_and_descent(dtype)
    other.restore(
        {name: array.numpy().copy() for name, array in descent.weights.items()},
        {name: array.numpy().copy() for name, array in descent.speeds.items()},
    )
    for one in (net, other_net):
        gradients(one, 1)
    descent.step(0.2)
    other.step(0.2)
    for name in descent.weights:
        assert torch.equal(descent.weights[name], other.weights[name])
    for one, two in zip(net.parameters(), other_net.parameters(), strict=True):
        assert torch.equal(one, two)


def test_compiled_steps_are_the_same(monkeypatch):
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic: compiled(function, backend="aot_eager")
    )
    net, descent = net_and_descent(torch.bfloat16)
    plain_net, plain = net_and_descent(torch.bfloat16)
    descent.compile()
    for step, rate in enumerate([0.1, 0.05]):
        for one in (net, plain_net):
            gradients(one, step)
        descent.step(rate)
        plain.step(rate)
    for name in plain.weights:
        np.testing.assert_allclose(descent.weights[name], plain.weights[name], atol=1e-7)
