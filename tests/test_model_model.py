"""A Model cannot hold what does not belong together."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from small_models import images, small_model, small_spec

from resfit.errors import ModelError
from resfit.model.encoding import Grid
from resfit.model.model import Model, Provenance, Range, weights_sha256
from resfit.model.state import state_shapes
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet

LAYOUTS = [
    "resnet18", "resnet50d", "seresnet50", "resnet10t", "resnext50_32x4d", "preresnet18",
    "resnet20", "resnet20b", "preresnet20", "wrn-16-4", "article", "article_steps", "plain_resnet20",
]  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("changes", [{}, {"norm": "group", "activation": "prelu"}, {"norm": "none", "bias": True}])
def test_the_layout_of_weights_is_the_modules(name: str, changes: dict[str, object]) -> None:
    spec = dataclasses.replace(architecture(name), **changes)  # type: ignore[arg-type]
    with torch.device("meta"):
        state = ResNet(spec).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert list(state_shapes(spec).items()) == list(expected.items())


def test_module_and_back() -> None:
    model = small_model(small_spec())
    module = model.module()
    assert not module.training
    again = Model.from_module(
        module, preprocessing=model.preprocessing, labels=model.labels, provenance=model.provenance
    )
    assert weights_sha256(again) == weights_sha256(model)
    assert list(again.weights) == list(model.weights)


def test_training_a_module_changes_neither_its_model_nor_a_model_taken_from_it() -> None:
    model = small_model(small_spec())
    module = model.module().train()
    taken = Model.from_module(
        module, preprocessing=model.preprocessing, labels=model.labels, provenance=model.provenance
    )
    before = weights_sha256(model)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(images(model.spec)).square().sum().backward()
    optimiser.step()
    assert weights_sha256(model) == weights_sha256(taken) == before
    trained = Model.from_module(
        module, preprocessing=model.preprocessing, labels=model.labels, provenance=model.provenance
    )
    assert weights_sha256(trained) != before


def test_the_fingerprint_sees_names_types_shapes_and_bytes_but_not_order() -> None:
    model = small_model(small_spec())

    def changed(**changes: torch.Tensor) -> str:
        weights = {**model.weights, **{name.replace("__", "."): value for name, value in changes.items()}}
        return weights_sha256(dataclasses.replace(model, weights=weights))

    reordered = dataclasses.replace(model, weights=dict(reversed(list(model.weights.items()))))
    assert weights_sha256(reordered) == weights_sha256(model)
    bias = model.weights["fc.bias"]
    nudged = bias.clone()
    nudged[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert changed(fc__bias=bias.clone()) == weights_sha256(model)
    assert changed(fc__bias=nudged) != weights_sha256(model)
    swapped = changed(bn1__weight=model.weights["bn1.bias"], bn1__bias=model.weights["bn1.weight"])
    assert swapped != weights_sha256(model)
    channels_last = model.weights["conv1.weight"].contiguous(memory_format=torch.channels_last)
    assert changed(conv1__weight=channels_last) == weights_sha256(model)


def test_weights_that_do_not_fit_are_named() -> None:
    model = small_model(small_spec())
    weights = dict(model.weights)
    weights["fc.bias"] = torch.zeros(4)
    weights["extra.weight"] = torch.zeros(1)
    del weights["conv1.weight"]
    with pytest.raises(ModelError) as caught:
        dataclasses.replace(model, weights=weights)
    for part in ("1 missing: conv1.weight", "1 unexpected: extra.weight", r"fc.bias is (4,), expected (3,)"):
        assert part in caught.value.message


def test_a_long_list_of_names_is_shortened() -> None:
    model = small_model(small_spec())
    weights = {name: tensor for name, tensor in model.weights.items() if not name.startswith("layer")}
    with pytest.raises(ModelError, match=r"layer1\.0\.conv1\.weight.* and \d+ more"):
        dataclasses.replace(model, weights=weights)


def test_other_contradictions() -> None:
    model = small_model(small_spec())
    with pytest.raises(ModelError, match="2 labels for a network of 3 classes"):
        dataclasses.replace(model, labels=("a", "b"))
    grey = dataclasses.replace(model.preprocessing, channels=1, mean=(0.5,), std=(0.5,))
    with pytest.raises(ModelError, match="1 channels to a network that takes 3"):
        dataclasses.replace(model, preprocessing=grey)
    mixed = {**model.weights, "fc.bias": model.weights["fc.bias"].double()}
    with pytest.raises(ModelError, match=r"several types: torch\.float32, torch\.float64"):
        dataclasses.replace(model, weights=mixed)


def test_encodings_belong_to_weights() -> None:
    model = small_model(small_spec())
    eight = Grid(bits=8, axis=0, scales=np.full(8, 0.1))
    kept = dataclasses.replace(model, encodings={"conv1.weight": eight})
    assert kept.encodings["conv1.weight"] == Grid(bits=8, axis=0, scales=np.full(8, 0.1, np.float32))
    with pytest.raises(ModelError, match="nothing, which is no weight"):
        dataclasses.replace(model, encodings={"nothing": eight})
    with pytest.raises(ModelError, match=r"8 scales along axis 0 of the shape \(3, 16\)"):
        dataclasses.replace(model, encodings={"fc.weight": eight})


@pytest.mark.parametrize(
    "values",
    [
        {"bits": 1, "axis": 0, "scales": [1.0]},
        {"bits": 8, "axis": None, "scales": [1.0, 2.0]},
        {"bits": 8, "axis": 0, "scales": [1.0, 0.0]},
        {"bits": 8, "axis": 0, "scales": [1.0, float("nan")]},
        {"bits": 8, "axis": 0, "scales": [[1.0]]},
    ],
)
def test_encodings_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        Grid(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_ranges_that_cannot_be(low: float, high: float) -> None:
    with pytest.raises(ModelError, match="an activation range"):
        Range(low=low, high=high)


def test_provenance_comes_back_and_refuses_strangers() -> None:
    provenance = Provenance(trained=True, source="test", recipe={"epochs": 3}, notes=("a", "b"))
    assert Provenance.from_dict(provenance.to_dict()) == provenance
    with pytest.raises(ModelError, match="not a provenance"):
        Provenance.from_dict({"trained": True, "source": "x", "colour": "red"})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("trained", "yes", "expected true or false"),
        ("source", 3, "expected a text"),
        ("source", "\x1b[2J", "without control characters"),
        ("recipe", [1], "expected an object or null"),
        ("data", [1], "expected an object or null"),
        ("data", "x", "expected an object or null"),
        ("resfit_version", None, "expected a text"),
        ("created", 2026, "expected a text"),
        ("created", "a" * 10_001, "10,001 characters, expected at most 10,000"),
        ("notes", "one", "expected a list of texts"),
        ("notes", [1], "expected a text"),
        ("notes", ["one", "\x9b2J"], "without control characters"),
        ("notes", ["a" * 10_001], "10,001 characters"),
    ],
)
def test_a_field_of_a_provenance_that_cannot_be_is_named(field: str, value: object, expected: str) -> None:
    values = Provenance(trained=True, source="test").to_dict()
    with pytest.raises(ModelError) as caught:
        Provenance.from_dict({**values, field: value})
    assert f"provenance.{field}" in caught.value.message
    assert expected in caught.value.message
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("values", [{}, {"trained": True}, [1], "x"])
def test_what_is_no_provenance_at_all_is_refused(values: Any) -> None:
    with pytest.raises(ModelError, match="not a provenance"):
        Provenance.from_dict(values)
