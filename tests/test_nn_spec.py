"""Specs, their validation and round trip, and networks by name."""

import dataclasses
import json
import subprocess
import sys
import time
from typing import Any, get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from resfit.errors import UsageError
from resfit.measure.macs import parameters
from resfit.nn import plan as layout
from resfit.nn import spec as kinds
from resfit.nn.architectures import NAMED, architecture
from resfit.nn.resnet import ResNet
from resfit.nn.spec import ResNetSpec

SMALL = ResNetSpec(depths=(1, 1), widths=(8, 16), strides=(1, 2), stem="cifar", stem_width=8, num_classes=4)


@st.composite
def specs(draw: st.DrawFn) -> ResNetSpec:
    """Any valid spec of at most three small stages."""
    stages = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 2, 4]))

    def tuples(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(st.lists(values, min_size=stages, max_size=stages)))

    values: dict[str, Any] = {
        "depths": tuples(st.integers(1, 3)),
        "widths": tuples(st.sampled_from([8, 16, 24, 32])),
        "strides": tuples(st.integers(1, 3)),
        "groups": groups,
        "block": draw(st.sampled_from(["bottleneck"] if groups > 1 else get_args(kinds.Block))),
        "mid_ratio": draw(st.sampled_from([0.5, 1.0, 2.0, 4.0])),
        "stem_width": draw(st.sampled_from([4, 8, 10, 16])),
        "se_ratio": draw(st.sampled_from([0.0, 1 / 16, 0.25])),
        "drop_path": draw(st.floats(0, 0.9)),
        "dropout": draw(st.floats(0, 0.9)),
        "num_classes": draw(st.integers(1, 12)),
        "in_channels": draw(st.integers(1, 5)),
        "bias": draw(st.booleans()),
        "zero_gamma": draw(st.booleans()),
        "stride_in": draw(st.sampled_from(["1x1", "3x3"])),
    }
    for name, kind in {
        "order": kinds.Order,
        "shortcut": kinds.Shortcut,
        "stem": kinds.Stem,
        "activation": kinds.ActivationKind,
        "norm": kinds.NormKind,
    }.items():
        values[name] = draw(st.sampled_from(get_args(kind)))
    try:
        return ResNetSpec(**values)
    except UsageError:
        assume(False)
        raise


@settings(max_examples=60, deadline=None)
@given(specs())
def test_a_spec_survives_json(spec: ResNetSpec) -> None:
    assert ResNetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@settings(max_examples=40, deadline=None)
@given(specs(), st.integers(1, 20), st.integers(1, 20))
def test_the_module_has_what_the_plan_says(spec: ResNetSpec, height: int, width: int) -> None:
    with torch.device("meta"):
        network = ResNet(spec).eval()
        output = network(torch.empty(2, spec.in_channels, height, width))
    assert output.shape == (2, spec.num_classes)
    assert sum(value.numel() for value in network.parameters()) == parameters(spec)
    modules = dict(network.named_modules())
    assert all(name in modules for name, _ in layout.walk(layout.plan(spec)))


def test_pruned_fields_survive_json() -> None:
    spec = dataclasses.replace(
        SMALL, shortcut="zero_pad", inner_widths=(((5,),), ((6,),)), shortcut_pads=((0, 0), (1, 7))
    )
    assert ResNetSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    gated = dataclasses.replace(SMALL, stem="deep", se_ratio=0.25, stem_inner_widths=(3, 5), se_widths=(4, 6))
    assert ResNetSpec.from_dict(json.loads(json.dumps(gated.to_dict()))) == gated


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "basik"}, "basic"),
        ({"order": "after"}, "order is 'after'"),
        ({"activation": "rellu"}, "relu"),
        ({"stem": ["cifar"]}, "stem is"),
        ({"norm": None}, "norm is None"),
        ({"depths": (1,)}, "expected one a stage"),
        ({"depths": ()}, "expected one a stage"),
        ({"widths": (8, 0)}, "widths is"),
        ({"widths": (8, 16.0)}, "widths is"),
        ({"strides": (1, True)}, "strides is"),
        ({"depths": "11"}, "depths is"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": "10"}, "num_classes is '10'"),
        ({"in_channels": -1}, "in_channels is -1"),
        ({"depths": (5000, 5001)}, "more than 10000 blocks"),
        ({"groups": 2}, "only a bottleneck"),
        ({"groups": 3, "block": "bottleneck"}, "multiples of groups 3"),
        ({"widths": (2, 2), "block": "bottleneck"}, "at least 1"),
        ({"mid_ratio": 0}, "mid_ratio is 0"),
        ({"mid_ratio": float("nan")}, "mid_ratio is nan"),
        ({"drop_path": 1.0}, "drop_path is 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1"),
        ({"se_ratio": "x"}, "not a ResNetSpec"),
        ({"shortcut": "identity"}, "identity shortcut cannot go from 8 to 16"),
        ({"shortcut": "zero_pad", "widths": (16, 8)}, "from 16 to 8"),
        ({"shortcut": "zero_pad", "shortcut_pads": [[0, 0], [1, 2]]}, "from 8 to 16"),
        ({"shortcut_pads": [[0, 0]]}, "shortcut_pads is"),
        ({"shortcut_pads": [[0, 0], [-1, 9]]}, "shortcut_pads is"),
        ({"inner_widths": [[[8]]]}, "inner_widths must give 1 widths a block"),
        ({"inner_widths": [[[8]], [[0]]]}, "at least 1"),
        ({"stem_inner_widths": (4,)}, "stem_inner_widths is"),
        ({"se_widths": (8, 0)}, "se_widths is"),
        ({"block": "article", "order": "pre"}, "no pre-activation form"),
        ({"stem": "tiered", "stem_width": 2}, "stem_width is 2"),
        ({"widhts": (8, 16)}, "widths"),
        ({"widths": (2**61 - 1, 32)}, "at most 1,048,576"),
        ({"strides": (1, 2**20 + 1)}, "at most 1,048,576"),
        ({"stem_width": 2**20 + 1}, "stem_width is 1048577"),
        ({"num_classes": 2**40}, "num_classes is"),
        ({"in_channels": 2**40}, "in_channels is"),
        ({"groups": 2**40, "block": "bottleneck"}, "groups is"),
        ({"widths": (2**20, 2**20), "mid_ratio": 2.0}, "stage 1 has inner widths (2097152,)"),
        ({"inner_widths": [[[8]], [[2**20 + 1]]]}, "stage 2 has inner widths (1048577,)"),
        ({"shortcut_pads": [[0, 0], [2**21, 0]]}, "shortcut_pads is"),
        ({"stem_inner_widths": (4, 2**21)}, "stem_inner_widths is"),
        ({"se_widths": (8, 2**21)}, "se_widths is"),
    ],
    ids=str,
)
def test_a_wrong_spec_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ResNetSpec.from_dict({**SMALL.to_dict(), **changes})
    assert message in str(caught.value)


def test_the_largest_counts_are_legal() -> None:
    spec = dataclasses.replace(SMALL, widths=(2**20, 2**20), stem_width=2**20, num_classes=2**20, norm="group")
    assert layout.plan(spec)
    assert architecture("wrn-28-1000").widths[-1] == 64_000


def test_an_error_repeats_no_more_of_a_value_than_can_be_read() -> None:
    for changes in ({"widths": [8] * 10**5}, {"block": "\x1b" * 10**5}, {"x" * 10**5: 1}, {"num_classes": "1" * 10**5}):
        with pytest.raises(UsageError) as caught:
            ResNetSpec.from_dict({**SMALL.to_dict(), **changes})
        assert len(str(caught.value)) < 1000
        assert "\x1b" not in str(caught.value)


def test_a_value_nested_without_end_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(UsageError, match="not a ResNetSpec"):
        ResNetSpec.from_dict({**SMALL.to_dict(), "widths": nested})


@given(st.integers(1, 3000))
def test_groups_are_the_most_that_hold_sixteen_channels_each(channels: int) -> None:
    sizes = [size for size in range(1, channels + 1) if channels % size == 0 and size >= min(16, channels)]
    assert channels // groups_of(channels) == min(sizes)


def test_groups_of_many_channels_are_found_at_once() -> None:
    start = time.perf_counter()
    assert [groups_of(2**20 - 3) for _ in range(1000)] == [1] * 1000  # a prime number
    assert time.perf_counter() - start < 3


def groups_of(channels: int) -> int:
    """The groups of the last norm of a network with so many channels."""
    spec = dataclasses.replace(SMALL, norm="group", order="pre", widths=(channels, channels))
    return layout.plan(spec)[-4].groups  # type: ignore[union-attr]


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UsageError, match="widths"):
        ResNetSpec.from_dict({"depths": [1], "strides": [1]})


@pytest.mark.parametrize("name", NAMED)
def test_every_named_network_survives_json(name: str) -> None:
    assert ResNetSpec.from_dict(json.loads(json.dumps(architecture(name).to_dict()))) == NAMED[name]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("resnet51", "resnet50"),
        ("resnext50", "resnext50_32x4d"),
        ("articel", "article"),
        ("wrn-16-", "wrn-16-4"),
    ],
)
def test_an_unknown_name_gives_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        architecture(wrong)
    assert wrong in caught.value.message
    assert right in (caught.value.hint or "")


@pytest.mark.parametrize(
    "name", ["", "resnet", "resnet21", "resnet2", "resnet99998", "wrn-28", "wrn-27-10", "wrn-28-0", "plain_x"]
)
def test_names_outside_the_families_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no network named"):
        architecture(name)


@given(st.integers(1, 600))
def test_the_6n_plus_2_law(blocks: int) -> None:
    spec = architecture(f"cifar_resnet{6 * blocks + 2}")
    assert spec.depths == (blocks,) * 3
    assert (spec.widths, spec.shortcut, spec.order) == ((16, 32, 64), "zero_pad", "post")
    option_b = architecture(f"precifar_resnet{6 * blocks + 2}b")
    assert option_b == dataclasses.replace(spec, shortcut="projection", order="pre")


@given(st.integers(1, 600), st.integers(1, 20))
def test_the_wide_law(blocks: int, width: int) -> None:
    spec = architecture(f"wrn-{6 * blocks + 4}-{width}")
    assert (spec.depths, spec.widths[0], spec.order) == ((blocks,) * 3, 16 * width, "pre")


def test_a_table_name_wins_over_the_cifar_pattern() -> None:
    assert architecture("resnet152").stem == "imagenet"
    assert architecture("resnet50").block == "bottleneck"
    assert architecture("cifar_resnet50").depths == (8, 8, 8)


@pytest.mark.parametrize("name", ["resnet50", "resnet20", "wrn-16-4", "seresnet18d", "article"])
def test_the_plain_twin_differs_in_its_shortcut_only(name: str) -> None:
    assert architecture(f"plain_{name}") == dataclasses.replace(architecture(name), shortcut="none")


def test_spec_modules_import_no_torch() -> None:
    code = (
        "import sys, resfit.nn.spec, resfit.nn.plan, resfit.nn.architectures as a\n"
        "resfit.nn.plan.plan(a.architecture('resnet50'))\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
