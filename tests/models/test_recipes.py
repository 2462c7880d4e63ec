"""Losses and learning rates of the kinds of nets."""

import numpy as np
import pytest
import torch

from dgex.config import NET_OPTIONS, NetConfig, TrainConfig, net_options
from dgex.models.kinds import KINDS
from dgex.models.net_model import Net
from dgex.models.recipes import LAST_RATE, RECIPES, make_net, one_cycle, summed_square, taaf_falls


def test_every_kind_of_net_has_a_recipe_and_options():
    nets = {name for name, kind in KINDS.items() if issubclass(kind, Net)}
    assert set(RECIPES) == set(NET_OPTIONS) == nets == {"dgex", "resnet", "taaf"}


@pytest.mark.parametrize("kind", RECIPES)
def test_a_net_of_the_size_asked_for(kind):
    options = TrainConfig(model=kind, hidden_layers=3, hidden_units=5)
    net = make_net(6, 9, net_options(options, 100))
    assert net(torch.zeros(2, 6)).shape == (2, 9)
    assert isinstance(net, RECIPES[kind].net)


def test_the_one_cycle_is_that_of_torch():
    n, warm_up = 200, 0.1
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    # torch counts its phases from step 0 to step pct_start · n - 1.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        1.0,
        total_steps=n + 1,
        pct_start=(warm_up * n + 1) / (n + 1),
        anneal_strategy="cos",
        div_factor=1e9,
        final_div_factor=1e-9 / LAST_RATE,
        cycle_momentum=False,
    )
    rates = []
    for _ in range(n + 1):
        rates.append(schedule.get_last_lr()[0])
        optimiser.step()
        if len(rates) <= n:
            schedule.step()
    found = np.array([one_cycle(step / n) for step in range(n + 1)])
    falling = slice(int(warm_up * n), None)
    np.testing.assert_allclose(found[falling], rates[falling], atol=1e-6)
    # torch rises along a cosine; here it is a straight line.
    np.testing.assert_allclose(found[: falling.start], np.arange(falling.start) / falling.start)


def test_taaf_falls_where_the_authors_example_does():
    authors = {400: 1.0, 401: 0.1, 475: 0.1, 476: 1e-2, 550: 1e-2, 551: 1e-3, 576: 5e-4, 599: 5e-4}
    assert {epoch: taaf_falls((epoch - 0.5) / 600) for epoch in authors} == authors


def test_the_loss_of_dgex_is_a_sum_over_targets():
    rng = np.random.default_rng(0)
    y_hat_bt, y_bt = rng.normal(size=(2, 4, 3))
    expected = sum(((one - two) ** 2).sum() for one, two in zip(y_hat_bt, y_bt, strict=True)) / 4
    found = summed_square(torch.tensor(y_hat_bt), torch.tensor(y_bt))
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize(("layers", "rate"), [(None, 5e-4), (1, 5e-4), (2, 3e-4), (3, 3e-4)])
def test_options_of_dgex_are_those_of_the_paper(layers, rate):
    found = net_options(TrainConfig(model="dgex", hidden_layers=layers), 1000)
    assert isinstance(found, NetConfig)
    assert (found.hidden_layers, found.hidden_units, found.dropout) == (layers or 1, 3000, 0.1)
    assert (found.epochs, found.batch_size, found.learning_rate) == (200, 200, rate)


@pytest.mark.parametrize("kind", RECIPES)
def test_given_options_are_left_as_they_are(kind):
    given = TrainConfig(
        model=kind,
        hidden_layers=3,
        hidden_units=7,
        dropout=0.0,
        epochs=3,
        batch_size=9,
        learning_rate=0.5,
        seed=8,
    )
    found = net_options(given, 1000)
    for name in ("hidden_layers", "hidden_units", "dropout", "epochs", "batch_size", "seed"):
        assert getattr(found, name) == getattr(given, name)
    assert net_options(found, 5) is found
