"""Counts against published ones, and against torch's own counter for every odd feature."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from resfit.errors import UsageError
from resfit.measure.macs import macs, macs_by_operation, parameters, stages
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec

TORCHVISION = {  # torchvision's documentation
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
}
CIFAR = {  # akamaster/pytorch_resnet_cifar10
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
}


def test_resnet50_has_the_published_counts() -> None:
    spec = architecture("resnet50")
    assert parameters(spec) == 25_557_032
    assert macs(spec, 224, 224) == 4_089_184_256


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_counts(name: str) -> None:
    published = models.get_model_weights(name)["IMAGENET1K_V1"].meta
    spec = architecture(name)
    assert parameters(spec) == TORCHVISION[name] == published["num_params"]
    assert round(macs(spec, 224, 224) / 1e9, 3) == published["_ops"]


@pytest.mark.parametrize("name", CIFAR)
def test_cifar_counts(name: str) -> None:
    assert parameters(architecture(name)) == CIFAR[name]


def test_resnet20_macs() -> None:
    stem = 9 * 3 * 16 * 32 * 32
    wide = 9 * 16 * 16 * 32 * 32  # every 3x3 convolution of equal channels costs this, in each stage
    assert macs(architecture("resnet20"), 32, 32) == stem + 6 * wide + 2 * (wide // 2 + 5 * wide) + 64 * 10


@pytest.mark.parametrize(
    ("name", "millions"), [("wrn-28-10", 36.5), ("wrn-16-4", 2.7), ("wrn-40-4", 8.9), ("wrn-22-8", 17.2)]
)
def test_wide_networks_have_the_papers_sizes(name: str, millions: float) -> None:
    assert round(parameters(architecture(name)) / 1e6, 1) == millions


def test_wrn_28_10_macs_are_the_papers() -> None:
    assert macs(architecture("wrn-28-10"), 32, 32) == pytest.approx(5.2e9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "published"),
    [("resnet10t", 5.44), ("resnet50d", 25.58), ("resnet101d", 44.57), ("seresnet50", 28.09)],
)
def test_timm_counts(name: str, published: float) -> None:
    with torch.device("meta"):
        theirs = timm.create_model(name)
    assert parameters(architecture(name)) == sum(value.numel() for value in theirs.parameters())
    assert round(parameters(architecture(name)) / 1e6, 2) == published


@pytest.mark.parametrize("name", ["resnet1202", "resnet152", "wide_resnet101_2", "seresnet152d", "wrn-28-10"])
def test_the_largest_networks_build_and_count(name: str) -> None:
    spec = architecture(name)
    with torch.device("meta"):
        network = ResNet(spec)
    assert sum(value.numel() for value in network.parameters()) == parameters(spec)


SMALL = ResNetSpec(depths=(1, 2), widths=(16, 32), strides=(1, 2), stem="cifar", stem_width=8, num_classes=5)


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "imagenet"},
        {"stem": "deep", "shortcut": "avgpool", "strides": (3, 2)},
        {"stem": "tiered", "order": "pre"},
        {"block": "bottleneck", "groups": 2, "mid_ratio": 2.0},
        {"block": "bottleneck", "stride_in": "1x1", "shortcut": "projection_always"},
        {"block": "article", "order": "none", "bias": True},
        {"shortcut": "zero_pad", "in_channels": 1},
        {"shortcut": "none"},
        {"se_ratio": 0.25, "activation": "prelu", "norm": "group"},
        {"inner_widths": (((5,),), ((7,), (3,)))},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(33, 18), (7, 5), (1, 1)], ids=str)
def test_counts_equal_torchs_counter(changes: dict, size: tuple[int, int]) -> None:
    spec = ResNetSpec.from_dict({**SMALL.to_dict(), **changes})
    with torch.device("meta"):
        network = ResNet(spec).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, spec.in_channels, *size))
    assert 2 * macs(spec, *size) == counter.get_total_flops()
    assert parameters(spec) == sum(value.numel() for value in network.parameters())


def test_operations_add_up_to_the_whole() -> None:
    for name in ("resnet20", "seresnet18d"):
        spec = architecture(name)
        rows = macs_by_operation(spec, 65, 97)
        assert sum(rows.values()) == macs(spec, 65, 97)
        assert rows["fc"] == spec.widths[-1] * spec.num_classes
    assert list(macs_by_operation(architecture("resnet8"), 32, 32)) == [
        "conv1", *(f"layer{stage}.0.conv{number}" for stage in (1, 2, 3) for number in (1, 2)), "fc",
    ]  # fmt: skip


def test_stages_add_up_and_show_true_shapes() -> None:
    spec = architecture("seresnet18d")
    rows = stages(spec, 65, 97)
    assert [row["name"] for row in rows] == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert sum(row["parameters"] for row in rows) == parameters(spec)
    assert sum(row["macs"] for row in rows) == macs(spec, 65, 97)
    taps: dict[str, torch.Tensor] = {}
    with torch.device("meta"):
        ResNet(spec)(torch.empty(2, 3, 65, 97), taps)
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in taps.items()}
    for row in rows:
        last = {"stem": "maxpool", "head": "fc"}.get(row["name"], row["name"])
        assert row["output_shape"] == shapes[last]
    json.dumps(rows)


def test_a_network_ends_in_its_head_even_when_pre_activated() -> None:
    rows = stages(architecture("preresnet20"), 32, 32)
    assert [row["name"] for row in rows] == ["stem", "layer1", "layer2", "layer3", "head"]
    assert rows[-1] == {"name": "head", "output_shape": (10,), "parameters": 128 + 650, "macs": 640}


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(UsageError, match="0x32"):
        macs(SMALL, 0, 32)


def test_counting_imports_no_torch() -> None:
    code = (
        "import sys; from resfit.measure.macs import macs; from resfit.nn.architectures import architecture\n"
        "assert macs(architecture('resnet50'), 224, 224) == 4089184256\n"
        "assert not {'torch', 'numpy'} & set(sys.modules), 'heavy imports'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
