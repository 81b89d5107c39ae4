"""Channels taken out: exact where they contributed nothing, and never a network that a spec cannot describe."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import images, small_model, small_spec

from resfit.compression.couplings import couplings, wires
from resfit.compression.removal import kept_after, pruned_spec, remove
from resfit.errors import UsageError
from resfit.model.encoding import Grid
from resfit.model.model import Model, Range
from resfit.model.run_folder import load_run, save
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

BOTTLENECK = {"block": "bottleneck", "widths": (16, 32), "stem_width": 16}
KINDS = {
    "projection": {},
    "zero_pad": {"shortcut": "zero_pad"},
    "asymmetric_zero_pad": {"shortcut": "zero_pad", "widths": (8, 19), "shortcut_pads": ((0, 0), (3, 8))},
    "pre": {"order": "pre"},
    "pre_zero_pad": {"order": "pre", "shortcut": "zero_pad"},
    "bottleneck": BOTTLENECK,
    "groups": {**BOTTLENECK, "groups": 2, "mid_ratio": 2.0},
    "squeeze_excite": {**BOTTLENECK, "se_ratio": 0.25},
    "deep": {"shortcut": "avgpool", "stem": "deep"},
    "tiered": {"shortcut": "avgpool", "stem": "tiered"},
    "plain": {"shortcut": "none"},
    "projection_always": {"shortcut": "projection_always"},
    "folded": {"norm": "none", "bias": True},
    "folded_pre": {"norm": "batch_leading", "order": "pre", "bias": True},
    "article": {"block": "article", "bias": True},
    "smooth": {"activation": "silu"},
    "own_slope": {"activation": "prelu"},
}


def _drawn(spec: ResNetSpec, seed: int) -> dict[str, list[int]]:
    """Some channels of each coupling, equally many of each of its runs, never all."""
    chance = np.random.default_rng(seed)
    removed = {}
    for coupling in couplings(spec):
        size = len(coupling.channels) // coupling.runs
        count = int(chance.integers(0, size))
        runs = [coupling.channels[start : start + size] for start in range(0, len(coupling.channels), size)]
        removed[coupling.name] = [int(number) for run in runs for number in chance.permutation(run)[:count]]
    return removed


def _unread(model: Model, gone: set[int]) -> Model:
    """The model with nothing reading the channels `gone`."""
    weights = {name: tensor.clone() for name, tensor in model.weights.items()}
    for name, wire in wires(model.spec).items():
        places = [place for place, number in enumerate(wire.reads) if number in gone]
        if isinstance(wire.operation, layout.SqueezeExcite):
            weights[f"{name}.fc1.weight"][:, places] = 0
        elif isinstance(wire.operation, layout.Convolution | layout.Linear):
            groups = getattr(wire.operation, "groups", 1)
            size = len(wire.reads) // groups
            for place in places:
                outputs = weights[f"{name}.weight"].chunk(groups)[place // size]
                outputs[:, place % size] = 0
    return dataclasses.replace(model, weights=weights)


@torch.no_grad()
def _logits(model: Model) -> torch.Tensor:
    return model.module()(images(model.spec))


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_channels_that_nobody_reads_change_no_logit(kind, seed):
    model = small_model(small_spec(**KINDS[kind]))
    removed = _drawn(model.spec, seed)
    silent = _unread(model, {number for numbers in removed.values() for number in numbers})
    smaller = remove(silent, removed)
    torch.testing.assert_close(_logits(smaller), _logits(silent), rtol=1e-4, atol=1e-5)
    count = sum(tensor.numel() for tensor in smaller.weights.values())
    assert count < sum(tensor.numel() for tensor in model.weights.values()) or not any(removed.values())


@pytest.mark.parametrize("kind", ["projection", "zero_pad", "pre", "bottleneck", "groups", "squeeze_excite"])
def test_a_block_that_adds_nothing_goes_without_a_trace(kind):
    spec = small_spec(**KINDS[kind])
    model = small_model(spec)
    weights = dict(model.weights)
    ends = ("bn2", "bn3") if spec.order == "post" else ("conv2",)
    for name in weights:
        if name.startswith("layer2.1.") and name.split(".")[2] in ends and name.endswith(("weight", "bias")):
            last = name.split(".")[2] == f"{ends[0][:-1]}{3 if spec.block == 'bottleneck' else 2}"
            weights[name] = torch.zeros_like(weights[name]) if last else weights[name]
    silent = dataclasses.replace(model, weights=weights)
    inside = next(coupling for coupling in couplings(spec) if coupling.block == (1, 1))
    smaller = remove(silent, {inside.name: inside.channels})
    assert smaller.spec.depths == (1, 1)
    assert not any(name.startswith("layer2.1.") for name in smaller.weights)
    torch.testing.assert_close(_logits(smaller), _logits(silent), rtol=1e-5, atol=1e-6)


def test_the_blocks_behind_one_that_goes_move_up():
    model = small_model(small_spec(depths=(1, 3)))
    inside = next(coupling for coupling in couplings(model.spec) if coupling.block == (1, 1))
    smaller = remove(model, {inside.name: inside.channels})
    assert smaller.spec.depths == (1, 2)
    assert torch.equal(smaller.weights["layer2.1.conv1.weight"], model.weights["layer2.2.conv1.weight"])


def test_widths_pads_and_hidden_units_are_said_by_the_spec():
    spec = small_spec(shortcut="zero_pad")
    found = {coupling.name: coupling.channels for coupling in couplings(spec)}
    removed = {
        "layer1.sum": found["layer1.sum"][:1],
        "layer2.sum": found["layer2.sum"][:3],
        "layer2.0.conv1": found["layer2.0.conv1"][5:],
    }
    smaller = pruned_spec(spec, kept_after(spec, removed))
    assert (smaller.stem_width, smaller.widths) == (7, (7, 12))
    assert smaller.shortcut_pads == ((0, 0), (1, 4))
    assert smaller.inner_widths == (((8,),), ((5,), (16,)))
    gated = small_spec(se_ratio=0.99)
    sums = next(coupling for coupling in couplings(gated) if coupling.name == "layer2.sum")
    smaller = pruned_spec(gated, kept_after(gated, {"layer2.sum": sums.channels[:8]}))
    assert (smaller.widths, smaller.se_widths) == ((8, 8), (8, 16))


def test_a_network_that_loses_nothing_is_the_same_network():
    for kind in KINDS.values():
        spec = small_spec(**kind)
        same = pruned_spec(spec, kept_after(spec, {}))
        assert layout.plan(same) == layout.plan(spec)
    assert pruned_spec(small_spec(), kept_after(small_spec(), {})) == small_spec()


def test_what_remains_is_a_model_like_any_other(tmp_path):
    model = small_model(small_spec(**KINDS["groups"]))
    encodings = {"fc.weight": Grid(bits=8, axis=0, scales=np.full(3, 2.0**-7, np.float32))}
    encoded = dataclasses.replace(
        model,
        weights={**model.weights, "fc.weight": torch.round(model.weights["fc.weight"] * 128).clamp(-127, 127) / 128},
        encodings=encodings,
        activation_ranges={"input": Range(low=0.0, high=1.0)},
    )
    before = {name: tensor.clone() for name, tensor in encoded.weights.items()}
    smaller = remove(encoded, _drawn(model.spec, 1))
    assert (dict(smaller.encodings), dict(smaller.activation_ranges)) == ({}, {})
    assert all(torch.equal(before[name], encoded.weights[name]) for name in before)
    save(smaller, tmp_path)
    read = load_run(tmp_path)
    assert read.spec == smaller.spec
    assert torch.equal(_logits(read), _logits(smaller))


def _refused(spec, removed, match):
    with pytest.raises(UsageError, match=match):
        remove(small_model(spec), removed)


def test_what_cannot_be_taken_out_is_said():
    spec = small_spec()
    found = {coupling.name: coupling.channels for coupling in couplings(spec)}
    _refused(spec, {"layer9.sum": [0]}, "there is no coupling 'layer9.sum'")
    _refused(spec, {"layer1.sum": found["layer2.sum"][:1]}, "layer1.sum has no channel")
    _refused(spec, {"layer1.sum": found["layer1.sum"]}, "no channel of")
    _refused(spec, {"layer2.0.conv1": found["layer2.0.conv1"]}, "no channel of layer2.0.conv1 would remain")
    _refused(spec, {"layer1.0.conv1": found["layer1.0.conv1"]}, "no block of layer1 would remain")
    groups = small_spec(**KINDS["groups"])
    inside = next(coupling for coupling in couplings(groups) if coupling.name == "layer1.0.conv1")
    _refused(groups, {inside.name: inside.channels[:1]}, "different numbers of channels in its 2 groups")


def test_a_projection_that_would_become_an_identity_is_kept_from_it():
    spec = small_spec(strides=(1, 1))
    sums = next(coupling for coupling in couplings(spec) if coupling.name == "layer2.sum")
    _refused(spec, {"layer2.sum": sums.channels[:8]}, "has no layer2.0.downsample")
