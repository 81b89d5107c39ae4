"""Which channels go together: read off the plan, for every kind of shortcut, block and stem."""

import dataclasses

import pytest
from small_models import small_spec

from resfit.compression.couplings import couplings, wires
from resfit.measure.macs import macs_by_operation
from resfit.nn import plan as layout
from resfit.nn.architectures import architecture

BOTTLENECK = {"block": "bottleneck", "widths": (16, 32)}


def _by_name(spec):
    return {coupling.name: coupling for coupling in couplings(spec)}


def test_a_stage_s_sums_are_one_coupling_and_name_what_writes_and_reads_them():
    found = _by_name(small_spec())
    stage = found["layer2.sum"]
    assert len(stage.channels) == 16
    assert stage.writers == ("layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2")
    assert stage.readers == ("layer2.1.conv1", "fc")
    assert (stage.block, stage.droppable) == (None, False)
    assert found["layer1.sum"].writers == ("conv1", "layer1.0.conv2")


def test_a_branch_s_inside_is_a_coupling_of_its_own():
    inside = _by_name(small_spec())["layer2.1.conv1"]
    assert (inside.writers, inside.readers) == (("layer2.1.conv1",), ("layer2.1.conv2",))
    assert (inside.block, inside.droppable) == ((1, 1), True)


def test_a_zero_pad_shortcut_carries_the_first_stage_s_channels_into_the_next():
    spec = small_spec(shortcut="zero_pad")
    found, wired = _by_name(spec), wires(spec)
    carried, padded = found["layer1.sum"], found["layer2.sum"]
    assert len(carried.channels) == 8
    assert len(padded.channels) == 8  # of 16: the rest is what the first stage gives
    assert {"conv1", "layer1.0.conv2", "layer2.0.conv2", "layer2.1.conv2"} == set(carried.writers)
    assert wired["layer2.0.conv2"].writes == (*padded.channels[:4], *carried.channels, *padded.channels[4:])


def test_a_group_splits_both_its_ends_into_equal_runs():
    found = _by_name(small_spec(**BOTTLENECK, groups=2))
    assert {found[f"layer1.0.conv{number}"].runs for number in (1, 2)} == {2}
    assert found["layer1.sum"].runs == 1


def test_a_deep_stem_s_convolutions_are_three_couplings():
    found = _by_name(small_spec(stem="deep", shortcut="avgpool"))
    assert [found[f"conv1.{number}"].readers for number in (0, 3)] == [("conv1.3",), ("conv1.6",)]
    assert found["layer1.sum"].writers[0] == "conv1.6"


@pytest.mark.parametrize("shortcut", ["none", "projection_always"])
def test_where_nothing_is_added_up_a_spec_s_one_width_still_ties_a_stage(shortcut):
    found = _by_name(small_spec(shortcut=shortcut))
    assert {"layer2.0.conv2", "layer2.1.conv2"} <= set(found["layer2.sum"].writers)
    assert not any(coupling.droppable for coupling in found.values())


@pytest.mark.parametrize(
    ("change", "droppable"),
    [
        ({}, True),
        ({"order": "pre"}, True),
        ({"order": "none", "activation": "gelu"}, True),
        ({"activation": "gelu"}, False),  # twice is not as once
        ({"activation": "relu6"}, True),
    ],
)
def test_a_block_can_go_where_nothing_else_would_change_what_passes_it(change, droppable):
    assert _by_name(small_spec(**change))["layer2.1.conv1"].droppable is droppable


def test_a_block_that_changes_shapes_cannot_go():
    found = _by_name(small_spec())
    assert not found["layer2.0.conv1"].droppable
    assert found["layer1.0.conv1"].droppable  # what remains of a stage is removal's matter


@pytest.mark.parametrize(
    "name", ["resnet32", "resnet18", "resnet50d", "resnext50_32x4d", "preresnet20", "seresnet18d", "plain_resnet20",
             "article_steps", "wrn-16-4", "resnet10t"],
)  # fmt: skip
def test_every_channel_of_every_layer_belongs_to_exactly_one(name):
    spec = architecture(name)
    found = couplings(spec)
    numbers = [number for coupling in found for number in coupling.channels]
    assert len(numbers) == len(set(numbers))
    assert len({coupling.name for coupling in found}) == len(found)
    wired = wires(spec)
    for operation, wire in wired.items():
        if isinstance(wire.operation, layout.Convolution):
            assert set(wire.writes) <= set(numbers), operation
    assert set(wired["fc"].writes).isdisjoint(numbers)
    assert set(wired[next(iter(wired))].reads).isdisjoint(numbers)
    assert macs_by_operation(spec, 64, 64).keys() <= wired.keys()


def test_what_is_said_of_a_network_does_not_depend_on_what_it_is_not():
    spec = small_spec()
    assert couplings(spec) == couplings(dataclasses.replace(spec, drop_path=0.2, dropout=0.1, zero_gamma=True))
