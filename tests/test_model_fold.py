"""Folding changes which tensors there are, never what the network answers."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import images, small_model, small_spec

from resfit.errors import ModelError
from resfit.model.encoding import Grid
from resfit.model.fold import can_be_unfolded, fold, normed_convolutions, unfold
from resfit.model.model import Range
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

NETWORKS = {
    "basic": small_spec(),
    "biases beside norms": small_spec(bias=True),
    "zero_pad": small_spec(shortcut="zero_pad"),
    "projection_always": small_spec(shortcut="projection_always"),
    "avgpool": small_spec(shortcut="avgpool"),
    "plain": small_spec(shortcut="none"),
    "identity": small_spec(widths=(8, 8), strides=(1, 1), shortcut="identity"),
    "bottleneck": small_spec(block="bottleneck", widths=(16, 32)),
    "bottleneck, stride in 1x1": small_spec(block="bottleneck", widths=(16, 32), stride_in="1x1"),
    "resnext": small_spec(block="bottleneck", widths=(16, 32), groups=4, mid_ratio=2.0),
    "article": small_spec(order="none", bias=True),
    "article block": small_spec(block="article", order="none"),
    "article block, activated": small_spec(block="article"),
    "squeeze and excite": small_spec(se_ratio=0.5),
    "prelu": small_spec(activation="prelu"),
    "dropout and drop path": small_spec(dropout=0.3, drop_path=0.2),
    "imagenet stem": small_spec(stem="imagenet"),
    "deep stem": small_spec(stem="deep"),
    "tiered stem": small_spec(stem="tiered", stem_width=16, shortcut="avgpool"),
    "pruned": small_spec(inner_widths=(((5,),), ((7,), (3,)))),
    "pre basic": small_spec(order="pre"),
    "pre zero_pad": small_spec(order="pre", shortcut="zero_pad"),
    "pre bottleneck": small_spec(order="pre", block="bottleneck", widths=(16, 32)),
    "pre avgpool, deep stem": small_spec(order="pre", shortcut="avgpool", stem="deep"),
    "pre plain, dropout": small_spec(order="pre", shortcut="none", dropout=0.3),
}


def norms(spec: ResNetSpec) -> int:
    return sum(isinstance(operation, layout.Norm) for _, operation in layout.walk(layout.plan(spec)))


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS.keys())
def test_logits_stay(spec: ResNetSpec) -> None:
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        model = small_model(spec, dtype=dtype)
        folded = fold(model)
        batch = images(spec, side=32, dtype=dtype)
        with torch.inference_mode():
            before, after = model.module()(batch), folded.module()(batch)
        assert before.std() > 1e-3
        scale = max(1.0, before.abs().max().item())
        assert (before - after).abs().max().item() <= tolerance * scale
        assert folded.weights["fc.weight"].dtype == dtype


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS.keys())
def test_unfolding_puts_norms_back_that_leave_the_logits(spec: ResNetSpec) -> None:
    folded = fold(small_model(spec, dtype=torch.float64))
    assert can_be_unfolded(folded.spec)
    assert not can_be_unfolded(spec)
    generator = torch.Generator().manual_seed(0)

    def moments(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        size = len(folded.weights[f"{name}.bias"])
        draw = torch.rand(2, size, generator=generator, dtype=torch.float64)
        return draw[0] - 0.5, draw[1]

    unfolded = unfold(folded, {name: moments(name) for name in normed_convolutions(folded.spec)})
    assert unfolded.spec == dataclasses.replace(spec, bias=True)
    batch = images(spec, side=32, dtype=torch.float64)
    with torch.inference_mode():
        before, after = folded.module()(batch), unfolded.module()(batch)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    again = fold(unfolded)
    assert again.spec == folded.spec
    for name, tensor in folded.weights.items():
        torch.testing.assert_close(again.weights[name], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS.keys())
def test_only_leading_norms_remain(spec: ResNetSpec) -> None:
    folded = fold(small_model(spec)).spec
    assert folded.bias
    blocks = sum(spec.depths)
    assert norms(folded) == (blocks + 1 if spec.order == "pre" else 0)
    assert folded.norm == ("batch_leading" if spec.order == "pre" else "none")


@pytest.mark.parametrize("norm", ["group", "none", "batch_leading"])
def test_networks_without_such_norms_are_returned_as_they_are(norm: str) -> None:
    model = small_model(small_spec(norm=norm, order="pre"))
    assert fold(model) is model


def test_folding_twice_is_folding_once() -> None:
    folded = fold(small_model(small_spec()))
    assert fold(folded) is folded


def test_the_model_itself_is_left_alone() -> None:
    model = small_model(small_spec())
    before = {name: tensor.clone() for name, tensor in model.weights.items()}
    fold(model)
    assert model.spec.norm == "batch"
    assert all(torch.equal(before[name], tensor) for name, tensor in model.weights.items())


def test_a_quantised_model_must_be_folded_first() -> None:
    model = small_model(small_spec())
    encoding = Grid(bits=8, axis=0, scales=np.ones(8))
    with pytest.raises(ModelError, match="cannot be folded"):
        fold(dataclasses.replace(model, encodings={"conv1.weight": encoding}))
    with pytest.raises(ModelError, match="cannot be folded"):
        fold(dataclasses.replace(model, activation_ranges={"conv1": Range(low=0, high=1)}))
