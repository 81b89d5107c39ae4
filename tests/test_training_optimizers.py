"""Optimisers: what is decayed, that each learns, and the limits of gradients and weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.training.muon import Muon
from resfit.training.optimizers import add_l1, build_optimizer, decayed_weights, limit_gradients, limit_weights
from resfit.training.recipe import Recipe

SIZES = st.floats(1e-3, 1e3)


def _network() -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 2))


def test_decay_spares_norms_and_biases_unless_told():
    network = _network()
    decayed, spared = build_optimizer(network, Recipe(lr=0.1, weight_decay=0.01)).param_groups
    assert [tuple(p.shape) for p in decayed["params"]] == [(8, 3, 3, 3), (2, 8)]
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    assert len(spared["params"]) == 4
    groups = build_optimizer(network, Recipe(lr=0.1, weight_decay=0.01, decay_norms=True)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0.01]


@pytest.mark.parametrize(
    ("name", "kind", "lr"),
    [
        ("sgd", torch.optim.SGD, 0.02),
        ("adam", torch.optim.Adam, 0.02),
        ("adamw", torch.optim.AdamW, 0.02),
        ("rmsprop", torch.optim.RMSprop, 0.005),
        ("adagrad", torch.optim.Adagrad, 0.2),
        ("muon", Muon, 0.02),
    ],
)
def test_each_optimiser_finds_the_bottom_of_a_bowl(name, kind, lr):
    network = torch.nn.Linear(4, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    optimizer = build_optimizer(network, Recipe(optimizer=name, lr=lr, weight_decay=0.0))
    assert type(optimizer) is kind
    for _ in range(300):
        optimizer.zero_grad()
        network.weight.square().sum().backward()
        optimizer.step()
    assert network.weight.abs().max() < 0.5


def test_momentum_and_nesterov_are_handed_on():
    network = _network()
    settings = build_optimizer(network, Recipe(lr=0.1, momentum=0.7, nesterov=False)).defaults
    assert (settings["momentum"], settings["nesterov"]) == (0.7, False)
    assert build_optimizer(network, Recipe(lr=0.1)).defaults["nesterov"]
    assert build_optimizer(network, Recipe(lr=0.1, momentum=0.0)).defaults["nesterov"] is False
    assert build_optimizer(network, Recipe(lr=0.1, optimizer="adam", momentum=0.8)).defaults["betas"][0] == 0.8
    assert build_optimizer(network, Recipe(lr=0.1, optimizer="rmsprop", momentum=0.5)).defaults["momentum"] == 0.5


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_sgd_in_one_pass_gives_the_weights_of_the_plain_loop(memory_format):
    """Its kernel runs through memory: gradients and momentum must lie as the weights do."""
    weights = []
    for fused in (True, False):
        torch.manual_seed(0)
        network = _network()[:2].to(memory_format=memory_format)
        optimizer = build_optimizer(network, Recipe(lr=0.1, weight_decay=0.01))
        for group in optimizer.param_groups:
            group["fused"] = fused
        for step in range(4):
            if step == 2:  # as a resumed training has it
                optimizer.load_state_dict(optimizer.state_dict())
            optimizer.zero_grad()
            network(torch.randn(2, 3, 9, 9).contiguous(memory_format=memory_format)).square().mean().backward()
            optimizer.step()
        weights.append([p.detach().clone() for p in network.parameters()])
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-7)


def test_l1_is_the_gradient_of_the_sum_of_absolute_weights():
    network = _network()
    weights = decayed_weights(network)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    add_l1(weights, 0.03)
    found = [weight.grad.clone() for weight in weights]
    for weight in weights:
        weight.grad = None
    (0.03 * sum(weight.abs().sum() for weight in weights)).backward()
    for weight, gradient in zip(weights, found, strict=True):
        torch.testing.assert_close(gradient, weight.grad)


@settings(deadline=None, max_examples=50)
@given(SIZES, SIZES, st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), min_size=1, max_size=4))
def test_gradients_keep_to_their_limits_and_their_direction(norm, value, rows):
    gradients = [torch.tensor(row) for row in rows]
    before = [gradient.clone() for gradient in gradients]
    total = torch.nn.utils.get_total_norm(gradients)
    limit_gradients(gradients, total, Recipe(clip_norm=norm))
    assert torch.nn.utils.get_total_norm(gradients) <= norm * 1.0001
    if total <= norm:
        assert all(torch.equal(old, new) for old, new in zip(before, gradients, strict=True))
    else:
        scale = norm / total
        assert all(
            torch.allclose(old * scale, new, rtol=1e-4, atol=1e-6) for old, new in zip(before, gradients, strict=True)
        )
    limit_gradients(before, total, Recipe(clip_value=value))
    assert all(gradient.abs().max() <= value * 1.0001 for gradient in before)


def test_value_is_cut_before_the_norm():
    gradients = [torch.tensor([3.0, 0.4])]
    limit_gradients(gradients, torch.tensor(3.03), Recipe(clip_value=0.3, clip_norm=0.3))
    torch.testing.assert_close(gradients[0], torch.tensor([0.3, 0.3]) * 0.5**0.5)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 10), st.integers(0, 100))
def test_weights_keep_to_their_limits(limit, seed):
    torch.manual_seed(seed)
    network = _network()
    norms_before = [p.clone() for p in network.parameters() if p.ndim == 1]
    limit_weights(decayed_weights(network), Recipe(max_norm=limit))
    assert all(w.flatten(1).norm(dim=1).max() <= limit * 1.0001 for w in decayed_weights(network))
    limit_weights(decayed_weights(network), Recipe(clip_weights=limit / 2))
    assert all(w.abs().max() <= limit / 2 * 1.0001 for w in decayed_weights(network))
    assert all(
        torch.equal(a, b) for a, b in zip(norms_before, [p for p in network.parameters() if p.ndim == 1], strict=True)
    )
