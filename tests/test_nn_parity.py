"""Logits equal to torchvision's, timm's and transformers' networks that hold the same random weights."""

import dataclasses
import re
from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models
from transformers import ResNetConfig, ResNetForImageClassification

from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec


def randomise(network: nn.Module) -> dict[str, Tensor]:
    """Fill every weight and running statistic of a network made on the meta device; the state dict."""
    network.to_empty(device="cpu")
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.6)
            module.bias.data.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(7)
        else:
            for value in module.parameters(recurse=False):
                bound = (3 / max(value[0].numel(), 1)) ** 0.5
                value.data.uniform_(-bound, bound)
    return network.eval().state_dict()


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def assert_equal_logits(
    theirs: nn.Module, spec: ResNetSpec, state: dict[str, Tensor], size: tuple[int, int] = (33, 48)
) -> None:
    ours = on_meta(lambda: ResNet(spec))
    ours.load_state_dict(state, assign=True)
    images = torch.randn(2, spec.in_channels, *size)
    with torch.inference_mode():
        expected = theirs(images)
        logits = ours.eval()(images)
    expected = getattr(expected, "logits", expected)
    spread = (expected[0] - expected[1]).abs().max().item()
    assert spread > 1e-3 * expected.abs().max(), "the random network must tell two images apart"
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-3 * spread)


TORCHVISION = [
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2",
]  # fmt: skip


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name: str) -> None:
    theirs = on_meta(lambda: models.get_model(name))
    ours = on_meta(lambda: ResNet(architecture(name)))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_equal_logits(theirs, architecture(name), randomise(theirs))


TIMM = [
    "resnet10t", "resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d",
    "seresnet18", "seresnet34", "seresnet50", "seresnet101", "seresnet152",
]  # fmt: skip


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    theirs = on_meta(lambda: timm.create_model(name))
    ours = on_meta(lambda: ResNet(architecture(name)))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert_equal_logits(theirs, architecture(name), randomise(theirs))


def test_timm_with_other_classes_channels_and_activation() -> None:
    theirs = on_meta(lambda: timm.create_model("resnet18d", num_classes=7, in_chans=1, act_layer="silu"))
    spec = dataclasses.replace(architecture("resnet18d"), num_classes=7, in_channels=1, activation="silu")
    assert_equal_logits(theirs, spec, randomise(theirs))


def preactivation_name(name: str) -> str:
    """Our name of a value of timm's ResNetV2."""
    name = re.sub(r"^stem\.conv\.", "conv1.", name)
    name = re.sub(r"^stem\.conv(\d)", lambda found: f"conv1.{3 * int(found[1]) - 3}", name)
    name = re.sub(r"^stem\.norm(\d)", lambda found: f"conv1.{3 * int(found[1]) - 2}", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.", lambda found: f"layer{int(found[1]) + 1}.", name)
    name = re.sub(r"^head\.fc", "fc", name)
    return re.sub(r"\.norm(\d)", r".bn\1", name)


@pytest.mark.parametrize(("name", "projection"), [("resnetv2_50", "0"), ("resnetv2_50d", "1")])
def test_timm_pre_activation(name: str, projection: str) -> None:
    theirs = on_meta(lambda: timm.create_model(name))
    state = {
        preactivation_name(key).replace("downsample.conv", f"downsample.{projection}"): value
        for key, value in randomise(theirs).items()
    }
    state["fc.weight"] = state["fc.weight"].flatten(1)
    spec = architecture("preresnet50")
    if projection == "1":
        spec = dataclasses.replace(spec, stem="deep", shortcut="avgpool")
    assert_equal_logits(theirs, spec, state)


def transformers_name(name: str) -> str:
    """Our name of a value of transformers' ResNetForImageClassification."""
    name = re.sub(r"^resnet\.embedder\.embedder\.convolution", "conv1", name)
    name = re.sub(r"^resnet\.embedder\.embedder\.normalization", "bn1", name)
    name = re.sub(r"^resnet\.encoder\.stages\.(\d)\.layers", lambda found: f"layer{int(found[1]) + 1}", name)
    name = re.sub(r"layer\.(\d)\.convolution", lambda found: f"conv{int(found[1]) + 1}", name)
    name = re.sub(r"layer\.(\d)\.normalization", lambda found: f"bn{int(found[1]) + 1}", name)
    name = name.replace("shortcut.convolution", "downsample.0").replace("shortcut.normalization", "downsample.1")
    return re.sub(r"^classifier\.1", "fc", name)


@pytest.mark.parametrize(
    ("name", "changes", "theirs"),
    [
        ("resnet50", {}, {}),
        ("resnet50", {"stride_in": "1x1"}, {"downsample_in_bottleneck": True}),
        ("resnet50", {"strides": (2, 2, 2, 2)}, {"downsample_in_first_stage": True}),
        ("resnet34", {}, {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}),
        (
            "resnet18",
            {"in_channels": 1, "activation": "relu"},
            {
                "layer_type": "basic",
                "hidden_sizes": [64, 128, 256, 512],
                "depths": [2, 2, 2, 2],
                "num_channels": 1,
            },
        ),
    ],
    ids=["v1.5", "stride in the 1x1", "stride in the first stage", "basic", "one channel"],
)
def test_transformers(name: str, changes: dict, theirs: dict) -> None:
    config = ResNetConfig(num_labels=11, **theirs)
    network = on_meta(lambda: ResNetForImageClassification(config))
    state = {transformers_name(key): value for key, value in randomise(network).items()}
    spec = dataclasses.replace(architecture(name), num_classes=11, **changes)
    assert_equal_logits(network, spec, state)


class CifarBlock(nn.Module):
    """The basic block of the published CIFAR networks (option A)."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.added = after - before

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return torch.relu(out + x)


class CifarNetwork(nn.Module):
    """The published CIFAR network of depth 6n+2."""

    def __init__(self, blocks: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (before, after) in enumerate([(16, 16), (16, 32), (32, 64)]):
            first = CifarBlock(before, after, 2 if stage else 1)
            rest = [CifarBlock(after, after, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(first, *rest))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 3), ("resnet56", 9)])
def test_the_published_cifar_networks(name: str, blocks: int) -> None:
    theirs = on_meta(lambda: CifarNetwork(blocks))
    assert_equal_logits(theirs, architecture(name), randomise(theirs), size=(32, 32))
