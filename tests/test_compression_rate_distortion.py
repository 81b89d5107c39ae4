"""Rounding whole networks: fewer bytes for more divergence, every kind of network, nothing by chance."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_compression_side_by_side import SPECS, TINY, reference_of, some_images, tiny_model
from torch import Tensor, nn

from resfit.compression.agreement import logits_of
from resfit.compression.rate_distortion import bits_for, few_mantissa_bits, rate_distortion
from resfit.compression.sensitivity import LEAST_SHARE, answers_at, output_sensitivity
from resfit.compression.side_by_side import normalised
from resfit.compression.small_tensors import rounded_small_tensors
from resfit.compression.weight_grids import as_halves, on_grids
from resfit.engines.quantisation import quantised_layers
from resfit.errors import UsageError
from resfit.model.container import load_container, save_container
from resfit.model.encoding import Float, Grid, holds
from resfit.model.fold import fold
from resfit.model.model import Model, weights_sha256
from resfit.randomness import rng

SMALL, LARGE = 1e-7, 1e-3


@pytest.mark.parametrize("kind", SPECS)
def test_every_kind_of_network_is_rounded_onto_grids_that_store_it(kind: str, tmp_path: Path) -> None:
    model = tiny_model(SPECS[kind])
    before = weights_sha256(model)
    small = rate_distortion(model, some_images(), tradeoff=SMALL, seed=0)
    assert weights_sha256(model) == before
    assert {f"{name}.weight" for name in quantised_layers(small.spec)} <= set(small.encodings)
    for name, encoding in small.encodings.items():
        assert holds(encoding, small.weights[name].numpy()), name
    agreement = reference_of(model, some_images(60, seed=1)).agreement(small)
    assert agreement.divergence < 0.05
    save_container(small, tmp_path / "small.resfit")
    assert weights_sha256(load_container(tmp_path / "small.resfit")) == weights_sha256(small)


def file_bytes(model: Model, path: Path) -> int:
    save_container(model, path)
    return path.stat().st_size


def test_a_dearer_bit_makes_a_smaller_file_that_answers_less_alike(tmp_path: Path) -> None:
    model = tiny_model(TINY)
    reference = reference_of(model, some_images(60, seed=1))
    rounded = [rate_distortion(model, some_images(), tradeoff=tradeoff, seed=0) for tradeoff in (SMALL, 1e-5, LARGE)]
    sizes = [file_bytes(each, tmp_path / "a.resfit") for each in rounded]
    divergences = [reference.agreement(each).divergence for each in rounded]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2
    assert divergences == sorted(divergences)


def test_it_beats_plain_grids_of_the_same_size(tmp_path: Path) -> None:
    model = tiny_model(TINY)
    reference = reference_of(model, some_images(60, seed=1))
    plain = on_grids(model, bits=3)
    ours = rate_distortion(model, some_images(200), tradeoff=3e-6, seed=0)
    assert file_bytes(ours, tmp_path / "ours.resfit") < file_bytes(plain, tmp_path / "plain.resfit")
    assert reference.agreement(ours).divergence < reference.agreement(plain).divergence


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    model, images = tiny_model(TINY), some_images()
    first, again, other = (weights_sha256(rate_distortion(model, images, tradeoff=1e-5, seed=s)) for s in (0, 0, 1))
    assert first == again != other


def test_steps_that_are_kept_keep_weights_that_lie_on_them() -> None:
    model, images = tiny_model(TINY), some_images()
    rounded = rate_distortion(model, images, tradeoff=1e-5, seed=0)
    again = rate_distortion(rounded, images, tradeoff=0.0, seed=0, keep_steps=True)
    name = "layer2.0.conv1.weight"
    first, second = rounded.encodings[name], again.encodings[name]
    assert isinstance(first, Grid)
    assert isinstance(second, Grid)
    symbols = [each.encodings[name].symbols(each.weights[name].numpy()) for each in (rounded, again)]
    assert np.mean(symbols[0] == symbols[1]) > 0.95
    assert np.abs(np.log(second.scales / first.scales)).max() < 0.3


def logit_error(rounded: Model, model: Model) -> float:
    images = some_images(60, seed=1)
    return float((logits_of(rounded, images) - logits_of(model, images)).abs().max())


@pytest.mark.parametrize("kind", SPECS)
def test_a_smaller_tradeoff_never_makes_the_answers_worse(kind: str) -> None:
    """Not even where steps would be so small that 16 bits hold no symbol."""
    model, images = tiny_model(SPECS[kind]), some_images()
    tradeoffs = (1e-9, 1e-12, 1e-15, 1e-18, 1e-30, 0.0)
    rounded = [rate_distortion(model, images, tradeoff=tradeoff, seed=0) for tradeoff in tradeoffs]
    errors = [logit_error(each, model) for each in rounded]
    assert all(error <= 1.05 * before + 5e-5 for before, error in pairwise(errors)), errors
    for each in rounded:
        for name in (f"{layer}.weight" for layer in quantised_layers(each.spec)):
            symbols = np.abs(each.encodings[name].symbols(each.weights[name].numpy()))
            assert symbols.max() < 2**15 - 1, name


def test_kept_steps_that_are_too_small_for_their_weights_are_not_kept() -> None:
    """As where training makes a channel small, and rounding finds another use for it."""
    model, images = tiny_model(TINY), some_images()
    rounded = rate_distortion(model, images, tradeoff=1e-7, seed=0)
    name = "layer1.0.conv2.weight"
    grid = rounded.encodings[name]
    assert isinstance(grid, Grid)
    scales = grid.scales.copy()
    scales[3] *= 1e-9
    encodings = {**rounded.encodings, name: dataclasses.replace(grid, scales=scales)}
    small = dataclasses.replace(rounded, encodings=encodings)
    again = rate_distortion(small, images, tradeoff=0.0, seed=0, keep_steps=True)
    assert logit_error(again, rounded) < 2e-3


def test_an_output_that_changes_no_answer_is_given_few_bits() -> None:
    model = fold(tiny_model(TINY))
    weights = dict(model.weights)
    weights["layer1.0.conv2.weight"] = weights["layer1.0.conv2.weight"].clone()
    weights["layer1.0.conv1.weight"] = weights["layer1.0.conv1.weight"].clone()
    weights["layer1.0.conv2.weight"][:, 3] = 0  # nothing reads this output of conv1
    model = dataclasses.replace(model, weights=weights)
    sensitivity = output_sensitivity(model, some_images(), seed=0)["layer1.0.conv1"]
    assert sensitivity[3] == sensitivity.min()
    assert sensitivity[3] < 0.01 * np.median(sensitivity)
    small = rate_distortion(model, some_images(), tradeoff=1e-7, seed=0)
    grid = small.encodings["layer1.0.conv1.weight"]
    symbols = np.abs(grid.symbols(small.weights["layer1.0.conv1.weight"].numpy())).sum((1, 2, 3))
    assert symbols[3] < 0.3 * np.median(symbols)


@pytest.mark.parametrize("kind", SPECS)
def test_sensitivity_is_that_of_each_layers_own_output(kind: str) -> None:
    """Whatever follows writes in place: the gradients are those of outputs nobody touches."""
    model, images = fold(tiny_model(SPECS[kind])), some_images()
    module, outputs = model.module(), {}
    for name in quantised_layers(model.spec):

        def keep(_module: nn.Module, _inputs: object, output: Tensor, name: str = name) -> Tensor:
            outputs[name] = output
            return output.clone()

        module.get_submodule(name).register_forward_hook(keep)
    logits = module(next(normalised(model, images)))
    generator = rng(0, "drawn answers")
    numbers = (generator.permutation(len(images)) + generator.random(len(images))) / len(images)
    loss = nn.functional.cross_entropy(logits, answers_at(logits, numbers), reduction="sum")
    gradients = torch.autograd.grad(loss, list(outputs.values()))
    found = output_sensitivity(model, images, seed=0)
    for name, gradient in zip(outputs, gradients, strict=True):
        expected = gradient.double().square().flatten(2).sum((0, 2)) if gradient.dim() > 2 else gradient.square().sum(0)
        largest = float(found[name].max())
        assert np.allclose(found[name], expected / len(images), rtol=1e-4, atol=2 * LEAST_SHARE * largest), name


@pytest.mark.parametrize("kind", SPECS)
def test_as_many_images_at_once_as_their_outputs_fit_into_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fold(tiny_model(SPECS[kind]))
    module, elements = model.module(), []
    for name in quantised_layers(model.spec):
        module.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output: elements.append(output.numel())
        )
    with torch.inference_mode():
        module(next(normalised(model, some_images(1))))
    monkeypatch.setattr("resfit.compression.sensitivity.ACTIVATION_BYTES", 50.2 * 8 * sum(elements))
    sizes: list[int] = []
    in_batches = normalised

    def counted(model: Model, images: np.ndarray, batch: int) -> Iterator[Tensor]:
        sizes.append(batch)
        return in_batches(model, images, batch)

    monkeypatch.setattr("resfit.compression.sensitivity.normalised", counted)
    output_sensitivity(model, some_images(), seed=0)
    assert sizes == [50]


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=6), st.floats(0, 1, exclude_max=True))
def test_an_answer_is_where_the_probabilities_add_up_to_its_number(logits: list[float], number: float) -> None:
    (answer,) = answers_at(torch.tensor([logits], dtype=torch.float64), np.array([number])).tolist()
    reached = torch.tensor(logits, dtype=torch.float64).softmax(0).cumsum(0).tolist()
    assert number <= reached[answer] + 1e-9
    assert answer == 0 or reached[answer - 1] < number + 1e-9


def test_sensitivity_foretells_the_divergence_of_a_small_error() -> None:
    model = fold(tiny_model(TINY))
    images = some_images(3000)
    sensitivity = output_sensitivity(model, images, seed=0)["fc"]
    reference = reference_of(model, images)
    error = 0.1
    for output in range(5):
        weights = dict(model.weights)
        weights["fc.bias"] = weights["fc.bias"].clone()
        weights["fc.bias"][output] += error
        found = reference.agreement(dataclasses.replace(model, weights=weights)).divergence
        assert found == pytest.approx(sensitivity[output] / 2 * error**2, rel=0.35)


@given(st.floats(1e-12, 1e12))
def test_few_mantissa_bits_are_near_and_few(value: float) -> None:
    near = few_mantissa_bits(np.array([value]))[0]
    assert abs(near / value - 1) <= 1 / 16
    pattern = int(np.float32(near).view(np.uint32))
    assert pattern % 2**20 == 0


@pytest.mark.parametrize(("largest", "bits"), [(0, 2), (1, 2), (2, 3), (3, 3), (4, 4), (7, 4), (127, 8), (10**6, 16)])
def test_bits_are_the_fewest_that_hold_the_symbols(largest: int, bits: int) -> None:
    assert bits_for(np.array([0, -largest])) == bits


def test_small_tensors_are_halves_or_bytes_and_counters_stay() -> None:
    model = fold(tiny_model(dataclasses.replace(TINY, order="pre", se_ratio=0.25, shortcut="projection")))
    small = rounded_small_tensors(model)
    assert {type(encoding) for encoding in small.encodings.values()} == {Float, Grid}
    assert not any("num_batches" in name or name.startswith(("fc.", "conv1.")) for name in small.encodings)
    assert small.encodings["layer1.0.bn1.weight"] == Float(kind="fp16")
    tiny = dict(model.weights)
    tiny["layer1.0.bn1.running_var"] = torch.full_like(tiny["layer1.0.bn1.running_var"], 1e-9)
    again = rounded_small_tensors(dataclasses.replace(model, weights=tiny))
    assert again.encodings["layer1.0.bn1.running_var"] == Float(kind="bf16")


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_plain_grids_hold_the_weights_and_more_bits_are_truer(bits: int) -> None:
    model = tiny_model(TINY)
    rounded = on_grids(model, bits=bits)
    values = rounded.weights["fc.weight"].numpy()
    assert len(np.unique(values[0] / rounded.encodings["fc.weight"].scales[0])) <= 2**bits - 1
    assert holds(rounded.encodings["fc.weight"], values)
    worse = on_grids(model, bits=bits - 1) if bits > 2 else None
    if worse is not None:
        reference = reference_of(model, some_images())
        assert reference.agreement(rounded).divergence < reference.agreement(worse).divergence


def test_bits_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="9 bits"):
        on_grids(tiny_model(TINY), bits=9)


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_halves_round_every_float_tensor(kind: str) -> None:
    model = tiny_model(TINY)
    halves = as_halves(model, kind=kind)  # type: ignore[arg-type]
    assert set(halves.encodings) == {name for name, tensor in halves.weights.items() if tensor.is_floating_point()}
    difference = (logits_of(halves, some_images()) - logits_of(model, some_images())).abs().max()
    assert 0 < float(difference) < 0.2


def test_images_are_normalised_as_the_network_reads_them() -> None:
    model, images = tiny_model(TINY), some_images(3)
    (batch,) = normalised(model, images)
    assert batch.shape == (3, 3, 12, 12)
    assert float(batch[2, 1, 4, 5]) == pytest.approx((images[2, 4, 5, 1] / 255 - 0.5) / 0.25, abs=1e-5)
