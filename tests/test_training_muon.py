"""Muon: the shape and the length of a convolution's step, and that all else learns by SGD."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resfit.training.muon import STEP_SHARE, Muon, orthogonal
from resfit.training.optimizers import build_optimizer
from resfit.training.recipe import Recipe

LR = 0.1


def _network(groups: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3))


def _optimizer(network: nn.Module, **values: object) -> torch.optim.Optimizer:
    return build_optimizer(network, Recipe(optimizer="muon", lr=LR, **{"weight_decay": 0.0, **values}))


def _learn(network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 1, scale: float = 1.0) -> None:
    for step in range(steps):
        images = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (scale * network(images).square().mean()).backward()
        optimizer.step()


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), count=st.integers(1, 3), scale=st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_all_directions_become_about_equally_strong(rows, columns, count, scale):
    generator = torch.Generator().manual_seed(rows * 41 + columns)
    left = torch.linalg.qr(torch.randn(count, rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(count, columns, columns, generator=generator))[0]
    most = min(rows, columns)
    strengths = torch.linspace(0.05, 1, most)
    found = orthogonal(scale * left[:, :, :most] * strengths @ right[:, :most])
    assert found.shape == (count, rows, columns)
    singular = torch.linalg.svdvals(found)
    assert singular.min() > 0.6
    assert singular.max() < 1.25
    nearest = left[:, :, :most] @ right[:, :most]
    assert (found * nearest).sum((1, 2)).min() > 0.9 * found.norm(dim=(1, 2)).max() * most**0.5


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_step_has_the_same_length_whatever_the_size_of_gradient_and_weights(groups, scale):
    network = _network(groups)
    with torch.no_grad():
        network[0].weight.mul_(scale)
    before = network[0].weight.detach().clone()
    _learn(network, _optimizer(network), scale=1 / scale)
    moved = network[0].weight.detach() - before
    assert moved.norm().item() == pytest.approx(STEP_SHARE * LR * before.norm().item(), rel=1e-3)


def test_each_group_of_a_convolution_is_a_matrix_of_its_own():
    network = _network(4)
    before = network[0].weight.detach().clone()
    _learn(network, _optimizer(network))
    moved = (network[0].weight.detach() - before).reshape(4, 2, -1)
    singular = torch.linalg.svdvals(moved)
    assert singular.max() / singular.min() < 2
    assert torch.linalg.svdvals(moved.reshape(8, -1)).min() < 0.99 * singular.max()


def test_all_but_convolutions_learns_as_by_sgd():
    network = _network()
    network[0].requires_grad_(False)
    other = copy.deepcopy(network)
    _learn(network, _optimizer(network, weight_decay=0.01), steps=5)
    by_sgd = build_optimizer(other, Recipe(lr=LR, weight_decay=0.01, freeze_epochs=1))
    _learn(other, by_sgd, steps=5)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], msg=name)


def test_decay_draws_a_convolution_to_zero_and_no_gradient_leaves_it():
    network = _network()
    optimizer = _optimizer(network, weight_decay=0.5)
    before = network[0].weight.detach().clone()
    network[0].weight.grad = torch.zeros_like(before)
    optimizer.step()
    torch.testing.assert_close(network[0].weight.detach(), before * (1 - LR * 0.5))


def test_what_it_remembers_can_be_written_and_read():
    network = _network()
    optimizer = _optimizer(network)
    _learn(network, optimizer, steps=3)
    other = copy.deepcopy(network)
    resumed = _optimizer(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _learn(network, optimizer, steps=2)
    _learn(other, resumed, steps=2)
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name


def test_layers_may_have_rates_of_their_own():
    network = _network()
    optimizer = _optimizer(network, layer_decay=0.5)
    assert isinstance(optimizer, Muon)
    assert [group["convolution_groups"] for group in optimizer.param_groups].count(1) == 1
    everything = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(id(p) for p in network.parameters())
