"""Which network a foreign state dict belongs to, read from tensor names and shapes alone."""

import re
from typing import Any

from resfit.errors import ModelError, UsageError
from resfit.model.state import Shapes, shortened
from resfit.nn.spec import BOTTLENECK_REDUCTION, ResNetSpec

_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)")
_EVERY_BLOCK = {"conv1.weight", "conv2.weight"}
_RANKED = re.compile(r"fc\.weight|conv1\.weight|layer\d+\.\d+\.(conv\d|se\.fc1|downsample\.0)\.weight")
_STEMS = {7: "imagenet", 3: "cifar"}


def infer_spec(shapes: Shapes) -> tuple[ResNetSpec, tuple[str, ...]]:
    """The spec whose state has these names and shapes, and a sentence for each thing it had to assume.

    Names are torchvision's, timm's, or those of CIFAR networks with option A shortcuts. What weights cannot
    tell is taken as everybody has it: strides 1, 2, 2, .. with the 3x3 convolution, ReLU. The caller checks
    the result against all shapes. A state without the parts of a ResNet is a ModelError.
    """
    for name, shape in shapes.items():
        if (ranked := _RANKED.fullmatch(name)) and len(shape) != (2 if ranked[0].startswith("fc.") else 4):
            raise ModelError(f"{name} has the shape {shape}, which no weight of its name has")
    blocks = _blocks(shapes)
    if not blocks or "fc.weight" not in shapes or not any(name.startswith("conv1.") for name in shapes):
        raise ModelError(
            f"no residual network has these tensors: {shortened(list(shapes))}",
            hint="expected torchvision's or timm's names: conv1, bn1, layer1.0.conv1, .., fc",
        )
    notes: list[str] = []
    first = blocks[0][0]
    block = _block_kind(first)
    norm = _norm_kind(shapes, first)
    order = _order(shapes, first, block, norm, notes)
    try:
        spec = _inner(
            blocks,
            {
                "depths": tuple(len(stage) for stage in blocks),
                "widths": tuple(_width(stage[0]) for stage in blocks),
                "strides": (1, *(2,) * (len(blocks) - 1)),
                "block": block,
                "order": order,
                "groups": _groups(first, block),
                **_stem(shapes),
                "shortcut": _shortcut(shapes, blocks, notes),
                "activation": "prelu" if any(_is_prelu(name, shapes) for name in shapes) else "relu",
                "norm": norm,
                "bias": any(re.search(r"\.conv\d\.bias$", name) for name in shapes),
                "se_ratio": _se_ratio(blocks[-1][0]),
                "num_classes": shapes["fc.weight"][0],
            },
        )
    except UsageError as error:
        raise ModelError(f"the tensors suggest a network that cannot be: {error.message}") from error
    return spec, tuple(notes)


def _blocks(shapes: Shapes) -> list[list[dict[str, tuple[int, ...]]]]:
    """Shapes by name within each block, [stage][block]; empty unless they are numbered without a gap."""
    found: dict[tuple[int, int], dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if match := _BLOCK.fullmatch(name):
            found.setdefault((int(match[1]), int(match[2])), {})[match[3]] = shape
    stages = len({stage for stage, _ in found})
    depths = [len([block for stage, block in found if stage == number + 1]) for number in range(stages)]
    keys = [[(number + 1, block) for block in range(depth)] for number, depth in enumerate(depths)]
    if 0 in depths or any(not found.get(key, {}).keys() >= _EVERY_BLOCK for stage in keys for key in stage):
        return []
    return [[found[key] for key in stage] for stage in keys]


def _convolutions(block: Shapes) -> list[tuple[int, ...]]:
    return [block[name] for name in ("conv1.weight", "conv2.weight", "conv3.weight") if name in block]


def _width(block: Shapes) -> int:
    return _convolutions(block)[-1][0]


def _block_kind(block: Shapes) -> str:
    kernels = tuple(shape[-1] for shape in _convolutions(block))
    if kernels == (3, 3):
        return "basic"
    if kernels == (1, 3, 1):
        return "article" if "bn2.weight" in block and "bn1.weight" not in block else "bottleneck"
    raise ModelError(f"no block of this family has kernels of the sizes {kernels}")


def _norm_kind(shapes: Shapes, block: Shapes) -> str:
    if not any(re.search(r"bn\d\.weight$", name) for name in shapes):
        return "none"
    if not any(name.endswith("running_mean") for name in shapes):
        return "group"
    return "batch" if "bn2.weight" in block else "batch_leading"


def _order(shapes: Shapes, block: Shapes, kind: str, norm: str, notes: list[str]) -> str:
    """Pre-activation shows in the norm before the classifier, the article in biases beside norms."""
    if "norm.weight" in shapes:
        return "pre"
    if kind == "article" or (norm == "batch" and "conv1.bias" in block):
        notes.append("convolutions have biases beside norms, as the article's: no activation after a sum assumed")
        return "none"
    return "post"


def _groups(block: Shapes, kind: str) -> int:
    if kind != "bottleneck":
        return 1
    inner, inputs = block["conv1.weight"][0], block["conv2.weight"][1]
    return inner // inputs if inputs and inner % inputs == 0 else 1


def _stem(shapes: Shapes) -> dict[str, Any]:
    if "conv1.weight" in shapes:
        width, channels, kernel, _ = shapes["conv1.weight"]
        if kernel not in _STEMS:
            raise ModelError(f"conv1 has a kernel of {kernel}, expected 7 (ImageNet) or 3 (CIFAR)")
        return {"stem": _STEMS[kernel], "stem_width": width, "in_channels": channels}
    parts = [shapes.get(f"conv1.{index}.weight", ()) for index in (0, 3, 6)]
    if any(len(part) != 4 for part in parts):
        raise ModelError("the stem is neither one convolution (conv1) nor three (conv1.0, conv1.3, conv1.6)")
    widths = [part[0] for part in parts]
    deep = widths[0] == widths[1] == widths[2] // 2
    return {"stem": "deep" if deep else "tiered", "stem_width": widths[2], "in_channels": parts[0][1]}


def _shortcut(shapes: Shapes, blocks: list[list[dict[str, tuple[int, ...]]]], notes: list[str]) -> str:
    if not any(".downsample." in name for name in shapes):
        notes.append("no shortcut has weights: zero-pad shortcuts (option A) assumed")
        return "zero_pad"
    if any(len(block.get("downsample.1.weight", ())) == 4 for stage in blocks for block in stage):
        return "avgpool"
    later = any("downsample.0.weight" in block for stage in blocks for block in stage[1:])
    first = blocks[0][0]
    unchanged = "downsample.0.weight" in first and first["conv1.weight"][1] == _width(first)
    return "projection_always" if later or unchanged else "projection"


def _se_ratio(block: Shapes) -> float:
    shape = block.get("se.fc1.weight")
    return shape[0] / shape[1] if shape else 0.0


def _is_prelu(name: str, shapes: Shapes) -> bool:
    return name.rpartition(".")[0].endswith(("act", "act1", "act2")) and shapes[name] == (1,)


def _inner(blocks: list[list[dict[str, tuple[int, ...]]]], values: dict[str, Any]) -> ResNetSpec:
    """The spec with the inner widths seen: one ratio where that gives them all, else written out."""
    inner = tuple(tuple(tuple(c[0] for c in _convolutions(block)[:-1]) for block in stage) for stage in blocks)
    standard = max(values["widths"][0] // (BOTTLENECK_REDUCTION if values["block"] == "bottleneck" else 1), 1)
    ratio = inner[0][0][0] / standard
    try:
        spec = ResNetSpec(**values, mid_ratio=ratio)
        uniform = all(
            spec.inner(stage, block) == inner[stage][block]
            for stage in range(len(inner))
            for block in range(len(inner[stage]))
        )
    except UsageError:
        uniform = False
    return spec if uniform else ResNetSpec(**values, inner_widths=inner)
