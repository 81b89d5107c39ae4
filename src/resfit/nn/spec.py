"""What a residual network is: a frozen description, without torch, that everything else is derived from."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, Self, final, get_args

from resfit.errors import UsageError, nearest

Block = Literal["basic", "bottleneck", "article"]
Order = Literal["post", "pre", "none"]
Shortcut = Literal["identity", "zero_pad", "projection", "projection_always", "avgpool", "none"]
Stem = Literal["imagenet", "deep", "tiered", "cifar"]
NormKind = Literal["batch", "batch_leading", "group", "none"]
ActivationKind = Literal[
    "relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardswish", "softplus", "tanh", "sigmoid", "sin", "identity",
]  # fmt: skip

BLOCK_CONVOLUTIONS = {"basic": 2, "bottleneck": 3, "article": 3}
BOTTLENECK_REDUCTION = 4
# A spec may come from a file of others: nothing in it is larger than could be meant.
MAX_BLOCKS = 10_000
MAX_COUNT = 2**20  # channels (also inner and padded ones), classes, groups, strides; the widest WRN has 64,000 channels
SHOWN = 200  # characters of a wrong value that an error repeats


@final
@dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """A residual network of the ResNet family; `dataclasses.replace` changes it, `plan` lays it out.

    Whole numbers are at most MAX_COUNT, and blocks MAX_BLOCKS; anything that cannot be is a UsageError.
    depths, widths, strides: a value a stage; a width is the channel count of the stage's sums.
    block: basic (He et al. 2015, fig. 5 left), bottleneck (right), article (1x1, 3x3, norm, 1x1).
    order: where the activation stands to the sum: post (He 2015), pre (He 2016), none (no activation after
        the sum, as the article prints it).
    mid_ratio: inner channels over the standard ones (a quarter of the width in a bottleneck, else the width);
        2.0 is wide_resnet50_2, and with 32 groups resnext50_32x4d.
    stride_in: which bottleneck convolution carries the stride: 1x1 (He 2015) or 3x3 (torchvision).
    stem: imagenet (7x7/2, max pool), deep (three 3x3, ResNet-D), tiered (deep, growing), cifar (3x3).
    shortcut: identity (shapes may not change), zero_pad (option A), projection (B), projection_always (C),
        avgpool (ResNet-D), none (the plain twin).
    norm: batch, group, none, or batch_leading: only those that lead a pre-activation, which cannot fold.
    drop_path: rate of the last block; earlier ones rise to it linearly (Huang et al. 2016). A plain network
        has neither this nor zero_gamma.
    zero_gamma: each branch starts at zero (Goyal et al. 2017).
    inner_widths: [stage][block][convolution] output channels of all but each branch's last convolution,
        once pruned.
    shortcut_pads: [stage] channels added (before, after) by a zero-pad shortcut, once pruned.
    stem_inner_widths: output channels of a deep or tiered stem's first two convolutions, once pruned.
    se_widths: [stage] hidden units of squeeze-and-excite, once pruned.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    block: Block = "basic"
    order: Order = "post"
    mid_ratio: float = 1.0
    groups: int = 1
    stride_in: Literal["1x1", "3x3"] = "3x3"
    stem: Stem = "imagenet"
    stem_width: int = 64
    shortcut: Shortcut = "projection"
    activation: ActivationKind = "relu"
    norm: NormKind = "batch"
    bias: bool = False
    se_ratio: float = 0.0
    drop_path: float = 0.0
    dropout: float = 0.0
    zero_gamma: bool = False
    num_classes: int = 1000
    in_channels: int = 3
    inner_widths: tuple[tuple[tuple[int, ...], ...], ...] | None = None
    shortcut_pads: tuple[tuple[int, int], ...] | None = None
    stem_inner_widths: tuple[int, ...] | None = None
    se_widths: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(kind):
                known = get_args(kind)
                raise UsageError(f"{name} is {value!r:.{SHOWN}}", hint=nearest(str(value)[:SHOWN], known))
        self._validate_counts()
        if not 0 < self.mid_ratio <= 64:
            raise UsageError(f"mid_ratio is {self.mid_ratio}, expected more than 0 and at most 64")
        for name in ("se_ratio", "drop_path", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least 0 and less than 1")
        self._validate_pruned()
        for stage in range(len(self.depths)):
            for block in range(self.depths[stage]):
                self._validate_block(stage, block)

    def _validate_counts(self) -> None:
        stages = len(self.depths)
        if not stages or len(self.widths) != stages or len(self.strides) != stages:
            given = f"depths {self.depths}, widths {self.widths}, strides {self.strides}"
            raise UsageError(f"{given:.{SHOWN}}: expected one a stage")
        for name in ("depths", "widths", "strides", "groups", "stem_width", "num_classes", "in_channels"):
            value = getattr(self, name)
            if not _counts(*(value if isinstance(value, tuple) else (value,)), least=1):
                raise UsageError(f"{name} is {value!r:.{SHOWN}}, expected whole numbers {_FROM_ONE}")
        if sum(self.depths) > MAX_BLOCKS:
            raise UsageError(f"depths {self.depths!s:.{SHOWN}} are more than {MAX_BLOCKS} blocks")
        if self.groups > 1 and self.block != "bottleneck":
            raise UsageError(f"groups is {self.groups}, and only a bottleneck block has groups")
        if self.block == "article" and self.order == "pre":
            raise UsageError("the article's block has no pre-activation form", hint="use order='post'")
        if self.stem in ("deep", "tiered") and self.stem_width < 4 and self.stem_inner_widths is None:
            raise UsageError(f"stem_width is {self.stem_width}, expected at least 4 for a {self.stem} stem")

    def _validate_pruned(self) -> None:
        if self.inner_widths is not None:
            shape = tuple(tuple(len(block) for block in stage) for stage in self.inner_widths)
            inner = BLOCK_CONVOLUTIONS[self.block] - 1
            if shape != tuple((inner,) * depth for depth in self.depths):
                depths = f"{self.depths!s:.{SHOWN}}"
                raise UsageError(f"inner_widths must give {inner} widths a block for depths {depths}")
        if self.shortcut_pads is not None and (
            len(self.shortcut_pads) != len(self.depths)
            or any(len(pair) != 2 or not _counts(*pair, least=0) for pair in self.shortcut_pads)
        ):
            raise UsageError(
                f"shortcut_pads is {self.shortcut_pads!s:.{SHOWN}}, expected (before, after) of at most {MAX_COUNT:,} "
                f"for each of {len(self.depths)} stages"
            )
        for name, count in (("stem_inner_widths", 2), ("se_widths", len(self.depths))):
            value = getattr(self, name)
            if value is not None and not (len(value) == count and _counts(*value, least=1)):
                raise UsageError(f"{name} is {value!s:.{SHOWN}}, expected {count} whole numbers {_FROM_ONE}")

    def _validate_block(self, stage: int, block: int) -> None:
        inner = self.inner(stage, block)
        if not _counts(*inner, least=1) or any(width % self.groups for width in inner):
            raise UsageError(
                f"stage {stage + 1} has inner widths {inner!s:.{SHOWN}}, expected multiples of groups {self.groups} "
                f"{_FROM_ONE}"
            )
        before, after = self.block_channels(stage, block)
        changes = before != after or self.block_stride(stage, block) != 1
        if self.shortcut == "identity" and changes:
            raise UsageError(
                f"an identity shortcut cannot go from {before} to {after} channels in stage {stage + 1}",
                hint="use shortcut='projection' or 'zero_pad'",
            )
        if self.shortcut == "zero_pad" and sum(self.pads(stage, block)) != after - before:
            raise UsageError(
                f"a zero-pad shortcut cannot go from {before} to {after} channels in stage {stage + 1}",
                hint="widths may not shrink, and shortcut_pads must add up to the difference",
            )

    def block_channels(self, stage: int, block: int) -> tuple[int, int]:
        """Channels (before, after) of a block."""
        if block:
            return self.widths[stage], self.widths[stage]
        return (self.widths[stage - 1] if stage else self.stem_width), self.widths[stage]

    def block_stride(self, stage: int, block: int) -> int:
        """A stage's first block carries its stride."""
        return 1 if block else self.strides[stage]

    def inner(self, stage: int, block: int) -> tuple[int, ...]:
        """Output channels of all but the last convolution of a branch."""
        if self.inner_widths is not None:
            return self.inner_widths[stage][block]
        standard = self.widths[stage] // (BOTTLENECK_REDUCTION if self.block == "bottleneck" else 1)
        return (round(standard * self.mid_ratio),) * (BLOCK_CONVOLUTIONS[self.block] - 1)

    def stem_inner(self) -> tuple[int, ...]:
        """Output channels of a deep or tiered stem's first two convolutions; none of the other stems."""
        if self.stem not in ("deep", "tiered"):
            return ()
        width = self.stem_width
        return self.stem_inner_widths or (width // 2 if self.stem == "deep" else 3 * width // 8, width // 2)

    def se_width(self, stage: int) -> int:
        """Hidden units of a stage's squeeze-and-excite: a multiple of 8 unless pruned."""
        if self.se_widths is not None:
            return self.se_widths[stage]
        return max(8, int(self.widths[stage] * self.se_ratio + 4) // 8 * 8)

    def pads(self, stage: int, block: int) -> tuple[int, int]:
        """Zero channels (before, after) that a zero-pad shortcut adds."""
        if block == 0 and self.shortcut_pads is not None:
            return self.shortcut_pads[stage]
        before, after = self.block_channels(stage, block)
        added = max(after - before, 0)
        return added // 2, added - added // 2

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The spec that `to_dict` wrote; an unknown or missing field is a UsageError."""
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise UsageError(f"unknown field {name!r:.{SHOWN}} of a ResNetSpec", hint=nearest(name[:SHOWN], fields))
        try:
            return cls(**{name: _tuples(value) for name, value in values.items()})
        except (TypeError, RecursionError) as error:
            raise UsageError(f"not a ResNetSpec: {error}") from error


_CHOICES = {
    "block": Block,
    "order": Order,
    "stride_in": Literal["1x1", "3x3"],
    "stem": Stem,
    "shortcut": Shortcut,
    "activation": ActivationKind,
    "norm": NormKind,
}


_FROM_ONE = f"of at least 1 and at most {MAX_COUNT:,}"


def _counts(*values: Any, least: int) -> bool:
    return all(type(value) is int and least <= value <= MAX_COUNT for value in values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
