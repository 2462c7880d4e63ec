"""The net with adaptive activations against its formula in numpy."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from dgex.models.taaf import TAAFNet


def net_of(layers, dropout=0.0):
    torch.manual_seed(2)
    net = TAAFNet(6, 9, hidden_layers=layers, hidden_units=5, dropout=dropout)
    for parameters in net.parameters():
        torch.nn.init.normal_(parameters)
    return net


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_forward_is_the_formula(layers):
    net = net_of(layers)
    arrays = {name: array.double().numpy() for name, array in net.state_dict().items()}
    x_nl = np.random.default_rng(0).normal(size=(8, 6))
    y_nh = x_nl
    names = [(f"dense.{i}", f"activations.{i}") for i in range(layers)]
    for dense, activation in [*names, ("output", "output_activation")]:
        alpha, beta, gamma, delta = (
            arrays[f"{activation}.{name}"] for name in ("alpha", "beta", "gamma", "delta")
        )
        y_nh = alpha * expit(beta * (y_nh @ arrays[f"{dense}.weight"].T) + gamma) + delta
    np.testing.assert_allclose(net(torch.tensor(x_nl)).detach(), y_nh, rtol=1e-4, atol=1e-5)


def test_dropout_is_of_the_training_alone():
    net, x_nl = net_of(2, dropout=0.5), torch.randn(4, 6)
    assert not torch.equal(net(x_nl), net(x_nl))
    net.eval()
    assert torch.equal(net(x_nl), net(x_nl))


def test_the_output_starts_about_0_with_room_for_z_scores():
    net = TAAFNet(6, 9, hidden_layers=1, hidden_units=5, dropout=0.0)
    last = net.output_activation
    far = torch.full((1, 9), 50.0)
    assert torch.equal(last(torch.zeros(1, 9)), torch.zeros(1, 9))
    assert torch.equal(last(far), torch.full((1, 9), 4.0))
    assert torch.equal(last(-far), torch.full((1, 9), -4.0))
