"""Published checkpoints open as they are: the network is read from tensor names and shapes."""

import argparse
import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from small_models import images, small_model, small_spec
from test_nn_article import ArticleResNet
from torch import Tensor, nn
from torchvision import models

from resfit.errors import ModelError, UsageError
from resfit.model.foreign import load_checkpoint
from resfit.model.infer import infer_spec
from resfit.model.model import Model, weights_sha256
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec


def shapes(network: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in network().state_dict().items()}


TORCHVISION = ["resnet18", "resnet50", "resnet152", "resnext101_32x8d", "wide_resnet50_2"]
TIMM = ["resnet10t", "resnet18d", "resnet50d", "seresnet50", "seresnet18", "resnext50_32x4d"]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_are_recognised(name: str) -> None:
    assert infer_spec(shapes(lambda: models.get_model(name)))[0] == architecture(name)


@pytest.mark.parametrize("name", TIMM)
def test_timms_networks_are_recognised(name: str) -> None:
    spec, _ = infer_spec(shapes(lambda: timm.create_model(name, num_classes=7, in_chans=1)))
    assert spec == dataclasses.replace(architecture(name), num_classes=7, in_channels=1)


OWN = [
    "resnet18", "resnet20", "resnet20b", "resnet110", "preresnet20", "preresnet50", "wrn-16-4", "article",
    "article_steps", "seresnet50d",
]  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_our_own_networks_are_recognised(name: str) -> None:
    assert infer_spec(shapes(lambda: ResNet(architecture(name))))[0] == architecture(name)


VARIANTS = {
    "projection always": small_spec(shortcut="projection_always"),
    "projection always, shapes kept": small_spec(
        depths=(1, 1), widths=(8, 8), strides=(1, 2), shortcut="projection_always"
    ),
    "prelu": small_spec(activation="prelu"),
    "no norm": small_spec(norm="none", bias=True),
    "group norm": small_spec(norm="group"),
    "folded pre-activation": small_spec(order="pre", norm="batch_leading", bias=True),
    "grouped": small_spec(block="bottleneck", widths=(16, 32), groups=4, mid_ratio=2.0),
    "pruned": small_spec(inner_widths=(((5,),), ((7,), (3,)))),
    "squeeze and excite": small_spec(widths=(32, 64), se_ratio=0.25),
    "one stage": small_spec(depths=(2,), widths=(16,), strides=(1,)),
    "five stages": small_spec(depths=(1,) * 5, widths=(8, 8, 8, 8, 8), strides=(1, 2, 2, 2, 2)),
}


@pytest.mark.parametrize("spec", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_load_and_answer_the_same(tmp_path: Path, spec: ResNetSpec) -> None:
    model = small_model(spec)
    torch.save(model.weights, tmp_path / "net.pth")
    loaded = load_checkpoint(tmp_path / "net.pth")
    batch = images(spec)
    with torch.inference_mode():
        assert torch.equal(loaded.module()(batch), model.module()(batch))


def wrapped(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {"epoch": 3, "arch": "resnet", "state_dict": {f"module.{name}": t for name, t in weights.items()}}


def timms(weights: dict[str, Tensor]) -> dict[str, Any]:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    return {"args": argparse.Namespace(lr=0.1), "state_dict": zeros, "state_dict_ema": weights}


def compiled_in_lightning(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {"state_dict": {f"model._orig_mod.{name}": tensor for name, tensor in weights.items()}}


def cifar_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    def theirs(name: str) -> str:
        return name.replace("fc.", "linear.").replace("downsample.", "shortcut.")

    return {theirs(name): tensor for name, tensor in weights.items()}


def double_precision_without_counters(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.double() for name, t in weights.items() if not name.endswith("num_batches_tracked")}


WRAPPINGS = [wrapped, timms, compiled_in_lightning, cifar_names, double_precision_without_counters]


@pytest.mark.parametrize("wrap", WRAPPINGS)
def test_wrappings_come_off(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], object]) -> None:
    model = small_model(small_spec())
    torch.save(wrap(dict(model.weights)), tmp_path / "net.pth.tar")
    loaded = load_checkpoint(tmp_path / "net.pth.tar")
    assert loaded.spec == model.spec
    for name, tensor in model.weights.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(loaded.weights[name], tensor), name


def test_safetensors(tmp_path: Path) -> None:
    model = small_model(small_spec())
    safetensors.torch.save_file(dict(model.weights), tmp_path / "net.safetensors")
    assert weights_sha256(load_checkpoint(tmp_path / "net.safetensors")) == weights_sha256(model)


def test_what_was_assumed_is_said_and_can_be_changed(tmp_path: Path) -> None:
    torch.save(small_model(small_spec()).weights, tmp_path / "net.pth")
    assumed = load_checkpoint(tmp_path / "net.pth")
    assert assumed.preprocessing.mean == (0.485, 0.456, 0.406)
    assert assumed.preprocessing.std == (0.229, 0.224, 0.225)
    assert (assumed.preprocessing.height, assumed.preprocessing.width) == (32, 32)
    assert any("mean and deviation assumed (--mean and --std" in note for note in assumed.provenance.notes)
    given = load_checkpoint(
        tmp_path / "net.pth", mean=(0.5,) * 3, std=(0.25,) * 3, img_size=(24, 28), labels=("a", "b", "c")
    )
    assert given.preprocessing.mean == (0.5, 0.5, 0.5)
    assert (given.preprocessing.height, given.preprocessing.width) == (24, 28)
    assert given.labels == ("a", "b", "c")
    assert not any("mean" in note or "numbered" in note for note in given.provenance.notes)
    with pytest.raises(UsageError, match="mean"):
        load_checkpoint(tmp_path / "net.pth", mean=(0.5,))
    with pytest.raises(UsageError, match="height"):
        load_checkpoint(tmp_path / "net.pth", img_size=0)


def test_a_given_spec_decides_what_weights_cannot_tell(tmp_path: Path) -> None:
    model = small_model(small_spec(activation="sin", strides=(1, 1)))
    torch.save(model.weights, tmp_path / "net.pth")
    assert load_checkpoint(tmp_path / "net.pth", spec=model.spec).spec == model.spec
    with pytest.raises(ModelError, match=r"2 missing: conv1\.bias, layer1\.0\.conv1\.bias|missing: conv1\.bias"):
        load_checkpoint(tmp_path / "net.pth", spec=dataclasses.replace(model.spec, bias=True))
    with pytest.raises(ModelError, match="3 classes, expected 10"):
        load_checkpoint(tmp_path / "net.pth", num_classes=10)


class BareProjection(nn.Module):
    """A block as many write it: a shortcut that is one convolution, with a bias and no norm."""

    def __init__(self, before: int, after: int, stride: int, *, bias: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride) if stride > 1 else nn.Identity()
        self.article = bias

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        return y if self.article else torch.relu(y)


class BareNetwork(nn.Module):
    def __init__(self, *, bias: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BareProjection(8, 8, 1, bias=bias))
        self.layer2 = nn.Sequential(BareProjection(8, 16, 2, bias=bias), BareProjection(16, 16, 1, bias=bias))
        self.linear = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer2(self.layer1(x)).mean((2, 3)))


@pytest.mark.parametrize("bias", [False, True])
def test_projections_without_a_norm(tmp_path: Path, bias: bool) -> None:
    torch.manual_seed(4)
    theirs = BareNetwork(bias=bias)
    for _ in range(3):  # running statistics of its own
        theirs(torch.randn(8, 3, 16, 16))
    torch.save(theirs.eval().state_dict(), tmp_path / "net.pth")
    ours = load_checkpoint(tmp_path / "net.pth")
    batch = images(ours.spec)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module()(batch), theirs(batch), rtol=1e-5, atol=1e-6)


def test_the_mended_article(tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = ArticleResNet().eval()
    torch.save(theirs.state_dict(), tmp_path / "article.pth")
    ours = load_checkpoint(tmp_path / "article.pth")
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module()(batch), theirs(batch), rtol=1e-4, atol=1e-4)
    assert any("article" in note for note in ours.provenance.notes)


@pytest.mark.parametrize(("name", "depth"), [("resnet20-12fca82f.th", 20), ("resnet32-d509ac18.th", 32)])
def test_published_networks(shared: Path, name: str, depth: int) -> None:
    model = load_checkpoint(shared / "weights" / name)
    assert model.spec == architecture(f"resnet{depth}")
    assert model.provenance.trained


def test_a_published_network_is_not_known_by_its_name_or_hash(shared: Path, tmp_path: Path) -> None:
    content = torch.load(shared / "weights" / "resnet20-12fca82f.th", "cpu", weights_only=True)
    torch.save(content["state_dict"], tmp_path / "mine.bin")
    assert load_checkpoint(tmp_path / "mine.bin").spec == architecture("resnet20")


class Exploit:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": Exploit(tmp_path / "owned")}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Exploit(tmp_path / "owned"), protocol=2))
    torch.save(small_model(small_spec()).module(), tmp_path / "whole.pth")
    for name in ("evil.pth", "plain.pth", "whole.pth"):
        with pytest.raises(ModelError, match=f"{name} cannot be read as tensors alone") as caught:
            load_checkpoint(tmp_path / name)
        assert "state_dict()" in str(caught.value.hint)
    assert not (tmp_path / "owned").exists()


def broken_files(folder: Path) -> dict[str, bytes]:
    torch.save(small_model(small_spec()).weights, folder / "whole.pth")
    whole = (folder / "whole.pth").read_bytes()
    return {
        "empty.pth": b"",
        "text.pth": b"this is no checkpoint",
        "cut.pth": whole[: len(whole) // 2],
        "zeros.th": bytes(1000),
        "empty.safetensors": b"",
        "text.safetensors": b"this is no checkpoint at all",
        "huge_header.safetensors": (2**62).to_bytes(8, "little") + b"{}",
    }


def test_broken_files_are_named(tmp_path: Path) -> None:
    for name, content in broken_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=name):
            load_checkpoint(tmp_path / name)
    with pytest.raises(UsageError, match="there is no file"):
        load_checkpoint(tmp_path / "nowhere.pth")


def refused(tmp_path: Path, content: object) -> str:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"net\.pth") as caught:
        load_checkpoint(tmp_path / "net.pth")
    return caught.value.message


def test_what_is_no_residual_network_is_listed(tmp_path: Path) -> None:
    assert "a list, expected a state dict" in refused(tmp_path, [1, 2])
    assert "only epoch, lr" in refused(tmp_path, {"epoch": 1, "lr": 0.1})
    assert "features.0.weight" in refused(tmp_path, {"features.0.weight": torch.zeros(8, 3, 3, 3)})


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    weights: dict[str, Tensor | None] = dict(small_model(small_spec()).weights)
    weights.update({name.replace("__", "."): value for name, value in changes.items()})
    return {name: value for name, value in weights.items() if value is not None}


def test_the_tensors_in_the_way_are_listed(tmp_path: Path) -> None:
    stranger = {**changed(), "aux_head.weight": torch.zeros(2), "aux_head.bias": torch.zeros(2)}
    assert "2 unexpected: aux_head.weight, aux_head.bias" in refused(tmp_path, stranger)
    assert "1 missing: bn1.bias" in refused(tmp_path, changed(bn1__bias=None))
    assert "bn1.bias is (3,), expected (8,)" in refused(tmp_path, changed(bn1__bias=torch.zeros(3)))
    assert "not finite in fc.bias" in refused(tmp_path, changed(fc__bias=torch.full((3,), float("inf"))))


def test_weights_that_are_no_floats_are_refused_and_counters_made_whole(tmp_path: Path) -> None:
    quantised = changed(fc__weight=torch.ones(3, 16, dtype=torch.int8))
    assert "torch.int8 in fc.weight, expected floats" in refused(tmp_path, quantised)
    torch.save(changed(bn1__num_batches_tracked=torch.tensor(7.0)), tmp_path / "net.pth")
    assert load_checkpoint(tmp_path / "net.pth").weights["bn1.num_batches_tracked"].dtype == torch.int64


NAMED = [
    "conv1.weight",
    "fc.weight",
    "layer1.0.conv1.weight",
    "layer2.0.conv2.weight",
    "layer2.0.downsample.0.weight",
]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3, 4, 5, 6)])
def test_a_weight_without_the_rank_of_its_name_is_named(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    assert f"{name} has the shape {shape}, which" in refused(tmp_path, {**changed(), name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("conv1.weight", (0, 0, 0, 0), "conv1 has a kernel of 0"),
        ("conv1.weight", (8, 8, 5, 5), "conv1 has a kernel of 5"),
        ("fc.weight", (0, 0, 0, 0), "fc.weight has the shape (0, 0, 0, 0)"),
        ("layer1.0.conv1.weight", (0, 0, 0, 0), "kernels of the sizes (0, 3)"),
        ("layer1.0.conv1.weight", (8, 8, 5, 5), "kernels of the sizes (5, 3)"),
        ("layer2.0.conv2.weight", (0, 0, 0, 0), "widths is (8, 0)"),
        ("layer2.0.conv2.weight", (8, 8, 5, 5), "of another shape: layer2.0"),
        ("layer2.0.downsample.0.weight", (0, 0, 0, 0), "1 of another shape: layer2.0.downsample.0.weight"),
        ("layer2.0.downsample.0.weight", (8, 8, 5, 5), "1 of another shape: layer2.0.downsample.0.weight"),
    ],
)
def test_a_weight_of_the_wrong_sizes_is_refused_with_what_is_wrong(
    tmp_path: Path, name: str, shape: tuple[int, ...], reason: str
) -> None:
    assert reason in refused(tmp_path, {**changed(), name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("layer1", "no residual network has these tensors: conv1.weight"),
        ("layer2", "fc.weight is (3, 16), expected (3, 8)"),
        ("layer2.0", "no residual network has these tensors: conv1.weight"),
        ("fc", "no residual network has these tensors: conv1.weight"),
        ("conv1", "no residual network has these tensors: bn1.weight"),
        ("layer1.0.conv2", "no residual network has these tensors: conv1.weight"),
    ],
)
def test_any_missing_part_is_refused_with_what_is_there(tmp_path: Path, gone: str, reason: str) -> None:
    weights = small_model(small_spec()).weights
    rest = {name: tensor for name, tensor in weights.items() if not name.startswith(gone + ".")}
    assert len(rest) < len(weights)
    assert reason in refused(tmp_path, rest)


def test_loading_leaves_other_models_alone(tmp_path: Path) -> None:
    torch.save(small_model(small_spec()).weights, tmp_path / "net.pth")
    one: Model = load_checkpoint(tmp_path / "net.pth")
    other = load_checkpoint(tmp_path / "net.pth")
    one.weights["fc.bias"].zero_()
    assert other.weights["fc.bias"].abs().sum() > 0
