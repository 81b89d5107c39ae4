"""Two networks side by side: what layers read, what they should give, and how an error is made good."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from resfit.compression.agreement import Reference, Selection, logits_of
from resfit.compression.correction import best_bias, best_stretch, best_weights, damped_covariance
from resfit.compression.moments import Moments, moments_of, output_pixels
from resfit.compression.side_by_side import Meeting, carry, normalised
from resfit.data.preprocessing import Preprocessing
from resfit.engines.quantisation import quantised_layers
from resfit.errors import UsageError
from resfit.model.fold import fold
from resfit.model.load import untrained
from resfit.model.model import Model
from resfit.nn.spec import ResNetSpec

TINY = ResNetSpec(
    depths=(1, 2), widths=(8, 16), strides=(1, 2), stem="cifar", stem_width=8, shortcut="zero_pad", num_classes=5
)
SPECS = {
    "zero_pad": TINY,
    "projection": dataclasses.replace(TINY, shortcut="projection"),
    "average pool": dataclasses.replace(TINY, shortcut="avgpool", stem="deep"),
    "pre-activation": dataclasses.replace(TINY, order="pre", shortcut="projection"),
    "groups": dataclasses.replace(TINY, block="bottleneck", groups=2, mid_ratio=1.0, shortcut="projection"),
    "squeeze-and-excite": dataclasses.replace(TINY, se_ratio=0.25, activation="prelu", shortcut="projection"),
    "plain": dataclasses.replace(TINY, shortcut="none"),
    "group norm": dataclasses.replace(TINY, norm="group", shortcut="projection"),
}


def tiny_model(spec: ResNetSpec, seed: int = 0) -> Model:
    """Random weights, and norms as if they had been trained."""
    shape = Preprocessing(height=12, width=12, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    labels = tuple("abcde"[: spec.num_classes])
    model = untrained(spec, preprocessing=shape, labels=labels, source="tiny", seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def varied(name: str, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point() or tensor.dim() > 1:
            return tensor
        noise = torch.rand(tensor.shape, generator=generator)
        return noise + 0.5 if name.endswith(("var", "weight")) else noise - 0.5

    return dataclasses.replace(model, weights={name: varied(name, each) for name, each in model.weights.items()})


def some_images(count: int = 24, seed: int = 0, side: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def reference_of(model: Model, images: np.ndarray) -> Reference:
    """Every answer of the model is right."""
    return Reference(model, Selection(pictures=images, targets=logits_of(model, images).argmax(1).numpy()))


@pytest.mark.parametrize("kind", SPECS)
def test_layers_are_met_in_order_with_the_targets_they_have_anyway(kind: str) -> None:
    model = fold(tiny_model(SPECS[kind]))
    module, images, outputs, met = model.module(), some_images(), {}, []
    for name in quantised_layers(model.spec):
        module.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs.update({name: output.clone()})
        )
    with torch.inference_mode():
        module(next(normalised(model, images)))

    def keep(meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        met.append(meeting.name)
        assert torch.allclose(torch.cat(meeting.targets), outputs[meeting.name], atol=1e-4), meeting.name
        return model.weights[f"{meeting.name}.weight"], model.weights.get(f"{meeting.name}.bias")

    carry(model, {}, images, keep)
    assert sorted(met) == sorted(quantised_layers(model.spec))


@pytest.mark.parametrize("kind", SPECS)
def test_the_last_layer_is_met_with_the_copys_own_inputs(kind: str) -> None:
    model = fold(tiny_model(SPECS[kind]))
    images = some_images()
    generator = np.random.default_rng(0)
    changed: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}

    def disturb(meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        weight = model.weights[f"{meeting.name}.weight"]
        weight = weight * torch.from_numpy(generator.normal(1, 0.2, weight.shape)).float()
        changed[f"{meeting.name}.weight"] = weight
        seen[meeting.name] = torch.cat(meeting.inputs)
        return weight, model.weights.get(f"{meeting.name}.bias")

    carry(model, {}, images, disturb)
    copy = dataclasses.replace(model, weights={**model.weights, **changed})
    classifier = torch.nn.functional.linear(seen["fc"], changed["fc.weight"], copy.weights["fc.bias"])
    assert torch.allclose(classifier, logits_of(copy, images), atol=1e-3)


def test_the_end_of_a_branch_is_asked_for_what_its_shortcut_lacks() -> None:
    model = fold(tiny_model(TINY))
    images = some_images()
    targets = {}

    def lessen_the_stem(meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        weight, bias = model.weights[f"{meeting.name}.weight"], model.weights[f"{meeting.name}.bias"]
        targets[meeting.name] = torch.cat(meeting.targets)
        return (0.5 * weight, 0.5 * bias) if meeting.name == "conv1" else (weight, bias)

    carry(model, {}, images, lessen_the_stem)
    module = model.module()
    with torch.inference_mode():
        stem = module.act1(module.conv1(next(normalised(model, images))))
        own = module.layer1[0].conv2(module.layer1[0].act1(module.layer1[0].conv1(stem)))
    assert torch.allclose(targets["layer1.0.conv2"], own + 0.5 * stem, atol=1e-4)


def meeting_of(kind: str, name: str, *, noise: float = 0.0) -> tuple[Model, Meeting]:
    model = fold(tiny_model(SPECS[kind]))
    met: list[Meeting] = []

    def keep(meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        weight = model.weights[f"{meeting.name}.weight"]
        if meeting.name == name:
            met.append(meeting)
        elif not met:
            weight = weight + noise * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        return weight, model.weights.get(f"{meeting.name}.bias")

    carry(model, {}, some_images(), keep)
    return model, met[0]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("zero_pad", "layer2.0.conv1"), ("projection", "layer2.0.downsample.0"), ("groups", "layer1.0.conv2"),
     ("zero_pad", "fc")],
)  # fmt: skip
@pytest.mark.parametrize("samples", [10**6, 240])  # all pixels, and ten of each image
def test_moments_tell_what_the_layer_gives(kind: str, name: str, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the layer's own weights, targets times inputs follow from the inputs' moments alone."""
    monkeypatch.setattr("resfit.compression.moments.SAMPLES", samples)
    model, meeting = meeting_of(kind, name)
    found = moments_of(meeting, np.random.default_rng(0))
    weight = model.weights[f"{name}.weight"].flatten(1).double().numpy()
    bias = model.weights[f"{name}.bias"].double().numpy()[:, None]
    for part, moments in zip(np.split(np.hstack([weight, bias]), len(found)), found, strict=True):
        assert np.allclose(part @ moments.inputs, moments.targets, atol=1e-3)
    assert found[0].inputs[-1, -1] == pytest.approx(1)
    assert output_pixels(meeting) == (1 if name == "fc" else 144 if name.startswith("layer1") else 36)


def test_corrections_find_the_weights_the_factor_and_the_bias_that_fit_best() -> None:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(4000, 5)) + generator.normal(size=5)
    weights = generator.normal(size=(3, 5))
    targets = inputs @ weights.T * 1.3 + 2
    rows = np.hstack([inputs, np.ones((4000, 1))])
    moments = Moments(inputs=rows.T @ rows / 4000, targets=targets.T @ rows / 4000, samples=4000)
    assert np.allclose(best_weights(weights, moments, damped_covariance(moments)), 1.3 * weights, atol=1e-2)
    assert np.allclose(best_stretch(weights, moments, damped_covariance(moments)), 1.3, atol=1e-2)
    assert np.allclose(best_bias(1.3 * weights, moments), 2)
    assert np.allclose(best_stretch(np.zeros((3, 5)), moments, damped_covariance(moments)), 1)


def test_least_squares_makes_good_what_earlier_layers_lost() -> None:
    model, meeting = meeting_of("projection", "layer2.1.conv1", noise=0.1)
    (moments,) = moments_of(meeting, np.random.default_rng(0))
    own = model.weights["layer2.1.conv1.weight"].flatten(1).double().numpy()
    better = best_weights(own, moments, damped_covariance(moments))

    def error(weight: np.ndarray) -> float:
        bias = best_bias(weight, moments)
        module = torch.nn.functional.conv2d
        shaped = torch.from_numpy(weight).float().reshape(model.weights["layer2.1.conv1.weight"].shape)
        outputs = [module(batch, shaped, torch.from_numpy(bias).float(), 1, 1) for batch in meeting.inputs]
        return float(sum((a - b).square().sum() for a, b in zip(outputs, meeting.targets, strict=True)))

    assert error(better) < 0.9 * error(own)


def test_a_covariance_too_rough_for_a_factor_is_damped_more():
    """Thousands of inputs that all say the same, whose products single precision sums."""
    rough = np.random.default_rng(0).standard_normal((200, 200)) * 0.05
    inputs = np.zeros((201, 201))
    inputs[:-1, :-1] = 1.0 + (rough + rough.T) / 2
    inputs[-1, -1] = 1.0
    moments = Moments(inputs=inputs, targets=np.zeros((3, 201)), samples=500)
    covariance = damped_covariance(moments)
    assert covariance.damping > 0.1
    assert np.isfinite(best_weights(np.ones((3, 200)), moments, covariance)).all()
    with pytest.raises(UsageError, match="no finite numbers"):
        damped_covariance(Moments(inputs=inputs * np.nan, targets=np.zeros((3, 201)), samples=500))
