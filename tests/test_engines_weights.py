"""Weights for other programs: opened by them unchanged, with the same logits; what they cannot express is named."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from random_models import TINY, random_images, random_model

from resfit.data.preprocessing import fit_image
from resfit.engines import weights as room
from resfit.engines.artifact import describe, open_session
from resfit.engines.compare import compare
from resfit.engines.torch import model_session
from resfit.engines.weights import reopen, write_weights
from resfit.errors import EngineError, ModelError
from resfit.model.huggingface_layout import huggingface_names, image_processor_config
from resfit.model.load import load
from resfit.model.model import weights_sha256
from resfit.model.state import state_shapes
from resfit.model.timm_layout import ACTIVATIONS, timm_names
from resfit.nn.architectures import NAMED
from resfit.nn.spec import ResNetSpec

BASIC = ResNetSpec(depths=(1, 2, 1, 1), widths=(16, 24, 32, 48), strides=(1, 2, 2, 2), num_classes=5)
BOTTLENECK = dataclasses.replace(BASIC, block="bottleneck", widths=(32, 64, 96, 128))
TIMM = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "deep_avgpool": dataclasses.replace(BOTTLENECK, stem="deep", stem_width=32, shortcut="avgpool"),
    "tiered": dataclasses.replace(BASIC, stem="tiered", stem_width=32),
    "groups": dataclasses.replace(BOTTLENECK, groups=2, mid_ratio=2.0),
    "mid_ratio": dataclasses.replace(BOTTLENECK, mid_ratio=1.5),
    "squeeze_excite": dataclasses.replace(BASIC, se_ratio=1 / 16),
    "grey": dataclasses.replace(BASIC, in_channels=1),
    **{f"activation_{kind}": dataclasses.replace(BASIC, activation=kind) for kind in ACTIVATIONS},
    "bottleneck_prelu": dataclasses.replace(BOTTLENECK, activation="prelu"),
}
HUGGINGFACE = {
    "basic": BASIC,
    "bottleneck": BOTTLENECK,
    "stride_in_1x1": dataclasses.replace(BOTTLENECK, stride_in="1x1"),
    "first_stage_strided": dataclasses.replace(BASIC, strides=(2, 2, 2, 2)),
    "two_stages_and_narrow_stem": ResNetSpec(
        depths=(1, 1), widths=(16, 32), strides=(1, 2), stem_width=16, num_classes=5
    ),
    "grey": dataclasses.replace(BASIC, in_channels=1),
}
EVERYWHERE_REFUSED = {
    "order": {"order": "pre"},
    "norm": {"norm": "group"},
    "bias": {"bias": True},
    "stem": {"stem": "cifar"},
    "shortcut": {"shortcut": "projection_always"},
    "block": {"block": "article"},
    "inner_widths": {"inner_widths": (((7,),), ((9,), (9,)), ((9,),), ((9,),))},
}
TIMM_REFUSED = {
    "activation": {"activation": "sin"},
    "strides": {"strides": (2, 2, 2, 2)},
    "stem_width": {"stem_width": 32},
    "se_ratio": {"se_ratio": 0.5},
}
HUGGINGFACE_REFUSED = {
    "activation": {"activation": "gelu"},
    "strides": {"strides": (1, 2, 2, 3)},
    "se_ratio": {"se_ratio": 1 / 16},
    "stem": {"stem": "deep"},
}


class Logits(torch.nn.Module):
    """A transformers network that gives its logits alone."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).logits


def check_opened(model, network):
    """The network another library opened gives this model's logits on normalised images."""
    images = torch.rand(2, model.spec.in_channels, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), model.module()(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", TIMM)
def test_timm_opens_the_folder_unchanged(network, tmp_path):
    timm = pytest.importorskip("timm", reason="the test extra brings timm")
    model = random_model(TIMM[network], side=64)
    write_weights(model, tmp_path / "m", format="timm")
    opened = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    check_opened(model, opened)
    about = opened.pretrained_cfg
    assert about["label_names"] == list(model.labels)
    assert tuple(about["mean"]) == model.preprocessing.mean
    assert tuple(about["input_size"]) == (model.spec.in_channels, 64, 64)


@pytest.mark.parametrize("network", HUGGINGFACE)
def test_transformers_opens_the_folder_unchanged(network, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the test extra brings transformers")
    model = random_model(HUGGINGFACE[network], side=64)
    write_weights(model, tmp_path / "m", format="huggingface")
    opened = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "m")
    check_opened(model, Logits(opened))
    assert tuple(opened.config.id2label[index] for index in range(5)) == model.labels


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "seresnet50", "resnet10t"]
)
def test_named_networks_have_a_timm_form(name):
    from resfit.model.timm_layout import timm_config

    assert timm_config(random_model(NAMED[name], side=32))["model_args"]["layers"] == list(NAMED[name].depths)


@pytest.mark.parametrize(
    ("format", "field", "change"),
    [("timm", *item) for item in (EVERYWHERE_REFUSED | TIMM_REFUSED).items()]
    + [("huggingface", *item) for item in (EVERYWHERE_REFUSED | HUGGINGFACE_REFUSED).items()],
)
def test_what_cannot_be_expressed_is_named_and_leaves_nothing(format, field, change, tmp_path):
    model = random_model(dataclasses.replace(BASIC, **change), side=64)
    with pytest.raises(ModelError, match=rf"cannot express this network: .*\b{field} is "):
        write_weights(model, tmp_path / "m", format=format)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("format", "field", "change"),
    [
        ("timm", "mid_ratio", {"mid_ratio": 0.5}),
        ("timm", "stride_in", {"block": "bottleneck", "widths": (32, 64, 96, 128), "stride_in": "1x1"}),
        ("timm", "widths", {"block": "bottleneck", "widths": (30, 64, 96, 128)}),
        ("huggingface", "groups", {"block": "bottleneck", "widths": (32, 64, 96, 128), "groups": 2}),
        ("huggingface", "mid_ratio", {"mid_ratio": 0.5}),
    ],
)
def test_widths_and_strides_that_cannot_be_expressed(format, field, change, tmp_path):
    model = random_model(dataclasses.replace(BASIC, **change), side=64)
    with pytest.raises(ModelError, match=rf"\b{field} is "):
        write_weights(model, tmp_path / "m", format=format)


@pytest.mark.parametrize(("format", "fit"), [("timm", "letterbox"), ("huggingface", "letterbox")])
def test_a_fit_that_cannot_be_expressed_is_named(format, fit, tmp_path):
    model = random_model(BASIC, side=64)
    model = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, fit=fit))
    with pytest.raises(ModelError, match="fit is 'letterbox', and it knows crop or squash"):
        write_weights(model, tmp_path / "m", format=format)


def test_huggingface_crops_squares_only(tmp_path):
    model = random_model(BASIC, side=64)
    model = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, width=48))
    with pytest.raises(ModelError, match="image size is '64 x 48'"):
        write_weights(model, tmp_path / "m", format="huggingface")


@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_the_image_processor_prepares_images_as_the_model_reads_them(fit, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the test extra brings transformers")
    own = dataclasses.replace(random_model(BASIC, side=64).preprocessing, fit=fit)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(image_processor_config(own)))
    ramp = np.linspace(0, 255, 150 * 100 * 3).reshape(100, 150, 3).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(ramp))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    theirs = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    ours = ((fit_image(image, own) / 255 - own.mean) / own.std).transpose(2, 0, 1)
    assert theirs.shape == ours.shape
    assert np.abs(theirs - ours).mean() < 0.02  # a level of 255 is 0.017 here


def test_names_are_one_to_one_and_read_back():
    from resfit.model.huggingface_names import from_huggingface

    for spec in (BASIC, BOTTLENECK):
        theirs = huggingface_names(spec)
        assert list(theirs) == list(state_shapes(spec))
        assert len(set(theirs.values())) == len(theirs)
        back = from_huggingface({name: torch.zeros(()) for name in theirs.values()})
        assert list(back) == list(theirs)
        assert timm_names(spec) == {name: name for name in state_shapes(spec)}
    prelu = timm_names(dataclasses.replace(BOTTLENECK, activation="prelu"))
    assert prelu["layer1.0.act.weight"] == "layer1.0.act3.weight"


def test_safetensors_hold_the_networks_own_tensors_and_open_as_an_artifact(tmp_path):
    model = random_model(TINY)
    path = tmp_path / "m.safetensors"
    write_weights(model, path, format="safetensors")
    found = safetensors.torch.load_file(path)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == state_shapes(TINY)
    assert all(torch.equal(found[name], tensor) for name, tensor in model.weights.items())
    assert describe(path).labels == model.labels
    images = random_images(model, 3)
    assert compare(open_session(path, threads=1), model_session(model, threads=1), images)["max_abs_difference"] < 1e-5


@pytest.mark.parametrize(
    ("format", "network"),
    [("timm", name) for name in TIMM if not name.startswith("activation")]
    + [("timm", "activation_prelu"), ("timm", "activation_silu")]
    + [("huggingface", name) for name in HUGGINGFACE],
)
def test_resfit_reads_its_own_folders_back(format, network, tmp_path):
    spec = (TIMM if format == "timm" else HUGGINGFACE)[network]
    model = random_model(spec, side=64, trained=True)
    model = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, fit="squash"))
    write_weights(model, tmp_path / "m", format=format)
    found = load(tmp_path / "m")
    # of several ratios with the same gates one is read
    assert dataclasses.replace(found.spec, se_ratio=spec.se_ratio) == spec
    assert found.labels == model.labels
    assert found.preprocessing == model.preprocessing
    assert weights_sha256(found) == weights_sha256(model)


@pytest.mark.parametrize("format", ["timm", "huggingface"])
def test_without_the_library_the_names_are_followed(format, tmp_path, monkeypatch):
    model = random_model(BASIC, side=64)
    write_weights(model, tmp_path / "m", format=format)

    def absent(_path, library):
        raise ImportError(library)

    monkeypatch.setattr(room, "_by_library", absent)
    session, opener = reopen(model, tmp_path / "m", format=format, threads=1)
    assert "for want of" in opener
    images = random_images(model, 2)
    assert compare(session, model_session(model, threads=1), images)["max_abs_difference"] < 1e-5
    tensors = safetensors.torch.load_file(tmp_path / "m" / "model.safetensors")
    del tensors[next(name for name in tensors if name.endswith("bias"))]
    safetensors.torch.save_file(tensors, tmp_path / "m" / "model.safetensors")
    with pytest.raises(EngineError, match=r"model.safetensors does not hold the network"):
        reopen(model, tmp_path / "m", format=format)


def test_a_library_that_fails_on_its_own_folder_is_an_error(tmp_path):
    pytest.importorskip("timm", reason="the test extra brings timm")
    model = random_model(BASIC, side=64)
    write_weights(model, tmp_path / "m", format="timm")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(EngineError, match="timm cannot open what was written for it"):
        reopen(model, tmp_path / "m", format="timm")
