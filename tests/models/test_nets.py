"""First weights, shapes and dropout of the D-GEX net."""

import math

import numpy as np
import pytest
import torch

from dgex.models.nets import DGEXNet


def net_of(layers, dropout=0.0, units=50):
    torch.manual_seed(0)
    return DGEXNet(30, 70, hidden_layers=layers, hidden_units=units, dropout=dropout)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_first_weights(layers):
    net = net_of(layers)
    linear = net.linear_layers()
    assert [tuple(layer.weight.shape) for layer in linear] == [
        (50, 30),
        *[(50, 50)] * (layers - 1),
        (70, 50),
    ]
    for layer in linear:
        out, into = layer.weight.shape
        bound = 1e-4 if layer is linear[-1] else math.sqrt(6 / (into + out))
        values = layer.weight.detach().numpy().ravel()
        assert 0.98 * bound < np.abs(values).max() <= bound
        # Uniform: a standard deviation of bound / sqrt(3), as many below as above 0.
        assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert abs((values > 0).mean() - 0.5) < 0.05
        assert not layer.bias.any()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_forward_is_tanh_then_linear(layers):
    net = net_of(layers, dropout=0.5).eval()
    with torch.no_grad():
        for weights in net.parameters():
            weights.normal_()
    x_nl = torch.randn(4, 30)
    hidden_nh = x_nl.numpy().astype(np.float64)
    *hidden, output = [
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in net.linear_layers()
    ]
    for weight_hl, bias_h in hidden:
        hidden_nh = np.tanh(hidden_nh @ weight_hl.T + bias_h)
    expected = hidden_nh @ output[0].T + output[1]
    np.testing.assert_allclose(net(x_nl).detach().numpy(), expected, atol=2e-3)


def test_dropout_drops_hidden_units_only_and_scales_the_rest():
    net = net_of(1, dropout=0.25, units=4000).train()
    with torch.no_grad():
        net.hidden[0].weight.zero_()
        net.hidden[0].bias.fill_(math.atanh(0.5))
        net.output.weight.zero_()
        net.output.weight[:, :70] = torch.eye(70)
        net.output.bias.fill_(3.0)
        y_nt = net(torch.zeros(2000, 30)) - 3.0
    # Each output shows one hidden unit: dropped, or scaled by 1 / 0.75; never dropped itself.
    values = np.unique(y_nt.numpy().round(5))
    np.testing.assert_allclose(values, [0.0, 0.5 / 0.75], atol=1e-5)
    assert float((y_nt == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    net.eval()
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.zeros(3, 30)).numpy(), 3.5, atol=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_gradients_are_those_of_autograd(layers, dtype):
    plain, keeping = (net_of(layers).to(dtype).train() for _ in range(2))
    for layer in keeping.linear_layers():
        layer.keeps_gradient = True
    x_nl, target_nt = torch.randn(2, 11, 30), torch.randn(2, 11, 70)
    memory = None
    for batch in range(2):
        for net in (plain, keeping):
            net.zero_grad()
            (net(x_nl[batch]).float() - target_nt[batch]).square().sum().backward()
            if net is keeping and batch == 0:
                memory = [layer.weight.grad.data_ptr() for layer in net.linear_layers()]
        for one, two in zip(plain.parameters(), keeping.parameters(), strict=True):
            assert two.grad.dtype == dtype
            torch.testing.assert_close(one.grad, two.grad)
    assert memory == [layer.weight.grad.data_ptr() for layer in keeping.linear_layers()]


def test_kept_gradients_are_for_training_only():
    net = net_of(1).eval()
    for layer in net.linear_layers():
        layer.keeps_gradient = True
    x_nl = torch.randn(4, 30, requires_grad=True)
    for _ in range(2):
        net(x_nl).sum().backward()
    # Added up, as ever.
    assert net.output.bias.grad.tolist() == [8.0] * 70
    assert x_nl.grad is not None


def test_a_net_computes_in_the_precision_of_its_weights():
    net = net_of(2).eval()
    exact = net(torch.ones(3, 30))
    rounded = net.to(torch.bfloat16)(torch.ones(3, 30))
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(rounded.float(), exact, atol=1e-5, rtol=0.02)


def test_landmarks_are_not_dropped():
    net = net_of(1, dropout=0.9, units=1).train()
    seen = []
    net.hidden[0].register_forward_hook(lambda module, given, result: seen.append(given[0]))
    x_nl = torch.randn(50, 30)
    net(x_nl)
    assert torch.equal(seen[0], x_nl)
