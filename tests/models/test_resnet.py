"""The residual net against its formula in numpy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

from dgex.models.resnet import ResNet


def net_of(blocks, dropout=0.0):
    torch.manual_seed(2)
    net = ResNet(6, 9, hidden_layers=blocks, hidden_units=5, dropout=dropout)
    for parameters in net.parameters():
        torch.nn.init.normal_(parameters)
    return net


def normed(h_nh, arrays, name):
    centred = h_nh - h_nh.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return scaled * arrays[f"{name}.weight"] + arrays[f"{name}.bias"]


def dense(x_nl, arrays, name):
    return x_nl @ arrays[f"{name}.weight"].T + arrays[f"{name}.bias"]


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_forward_is_the_formula(blocks):
    net = net_of(blocks)
    arrays = {name: array.double().numpy() for name, array in net.state_dict().items()}
    x_nl = np.random.default_rng(0).normal(size=(8, 6))
    h_nh = dense(x_nl, arrays, "input")
    for i in range(blocks):
        block = f"blocks.{i}"
        inner_nh = gelu(dense(normed(h_nh, arrays, f"{block}.norm"), arrays, f"{block}.inner"))
        h_nh = h_nh + dense(inner_nh, arrays, f"{block}.outer")
    expected = dense(normed(h_nh, arrays, "norm"), arrays, "output")
    np.testing.assert_allclose(net(torch.tensor(x_nl)).detach(), expected, rtol=1e-3, atol=1e-4)


def test_starts_at_the_mean_of_every_target():
    net = ResNet(6, 9, hidden_layers=2, hidden_units=5, dropout=0.5)
    assert torch.equal(net(torch.randn(4, 6)), torch.zeros(4, 9))


def test_dropout_is_of_the_training_alone():
    net, x_nl = net_of(2, dropout=0.5), torch.randn(4, 6)
    assert not torch.equal(net(x_nl), net(x_nl))
    net.eval()
    assert torch.equal(net(x_nl), net(x_nl))
