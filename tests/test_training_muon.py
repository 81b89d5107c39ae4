"""Muon: the shape and the length of a convolution's step, and that all else learns by SGD."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_spec
from torch import nn

from resfit.errors import UsageError
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec
from resfit.training.muon import STEP_SHARE, orthogonal
from resfit.training.optimizers import build_optimizer, set_rate
from resfit.training.recipe import Recipe

LR = 0.1


def _network(groups: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=groups), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 3))


def _resnet(spec: ResNetSpec) -> ResNet:
    torch.manual_seed(0)
    return ResNet(spec).train()


def _optimizer(network: nn.Module, **values: object) -> torch.optim.Optimizer:
    return build_optimizer(network, Recipe(optimizer="muon", lr=LR, **{"weight_decay": 0.0, **values}))


def _learn(network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int = 1, scale: float = 1.0) -> float:
    loss = torch.tensor(0.0)
    for step in range(steps):
        images = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(step % 4))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), torch.arange(16) % 3)
        (scale * loss).backward()
        optimizer.step()
    return loss.item()


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
    assert moved.norm().item() == pytest.approx(STEP_SHARE * LR * before.norm().item(), rel=0.02)


def test_the_length_of_the_weights_stays_in_a_long_training():
    network = _network()
    before = network[0].weight.norm().item()
    _learn(network, _optimizer(network, weight_decay=0.1), steps=2000)
    assert network[0].weight.norm().item() == pytest.approx(before, rel=1e-3)


def test_a_convolution_learns():
    network = _network()
    network[3].requires_grad_(False)
    network[1].requires_grad_(False)
    optimizer = _optimizer(network)
    first = _learn(network, optimizer)
    assert _learn(network, optimizer, steps=200) < 0.8 * first


def test_each_group_of_a_convolution_is_a_matrix_of_its_own():
    network = _network(2)
    before = network[0].weight.detach().clone()
    gradient = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    network[0].weight.grad = torch.cat([gradient, 100 * gradient])  # as one matrix, the second would win
    set_rate(optimizer := _optimizer(network), 1e-3)
    optimizer.step()
    moved = (network[0].weight.detach() - before).reshape(2, -1)
    assert moved[0].norm().item() == pytest.approx(moved[1].norm().item(), rel=1e-2)
    assert nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.999


def test_layouts_of_memory_take_the_same_step():
    plain, last = _network(), _network().to(memory_format=torch.channels_last)
    for network in (plain, last):
        _learn(network, _optimizer(network), steps=3)
    torch.testing.assert_close(plain[0].weight, last[0].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("nesterov", [True, False])
def test_all_but_convolutions_learns_as_by_sgd(nesterov):
    network = _network()
    network[0].requires_grad_(False)
    other = copy.deepcopy(network)
    _learn(network, _optimizer(network, weight_decay=0.01, nesterov=nesterov), steps=5)
    by_sgd = build_optimizer(other, Recipe(lr=LR, weight_decay=0.01, freeze_epochs=1, nesterov=nesterov))
    _learn(other, by_sgd, steps=5)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, other.state_dict()[name], msg=name)


def test_gates_learn_as_by_sgd_and_all_other_convolutions_by_muon():
    network = _resnet(small_spec(se_ratio=0.25))
    optimizer = _optimizer(network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    turned = {
        names[id(parameter)]
        for group in optimizer.param_groups
        if group["convolution_groups"]
        for parameter in group["params"]
    }
    convolutions = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert any(".se." in name for name in convolutions)
    assert turned == {name for name in convolutions if ".se." not in name}


def test_a_network_without_norms_is_refused():
    with pytest.raises(UsageError, match="needs a norm behind the convolutions"):
        _optimizer(_resnet(small_spec(norm="none", bias=True)))


def test_without_a_gradient_the_weights_rest_whatever_came_before():
    network = _network()
    optimizer = _optimizer(network)
    _learn(network, optimizer, steps=2)
    before = network[0].weight.detach().clone()
    network[0].weight.grad = torch.zeros_like(before)
    optimizer.step()
    assert torch.equal(network[0].weight, before)


def test_weights_of_zero_begin_to_learn():
    network = _network()
    nn.init.zeros_(network[0].weight)
    network[0].weight.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    _optimizer(network).step()
    assert network[0].weight.norm().item() == pytest.approx(STEP_SHARE * LR * 4.0)


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
    network = _resnet(small_spec())
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimizer = _optimizer(network, layer_decay=0.5)
    set_rate(optimizer, LR)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    def share(name: str) -> float:
        return ((network.get_parameter(name) - before[name]).norm() / before[name].norm()).item()

    assert share("layer1.0.conv1.weight") == pytest.approx(share("layer2.0.conv1.weight") / 2, rel=0.05)
    assert share("conv1.weight") == pytest.approx(share("layer1.0.conv1.weight") / 2, rel=0.05)
