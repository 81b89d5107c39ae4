"""How Hugging Face's ResNet names and describes the networks of this family (microsoft/resnet-50 and its kin)."""

import re
from typing import Any

from resfit.data.preprocessing import Preprocessing
from resfit.model.model import Model
from resfit.model.refusals import Refusal, refuse
from resfit.model.state import state_shapes
from resfit.nn.spec import BOTTLENECK_REDUCTION, ResNetSpec

STEM = "resnet.embedder.embedder"
BILINEAR = 2  # Pillow's number of the filter, which the image processors take
_PARTS = {"conv": "convolution", "bn": "normalization"}
_SHORTCUT = {"0": "convolution", "1": "normalization"}
_IN_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")


def huggingface_names(spec: ResNetSpec) -> dict[str, str]:
    """The name in ResNetForImageClassification of every tensor in the state dict of ResNet(spec), by ours.

    The spec must be one that `huggingface_config` accepts.
    """
    return {name: _their_name(name) for name in state_shapes(spec)}


def huggingface_config(model: Model) -> dict[str, Any]:
    """The config.json that ResNetForImageClassification.from_pretrained reads.

    ModelError names the fields of the spec that Hugging Face's ResNet has no form for.
    """
    spec = model.spec
    refuse("Hugging Face's ResNet", _refusals(spec))
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "problem_type": "single_label_classification",
        "num_channels": spec.in_channels,
        "embedding_size": spec.stem_width,
        "hidden_sizes": list(spec.widths),
        "depths": list(spec.depths),
        "layer_type": spec.block,
        "hidden_act": spec.activation,
        "downsample_in_first_stage": spec.strides[0] == 2,
        "downsample_in_bottleneck": spec.block == "bottleneck" and spec.stride_in == "1x1",
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "dtype": "float32",
    }


def image_processor_config(preprocessing: Preprocessing) -> dict[str, Any]:
    """The preprocessor_config.json that AutoImageProcessor.from_pretrained reads.

    ModelError where no processor brings an image to its size as this preprocessing does.
    """
    height, width = preprocessing.height, preprocessing.width
    if preprocessing.fit == "letterbox":
        refuse("Hugging Face's ResNet", [Refusal(field="fit", value="letterbox", allowed="crop or squash")])
    if preprocessing.fit == "crop" and height != width:
        size = f"{height} x {width}"
        refuse("Hugging Face's ResNet", [Refusal(field="image size", value=size, allowed="squares, unless squashed")])
    crop = preprocessing.fit == "crop"
    return {
        "image_processor_type": "BitImageProcessor" if crop else "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": height} if crop else {"height": height, "width": width},
        "resample": BILINEAR,
        "do_center_crop": crop,
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "do_convert_rgb": preprocessing.channels == 3,
    }


def _their_name(name: str) -> str:
    if name.startswith("fc."):
        return "classifier.1." + name.removeprefix("fc.")
    if match := _IN_BLOCK.fullmatch(name):
        stage, block, inner = int(match[1]) - 1, match[2], match[3]
        return f"resnet.encoder.stages.{stage}.layers.{block}.{_in_block(inner)}"
    part, _, tensor = name.partition(".")
    return f"{STEM}.{_PARTS[part[:-1]]}.{tensor}"


def _in_block(name: str) -> str:
    """A tensor's name within a block: conv2.weight is layer.1.convolution.weight."""
    part, _, tensor = name.partition(".")
    if part == "downsample":
        number, _, tensor = tensor.partition(".")
        return f"shortcut.{_SHORTCUT[number]}.{tensor}"
    return f"layer.{int(part[-1]) - 1}.{_PARTS[part[:-1]]}.{tensor}"


def _refusals(spec: ResNetSpec) -> list[Refusal]:
    """What Hugging Face's ResNet cannot be."""
    choices: dict[str, tuple[Any, ...]] = {
        "block": ("basic", "bottleneck"), "order": ("post",), "norm": ("batch",), "bias": (False,),
        "stem": ("imagenet",), "shortcut": ("projection",), "groups": (1,), "se_ratio": (0.0,),
        "activation": ("relu",),  # the library's hidden_act reaches the sums only: inner convolutions keep ReLU
    }  # fmt: skip
    found = [
        Refusal(field=field, value=getattr(spec, field), allowed=" or ".join(map(str, values)))
        for field, values in choices.items()
        if getattr(spec, field) not in values
    ]
    if spec.strides[0] > 2 or any(stride != 2 for stride in spec.strides[1:]):
        found.append(Refusal(field="strides", value=spec.strides, allowed="1 or 2 in the first stage and 2 in others"))
    reduction = BOTTLENECK_REDUCTION if spec.block == "bottleneck" else 1
    if not found and any(
        set(spec.inner(stage, block)) != {spec.widths[stage] // reduction}
        for stage, depth in enumerate(spec.depths)
        for block in range(depth)
    ):
        field = "mid_ratio" if spec.inner_widths is None else "inner_widths"
        allowed = "a quarter of the stage's width" if reduction > 1 else "the stage's own width in every block"
        found.append(Refusal(field=field, value=getattr(spec, field), allowed=allowed))
    return found
