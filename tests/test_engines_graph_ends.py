"""What a graph reads and gives: pixels or normalised images, logits or probabilities, in every format of graphs."""

import dataclasses
import itertools

import numpy as np
import onnx
import pytest
from random_models import random_images, random_model

from resfit.compression.quantise import quantise
from resfit.engines.artifact import GRAPHS, build, describe, open_session
from resfit.engines.graph_ends import as_logits, network_input
from resfit.engines.metadata import Metadata
from resfit.engines.torch import model_session
from resfit.errors import EngineError, UsageError
from resfit.metrics.classification import softmax

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
ENDS = [(read, given) for read in ("pixels", "normalised") for given in ("logits", "probabilities")]


@pytest.fixture(scope="module")
def model():
    return random_model()


def metadata(model, **changes):
    values = {"precision": "fp32", "converted_layers": 0, "trained": False, "resfit_version": "0"} | changes
    return Metadata(spec=model.spec, preprocessing=model.preprocessing, labels=model.labels, **values)


@pytest.mark.parametrize(("format", "ends"), list(itertools.product(GRAPHS, ENDS)))
def test_a_session_gives_the_same_answers_whatever_the_graph_reads_and_gives(format, ends, model, tmp_path):
    if format == "openvino":
        pytest.importorskip("openvino", reason="the openvino format needs openvino")
    read, given = ends
    images = random_images(model, 3)
    artifact = build(model, tmp_path / f"m{SUFFIXES[format]}", format=format, input=read, output=given)
    found = describe(artifact.path)
    assert (found.input, found.output) == ends
    logits = open_session(artifact, threads=1).run(images)
    expected = model_session(model, threads=1).run(images)
    if given == "logits":
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    np.testing.assert_allclose(softmax(logits), softmax(expected), atol=1e-5)


@pytest.mark.parametrize("ends", ENDS)
def test_int8_keeps_its_layers_whatever_the_graph_reads_and_gives(ends, model, tmp_path):
    images = random_images(model, 16)
    quantised = quantise(model, images)
    read, given = ends
    artifact = build(quantised, tmp_path / "m.onnx", precision="int8", input=read, output=given)
    assert artifact.converted_layers == len(quantised.encodings)
    usual = open_session(build(quantised, tmp_path / "n.onnx", precision="int8"), threads=1).run(images)
    np.testing.assert_allclose(softmax(open_session(artifact, threads=1).run(images)), softmax(usual), atol=1e-3)


def test_a_graph_declares_its_ends_to_any_program(model, tmp_path):
    path = build(model, tmp_path / "m.onnx", input="normalised", output="probabilities").path
    graph = onnx.load(path).graph
    (read,), (given,) = graph.input, graph.output
    assert [side.dim_param or side.dim_value for side in read.type.tensor_type.shape.dim] == ["N", 3, 16, 16]
    assert read.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert given.name == "probabilities"
    import onnxruntime

    images = random_images(model, 2)
    bare = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    probabilities = bare.run(["probabilities"], {"input": network_input(images, describe(path))})[0]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_normalised_input_is_what_the_preprocessing_says(model):
    images = random_images(model, 2)
    own = model.preprocessing
    expected = ((images / 255 - own.mean) / own.std).transpose(0, 3, 1, 2)
    read = network_input(images, metadata(model, input="normalised"))
    assert read.dtype == np.float32
    assert read.flags.c_contiguous
    np.testing.assert_allclose(read, expected, atol=1e-5)
    assert network_input(images, metadata(model)) is images
    with pytest.raises(EngineError, match="expected uint8"):
        network_input(images.astype(np.float32), metadata(model, input="normalised"))


def test_logits_from_probabilities_give_them_back_and_are_finite(model):
    probabilities = np.array([[0.75, 0.25, 0.0]], np.float32)
    logits = as_logits(probabilities, metadata(model, output="probabilities"))
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(softmax(logits), probabilities, atol=1e-6)
    assert as_logits(probabilities, metadata(model)) is probabilities


def test_metadata_from_before_the_choice_means_pixels_and_logits(model):
    strings = metadata(model).to_strings()
    assert not {"input", "output"} & set(strings)  # the usual ends cost no bytes
    found = Metadata.from_strings(strings, source="m")
    assert (found.input, found.output) == ("pixels", "logits")
    other = metadata(model, input="normalised", output="probabilities")
    assert Metadata.from_strings(other.to_strings(), source="m") == other


@pytest.mark.parametrize("damage", [{"input": '"floats"'}, {"output": "3"}, {"labels": None}, {"spec": "{}"}])
def test_metadata_that_cannot_be_is_named(damage, model):
    strings = {**metadata(model).to_strings(), **damage}
    kept = {name: value for name, value in strings.items() if value is not None}
    with pytest.raises(EngineError, match=r"m\.onnx carries no resfit metadata"):
        Metadata.from_strings(kept, source="m.onnx")


def test_the_torch_format_has_no_such_choice(model, tmp_path):
    for change in ({"input": "normalised"}, {"output": "probabilities"}):
        with pytest.raises(UsageError, match="torch format holds no graph"):
            build(model, tmp_path / "m.safetensors", format="torch", **change)
    assert not list(tmp_path.iterdir())


def test_layers_left_in_float_are_listed(model, tmp_path):
    quantised = quantise(model, random_images(model, 4))
    encodings = {name: value for name, value in quantised.encodings.items() if name != "conv1.weight"}
    mixed = dataclasses.replace(quantised, encodings=encodings)
    assert build(mixed, tmp_path / "m.onnx", precision="int8").float_layers == ("conv1",)
    assert build(quantised, tmp_path / "n.onnx", precision="int8").float_layers == ()
    assert build(model, tmp_path / "o.onnx").float_layers == ()
