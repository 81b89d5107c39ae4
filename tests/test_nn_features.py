"""Every feature of the family runs forward and backward, and does what its name says."""

import dataclasses
import subprocess
import sys
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from resfit.nn import plan as layout
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ACTIVATIONS, DropPath, Residual, ResNet, build_module
from resfit.nn.spec import ActivationKind, NormKind, Order, ResNetSpec, Shortcut, Stem

SMALL = ResNetSpec(depths=(2, 1), widths=(16, 32), strides=(1, 2), stem="cifar", stem_width=16, num_classes=3)
BOTTLENECK = {"block": "bottleneck", "widths": (32, 64)}


def changed(**changes: Any) -> ResNetSpec:
    return dataclasses.replace(SMALL, **changes)


FEATURES: list[dict[str, Any]] = [
    *({"activation": kind} for kind in get_args(ActivationKind)),
    *({"norm": norm, "order": order} for norm in get_args(NormKind) for order in get_args(Order)),
    *({"stem": stem, "order": order} for stem in get_args(Stem) for order in ("post", "pre")),
    *(
        {"shortcut": shortcut, "order": order}
        for shortcut in get_args(Shortcut)
        if shortcut != "identity"
        for order in ("post", "pre")
    ),
    {"shortcut": "identity", "widths": (16, 16), "strides": (1, 1)},
    *({**BOTTLENECK, "stride_in": where, "order": order} for where in ("1x1", "3x3") for order in ("post", "pre")),
    {**BOTTLENECK, "groups": 4, "mid_ratio": 2.0},
    {**BOTTLENECK, "mid_ratio": 2.0},
    {"block": "article", "order": "none", "bias": True},
    {"block": "article", "order": "post"},
    {"bias": True, "order": "none"},
    {"se_ratio": 0.25},
    {"se_ratio": 0.25, "order": "pre"},
    {**BOTTLENECK, "se_ratio": 1 / 16},
    {"drop_path": 0.3},
    {"dropout": 0.3},
    {"dropout": 0.3, "order": "pre"},
    {"zero_gamma": True},
    {"zero_gamma": True, "order": "pre"},
    {"zero_gamma": True, "norm": "none", "bias": True},
    {"zero_gamma": True, "se_ratio": 0.25},
    {"in_channels": 1},
    {"in_channels": 5},
    {"depths": (1,), "widths": (16,), "strides": (3,)},
    {"depths": (1, 1, 1, 1, 1), "widths": (16, 16, 24, 32, 40), "strides": (1, 2, 1, 2, 2)},
    {"inner_widths": (((5,), (16,)), ((9,),))},
    {**BOTTLENECK, "inner_widths": (((5, 7), (8, 8)), ((3, 16),))},
    {"shortcut": "zero_pad", "widths": (16, 29), "shortcut_pads": ((0, 0), (3, 10))},
    {"shortcut": "zero_pad", "widths": (20, 29), "order": "pre"},
]


@pytest.mark.parametrize("changes", FEATURES, ids=str)
def test_forward_and_backward(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    spec = changed(**changes)
    network = ResNet(spec)
    images = torch.randn(3, spec.in_channels, 27, 18)
    logits = network(images)
    assert logits.shape == (3, 3)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, f"{name} has no gradient"
        assert value.grad.isfinite().all(), f"{name} has a gradient that is not finite"
        if value.ndim > 1 and not spec.zero_gamma:
            assert value.grad.abs().max() > 0, f"{name} learns nothing"
    before = network.eval()(images)
    assert before.isfinite().all()
    reread = ResNet(spec).eval()
    reread.load_state_dict(network.state_dict())
    torch.testing.assert_close(reread(images), before)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (32, 32), (61, 17)], ids=str)
@pytest.mark.parametrize("shortcut", ["zero_pad", "projection", "avgpool", "none"])
@pytest.mark.parametrize("stem", get_args(Stem))
def test_any_input_size(size: tuple[int, int], shortcut: Any, stem: Any) -> None:
    network = ResNet(changed(shortcut=shortcut, stem=stem, strides=(2, 3))).eval()
    with torch.inference_mode():
        assert network(torch.randn(1, 3, *size)).isfinite().all()


def test_every_activation_has_a_module() -> None:
    assert set(ACTIVATIONS) == set(get_args(ActivationKind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sin", lambda x: x.sin()),
        ("tanh", lambda x: x.tanh()),
        ("relu", lambda x: x.clamp(min=0)),
        ("relu6", lambda x: x.clamp(0, 6)),
        ("leaky_relu", lambda x: torch.where(x < 0, 0.01 * x, x)),
        ("prelu", lambda x: torch.where(x < 0, 0.25 * x, x)),
        ("elu", lambda x: torch.where(x < 0, x.exp() - 1, x)),
        ("gelu", lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2),
        ("silu", lambda x: x / (1 + (-x).exp())),
        ("softplus", lambda x: (1 + x.exp()).log()),
        ("sigmoid", lambda x: 1 / (1 + (-x).exp())),
        ("identity", lambda x: x),
    ],
)
def test_activations_are_what_they_are_called(kind: ActivationKind, expected: Any) -> None:
    x = torch.linspace(-8, 8, 101)
    module = build_module(layout.Activation(name="act", kind=kind))
    torch.testing.assert_close(module(x.clone()), expected(x))


def first_block(spec: ResNetSpec) -> Residual:
    block = ResNet(spec).get_submodule("layer1.0")
    assert isinstance(block, Residual)
    return block


def test_a_pre_activation_without_norm_leaves_the_shortcut_alone() -> None:
    """The leading ReLU must not write into the tensor that the shortcut adds."""
    block = first_block(changed(order="pre", norm="none", bias=True))
    x = torch.randn(2, 16, 6, 5)
    kept = x.clone()
    branch = block.conv2(torch.relu(block.conv1(torch.relu(kept))))
    torch.testing.assert_close(block(x), kept + branch)
    torch.testing.assert_close(x, kept)


@pytest.mark.parametrize("shortcut", ["zero_pad", "projection"])
def test_in_pre_activation_a_parametric_shortcut_reads_the_activated_input(shortcut: Any) -> None:
    block = ResNet(changed(order="pre", shortcut=shortcut)).eval().get_submodule("layer2.0")
    x = torch.randn(2, 16, 8, 6)
    activated = torch.relu(block.bn1(x))
    branch = block.conv2(torch.relu(block.bn2(block.conv1(activated))))
    meets = block.downsample(activated if shortcut == "projection" else x)
    torch.testing.assert_close(block(x), meets + branch)


def test_a_zero_pad_shortcut_keeps_pixels_and_adds_zeros() -> None:
    spec = changed(shortcut="zero_pad", widths=(16, 29), shortcut_pads=((0, 0), (3, 10)))
    x = torch.randn(2, 16, 7, 5)
    padded = ResNet(spec).get_submodule("layer2.0.downsample")(x)
    assert padded.shape == (2, 29, 4, 3)
    torch.testing.assert_close(padded[:, 3:19], x[:, :, ::2, ::2])
    assert not padded[:, :3].any()
    assert not padded[:, 19:].any()


def test_projection_always_projects_where_nothing_changes() -> None:
    names = {name for name, _ in layout.walk(layout.plan(changed(shortcut="projection_always")))}
    assert {"layer1.0.downsample.0", "layer1.1.downsample.0", "layer2.0.downsample.0"} <= names
    names = {name for name, _ in layout.walk(layout.plan(changed(shortcut="projection")))}
    assert {name for name in names if name.endswith("downsample.0")} == {"layer2.0.downsample.0"}


def test_a_plain_network_adds_nothing() -> None:
    block = first_block(changed(shortcut="none")).eval()
    x = torch.randn(2, 16, 6, 5)
    branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    torch.testing.assert_close(block(x), torch.relu(branch))
    assert "downsample" not in " ".join(ResNet(architecture("plain_resnet18")).state_dict())


def test_a_plain_network_keeps_its_only_path() -> None:
    """zero_gamma and drop_path would cut a network that has no shortcut; there they do nothing."""
    spec = changed(shortcut="none", zero_gamma=True, drop_path=0.9)
    network = ResNet(spec)
    assert all(module.rate == 0 for module in network.modules() if isinstance(module, DropPath))
    images = torch.randn(4, 3, 16, 16)
    assert network(images).std(0).min() > 0


@pytest.mark.parametrize("changes", [{}, {"order": "pre"}, {"norm": "none", "bias": True}, {"se_ratio": 0.25}])
def test_with_zero_gamma_a_block_starts_as_the_identity(changes: dict[str, Any]) -> None:
    block = first_block(changed(zero_gamma=True, **changes))
    x = torch.rand(4, 16, 6, 5)
    torch.testing.assert_close(block(x.clone()), x)
    ordinary = first_block(changed(**changes))
    assert not torch.allclose(ordinary(x.clone()), x)


def test_drop_path_rises_linearly_to_its_rate() -> None:
    spec = dataclasses.replace(architecture("resnet20"), drop_path=0.4)
    rates = [part.drop_path for _, part in layout.walk(layout.plan(spec)) if isinstance(part, layout.Residual)]
    assert rates == pytest.approx([0.05 * index for index in range(9)])


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = DropPath(0.25)(torch.ones(4000, 2, 3, 1))
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == dropped[:, :1, :1]).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)
    assert DropPath(0.25).eval()(torch.ones(5, 1, 1, 1)).eq(1).all()


def test_a_dropped_branch_leaves_the_shortcut() -> None:
    torch.manual_seed(0)
    block = ResNet(changed(drop_path=0.5)).get_submodule("layer2.0")
    x = torch.randn(64, 16, 4, 4)
    output, shortcut = block(x), torch.relu(block.downsample(x))
    kept = (output - shortcut).abs().amax((1, 2, 3)) > 1e-5
    assert 16 < kept.sum() < 48


@pytest.mark.parametrize("changes", [{"drop_path": 0.5}, {"dropout": 0.5}, {"dropout": 0.5, "order": "pre"}])
def test_chance_acts_in_training_only(changes: dict[str, Any]) -> None:
    network = ResNet(changed(norm="group", **changes))
    images = torch.randn(8, 3, 12, 12)
    assert not torch.allclose(network(images), network(images))
    network.eval()
    torch.testing.assert_close(network(images), network(images))
    certain = ResNet(changed(norm="group", **{**changes, "drop_path": 0.0, "dropout": 0.0})).eval()
    certain.load_state_dict(network.state_dict())
    torch.testing.assert_close(certain(images), network(images))


def test_squeeze_excite_gates_channels() -> None:
    gates = build_module(layout.SqueezeExcite(name="se", channels=16, reduced=8))
    x = torch.randn(2, 16, 5, 4)
    ratio = gates(x) / x
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    assert (ratio > 0).all()
    assert (ratio < 1).all()


@pytest.mark.parametrize(("channels", "groups"), [(64, 4), (16, 1), (8, 1), (24, 1), (7, 1), (40, 2), (34, 2)])
def test_group_norms_hold_at_least_sixteen_channels_a_group(channels: int, groups: int) -> None:
    spec = changed(norm="group", stem_width=channels)
    norm = ResNet(spec).get_submodule("bn1")
    assert isinstance(norm, nn.GroupNorm)
    assert norm.num_groups == groups


def test_only_leading_norms_stand_when_the_others_are_folded() -> None:
    def norms(order: Order) -> list[str]:
        parts = layout.walk(layout.plan(changed(norm="batch_leading", bias=True, order=order)))
        return [name for name, part in parts if isinstance(part, layout.Norm)]

    assert norms("pre") == ["layer1.0.bn1", "layer1.1.bn1", "layer2.0.bn1", "norm"]
    assert norms("post") == []


def test_taps_receive_every_top_level_output() -> None:
    network = ResNet(changed(stem="imagenet")).eval()
    taps: dict[str, Tensor] = {}
    logits = network(torch.randn(2, 3, 32, 32), taps)
    assert list(taps) == ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "avgpool", "fc"]
    assert taps["layer2"].shape == (2, 32, 4, 4)
    torch.testing.assert_close(taps["layer2"].mean((2, 3)), taps["avgpool"])
    assert taps["fc"] is logits


def test_he_initialisation_keeps_the_signal() -> None:
    torch.manual_seed(0)
    convolution = ResNet(architecture("resnet20")).get_submodule("layer3.1.conv1")
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("channels", [4, 12, 16])
def test_strided_shortcuts_train_in_every_memory_format(channels: int) -> None:
    """In a process of its own: where torch's own kernel is used, memory is corrupted and the process dies."""
    code = f"""
import torch
from resfit.nn.plan import Convolution
from resfit.nn.resnet import build_module
torch.manual_seed(0)
layer = build_module(Convolution(name="0", in_channels={channels}, out_channels=8, kernel=1, stride=2))
reference = torch.nn.Conv2d({channels}, 8, 1, 2, bias=False)
reference.load_state_dict(layer.state_dict())
layer = layer.to(memory_format=torch.channels_last)
for _ in range(4):
    x = torch.randn(64, {channels}, 64, 64)
    y = layer(x.contiguous(memory_format=torch.channels_last))
    expected = reference(x)
    assert torch.allclose(y, expected, atol=1e-5)
    grad = torch.randn_like(expected)
    layer.zero_grad(); reference.zero_grad()
    y.backward(grad.contiguous(memory_format=torch.channels_last)); expected.backward(grad)
    assert torch.allclose(layer.weight.grad, reference.weight.grad, rtol=1e-3, atol=1e-2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
