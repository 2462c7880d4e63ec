"""Adam on float32 weights against torch's own, whatever the net computes in."""

import numpy as np
import pytest
import torch
from torch import nn

from dgex.models import optimiser as module
from dgex.models.adam import Adam
from dgex.models.resnet import ResNet

RATES = [0.01, 0.02, 0.02, 0.005, 0.001] * 4


def net_of(seed=3):
    torch.manual_seed(seed)
    net = ResNet(5, 7, hidden_layers=1, hidden_units=6, dropout=0.0)
    nn.init.normal_(net.output.weight)
    return net


def adam_of(net, *, weight_decay=0.1, nesterov=False, average=0.0, dtype=torch.float32):
    return Adam(net, weight_decay=weight_decay, nesterov=nesterov, average=average, dtype=dtype)


def gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    for parameters in net.parameters():
        drawn = torch.randn(parameters.shape, generator=generator)
        parameters.grad = drawn.to(parameters.dtype)


def torchs_own(net, nesterov):
    matrices = [weights for weights in net.parameters() if weights.ndim > 1]
    vectors = [weights for weights in net.parameters() if weights.ndim == 1]
    if nesterov:
        return torch.optim.NAdam([*matrices, *vectors])
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups)


@pytest.mark.parametrize("chunk", [4, 10**6])
@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_torch(monkeypatch, nesterov, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)
    net, expected = net_of(), net_of()
    adam = adam_of(net, nesterov=nesterov, weight_decay=0.0 if nesterov else 0.1)
    own = torchs_own(expected, nesterov)
    for step, rate in enumerate(RATES):
        gradients(net, step)
        gradients(expected, step)
        for group in own.param_groups:
            group["lr"] = rate
        own.step()
        adam.step(rate)
    for (name, found), wanted in zip(net.named_parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(found.data, wanted.data, atol=2e-6, err_msg=name)


def test_the_average_is_a_plain_loop():
    net = net_of()
    adam = adam_of(net, average=0.7)
    averages = {name: weights.clone().double() for name, weights in adam.weights.items()}
    for step, rate in enumerate(RATES, start=1):
        gradients(net, step)
        adam.step(rate)
        kept = min(0.7, step / (step + 10))
        for name, weights in adam.weights.items():
            averages[name] = kept * averages[name] + (1 - kept) * weights.double()
    assert min(0.7, 1 / 11) < 0.7 == min(0.7, len(RATES) / 10)
    for name, average in averages.items():
        np.testing.assert_allclose(adam.averages[name], average, atol=1e-6)
        assert adam.kept[name] is adam.averages[name]
        assert not torch.equal(adam.averages[name], adam.weights[name])


def test_without_an_average_the_weights_are_kept():
    adam = adam_of(net_of())
    assert adam.averages == {}
    assert adam.kept is adam.weights


def test_small_steps_add_up_in_bf16():
    # 1 + 1e-4 is 1 in bfloat16: weights held there would stay where they are.
    net = net_of()
    with torch.no_grad():
        net.output.bias.fill_(1.0)
    adam = adam_of(net, dtype=torch.bfloat16)
    for _ in range(200):
        for parameters in net.parameters():
            parameters.grad = torch.ones_like(parameters)
        adam.step(1e-4)
    # With one gradient all along, every step is as long as the rate.
    np.testing.assert_allclose(adam.weights["output.bias"], 0.98, atol=1e-5)
    assert net.output.bias.dtype == torch.bfloat16
    assert torch.equal(net.output.bias.data, adam.weights["output.bias"].bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nesterov", [False, True])
def test_restored_goes_on_as_if_never_stopped(dtype, nesterov):
    net, other_net = net_of(), net_of(seed=4)
    adam, other = (
        adam_of(one, average=0.9, nesterov=nesterov, dtype=dtype) for one in (net, other_net)
    )
    for step in range(3):
        gradients(net, step)
        adam.step(0.1)
    saved = [
        {name: array.numpy().copy() for name, array in arrays.items()}
        for arrays in (adam.weights, adam.state, adam.averages)
    ]
    other.restore(*saved, steps=3)
    for step in range(3, 5):
        for one in (net, other_net):
            gradients(one, step)
        adam.step(0.05)
        other.step(0.05)
    for arrays, others in (
        (adam.weights, other.weights),
        (adam.state, other.state),
        (adam.averages, other.averages),
    ):
        assert arrays.keys() == others.keys()
        for name, array in arrays.items():
            assert torch.equal(array, others[name])
    for one, two in zip(net.parameters(), other_net.parameters(), strict=True):
        assert torch.equal(one, two)
