"""Networks by name: one literal table, and three patterns for the families that go by depth."""

import dataclasses
import re
from typing import Any

from resfit.errors import UsageError, nearest
from resfit.nn.spec import ResNetSpec

_PLANES = (64, 128, 256, 512)
_SUMS = (256, 512, 1024, 2048)
_STRIDES = (1, 2, 2, 2)

_IMAGENET_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _imagenet(depth: int, **changes: Any) -> ResNetSpec:
    bottleneck = depth >= 50
    return ResNetSpec(
        depths=_IMAGENET_DEPTHS[depth],
        widths=_SUMS if bottleneck else _PLANES,
        strides=_STRIDES,
        block="bottleneck" if bottleneck else "basic",
        **changes,
    )


def _cifar(depth: int, **changes: Any) -> ResNetSpec:
    blocks = (depth - 2) // 6
    values: dict[str, Any] = {"shortcut": "zero_pad", "num_classes": 10, **changes}
    return ResNetSpec(
        depths=(blocks,) * 3, widths=(16, 32, 64), strides=(1, 2, 2), stem="cifar", stem_width=16, **values
    )


def _wide(depth: int, width: int) -> ResNetSpec:
    return ResNetSpec(
        depths=((depth - 4) // 6,) * 3,
        widths=(16 * width, 32 * width, 64 * width),
        strides=(1, 2, 2),
        order="pre",
        stem="cifar",
        stem_width=16,
        num_classes=10,
    )


_DEEP: dict[str, Any] = {"stem": "deep", "shortcut": "avgpool"}
_SE: dict[str, Any] = {"se_ratio": 1 / 16}
_ARTICLE = _imagenet(18, bias=True, order="none", num_classes=10)

NAMED: dict[str, ResNetSpec] = {
    **{f"resnet{depth}": _imagenet(depth) for depth in _IMAGENET_DEPTHS},
    **{f"resnet{depth}d": _imagenet(depth, **_DEEP) for depth in _IMAGENET_DEPTHS},
    **{f"seresnet{depth}": _imagenet(depth, **_SE) for depth in _IMAGENET_DEPTHS},
    **{f"seresnet{depth}d": _imagenet(depth, **_DEEP, **_SE) for depth in _IMAGENET_DEPTHS},
    **{f"preresnet{depth}": _imagenet(depth, order="pre") for depth in _IMAGENET_DEPTHS},
    "resnext50_32x4d": _imagenet(50, groups=32, mid_ratio=2.0),
    "resnext101_32x8d": _imagenet(101, groups=32, mid_ratio=4.0),
    "wide_resnet50_2": _imagenet(50, mid_ratio=2.0),
    "wide_resnet101_2": _imagenet(101, mid_ratio=2.0),
    "resnet10t": ResNetSpec(depths=(1, 1, 1, 1), widths=_PLANES, strides=_STRIDES, stem="tiered", shortcut="avgpool"),
    "article": _ARTICLE,
    "article_steps": dataclasses.replace(_ARTICLE, block="article"),
    "article_steps_relu": dataclasses.replace(_ARTICLE, block="article", order="post"),
}

_CIFAR = re.compile(r"(pre)?(cifar_)?resnet(\d{1,4})(b)?")
_WIDE = re.compile(r"wrn-(\d{1,4})-(\d{1,4})")
MAX_FAMILY_BLOCKS = 1665  # a block count a stage, of the deepest name a family has
FAMILIES = "resnet{6n+2}, resnet{6n+2}b, preresnet{6n+2}, cifar_resnet{6n+2}, wrn-{6n+4}-{k}, plain_{name}"


def architecture(name: str) -> ResNetSpec:
    """The spec of a named network.

    A name in the table means that network. resnet20, resnet32, .. (6n+2) are the CIFAR networks with option A
    shortcuts, a trailing b means option B, a leading pre the pre-activation twin, and cifar_resnet50 the
    CIFAR network where the table has an ImageNet one. wrn-28-10 is a wide network, plain_NAME any network
    without shortcuts. An unknown name is a UsageError.
    """
    if name in NAMED:
        return NAMED[name]
    if name.startswith("plain_"):
        return dataclasses.replace(architecture(name.removeprefix("plain_")), shortcut="none")
    if match := _CIFAR.fullmatch(name):
        pre, _, depth, projection = match.groups()
        if 8 <= int(depth) <= 9998 and int(depth) % 6 == 2:
            return _cifar(
                int(depth),
                order="pre" if pre else "post",
                shortcut="projection" if projection else "zero_pad",
            )
    if match := _WIDE.fullmatch(name):
        depth, width = map(int, match.groups())
        if 10 <= depth <= 9998 and depth % 6 == 4 and 1 <= width <= 1000:
            return _wide(depth, width)
    raise UsageError(
        f"there is no network named {name!r}",
        hint=f"{nearest(name, [*NAMED, 'resnet20', 'resnet56', 'wrn-16-4', 'preresnet20'])} "
        f"(also the families {FAMILIES})",
    )


def is_architecture(name: str) -> bool:
    """Whether a text is the name of a network."""
    try:
        architecture(name)
    except UsageError:
        return False
    return True


def architecture_name(spec: ResNetSpec) -> str | None:
    """The name of a network, whatever its classes, image channels and rates of dropping; None where it has none."""
    free = {
        field: getattr(spec, field) for field in ("num_classes", "in_channels", "dropout", "drop_path", "zero_gamma")
    }
    plain = "plain_" if spec.shortcut == "none" else ""
    for name in (plain + name for name in [*NAMED, *_family_names(spec)]):
        if dataclasses.replace(architecture(name), **free) == spec:
            return name
    return None


def summary(spec: ResNetSpec) -> str:
    """A network in a line: its name where it has one, and its parts."""
    name = architecture_name(spec)
    depths = "-".join(map(str, spec.depths))
    return (
        f"{f'{name}, ' if name else ''}{spec.stem} stem, {spec.block} blocks {depths}, widths "
        f"{'-'.join(map(str, spec.widths))}, {spec.shortcut} shortcuts, {spec.num_classes} classes"
    )


def _family_names(spec: ResNetSpec) -> list[str]:
    """The names in the families by depth that a network could have."""
    if spec.stem != "cifar" or len(spec.depths) != 3 or not 1 <= spec.depths[0] <= MAX_FAMILY_BLOCKS:
        return []
    depth = 6 * spec.depths[0] + 2
    cifar = f"{'cifar_' if f'resnet{depth}' in NAMED else ''}resnet{depth}"
    names = [cifar, f"{cifar}b", f"pre{cifar}", f"pre{cifar}b"]
    width = spec.widths[0] // 16
    return [*names, f"wrn-{depth + 2}-{width}"] if 1 <= width <= 1000 else names
