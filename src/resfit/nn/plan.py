"""The layout of a network: a tuple of operations, without torch.

The module, the ONNX graph, the MAC count and the couplings for pruning are all derived from it. An
operation's name is its module's; names are torchvision's, and timm's where torchvision has none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from resfit.nn.spec import ActivationKind, ResNetSpec

GROUP_CHANNELS = 16  # at least so many channels a group: Wu and He 2018, table 3


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A 2-d convolution with padding kernel // 2."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Batch normalisation over channels, or group normalisation over `groups` of them."""

    name: str
    kind: Literal["batch", "group"]
    channels: int
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Activation:
    """An activation function by name."""

    name: str
    kind: ActivationKind


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """3x3 max pooling of stride 2."""

    name: str


@dataclass(frozen=True, kw_only=True)
class AveragePool:
    """Average pooling that keeps a partial last window (ResNet-D shortcut)."""

    name: str
    kernel: int


@dataclass(frozen=True, kw_only=True)
class ZeroPad:
    """Option A: every stride-th pixel of its channels, with zero channels before and after."""

    name: str
    channels: int
    stride: int
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite:
    """Channel gates from the pooled map (Hu et al. 2018)."""

    name: str
    channels: int
    reduced: int


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Element dropout, in training only."""

    name: str
    rate: float


@dataclass(frozen=True, kw_only=True)
class GlobalPool:
    """Mean over all pixels: (N, C, H, W) to (N, C)."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Linear:
    """The classifier."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Operations one after another under one name."""

    name: str
    operations: tuple["Operation", ...]


@dataclass(frozen=True, kw_only=True)
class Residual:
    """post(shortcut + drop_path(branch(pre(x)))); a parametric shortcut reads pre(x), a free one x.

    shortcut: None for the identity. plain: nothing is added, post(branch(pre(x))).
    """

    name: str
    pre: tuple["Operation", ...]
    branch: tuple["Operation", ...]
    shortcut: Sequence | ZeroPad | None
    plain: bool
    post: tuple["Operation", ...]
    drop_path: float
    zero_gamma: bool

    @property
    def shortcut_reads_pre(self) -> bool:
        """Whether the shortcut takes the pre-activated input (He et al. 2016, section 4.1)."""
        return isinstance(self.shortcut, Sequence)


Operation = (
    Convolution | Norm | Activation | MaxPool | AveragePool | ZeroPad | SqueezeExcite | Dropout | GlobalPool
    | Linear | Sequence | Residual
)  # fmt: skip


def plan(spec: ResNetSpec) -> tuple[Operation, ...]:
    """The operations of a network in order: stem, layer1.., (norm, act), avgpool, fc."""
    total = sum(spec.depths)
    done = 0
    stages = []
    for stage, depth in enumerate(spec.depths):
        blocks = []
        for block in range(depth):
            rate = spec.drop_path * done / max(total - 1, 1)
            blocks.append(_residual(spec, stage, block, rate))
            done += 1
        stages.append(Sequence(name=f"layer{stage + 1}", operations=tuple(blocks)))
    head: list[Operation] = []
    if spec.order == "pre":
        head += _norm(spec, "norm", spec.widths[-1], leading=True)
        head += [Activation(name="act", kind=spec.activation)]
    head += [GlobalPool(name="avgpool")]
    head += [Linear(name="fc", in_features=spec.widths[-1], out_features=spec.num_classes)]
    return (*_stem(spec), *stages, *head)


def walk(operations: tuple[Operation, ...], prefix: str = "") -> Iterator[tuple[str, Operation]]:
    """Every operation with its full dotted name, containers before what they contain."""
    for operation in operations:
        name = prefix + operation.name
        yield name, operation
        yield from walk(children(operation), name + ".")


def children(operation: Operation) -> tuple[Operation, ...]:
    """The operations inside a container, in state-dict order: branch before shortcut."""
    if isinstance(operation, Sequence):
        return operation.operations
    if isinstance(operation, Residual):
        shortcut = (operation.shortcut,) if operation.shortcut is not None else ()
        return (*operation.pre, *operation.branch, *shortcut, *operation.post)
    return ()


def _norm(spec: ResNetSpec, name: str, channels: int, *, leading: bool = False) -> list[Operation]:
    if spec.norm == "none" or (spec.norm == "batch_leading" and not leading):
        return []
    if spec.norm == "group":
        return [Norm(name=name, kind="group", channels=channels, groups=_groups(channels))]
    return [Norm(name=name, kind="batch", channels=channels)]


def _groups(channels: int) -> int:
    """The most groups of equal size that hold at least GROUP_CHANNELS channels each, or one."""
    divisors = [size for size in range(1, math.isqrt(channels) + 1) if channels % size == 0]
    sizes = [*divisors, *(channels // size for size in divisors)]
    return channels // min(size for size in sizes if size >= min(GROUP_CHANNELS, channels))


def _stem(spec: ResNetSpec) -> list[Operation]:
    width = spec.stem_width
    if spec.stem in ("deep", "tiered"):
        first, second = spec.stem_inner()
        convolution: Operation = Sequence(
            name="conv1",
            operations=(
                Convolution(name="0", in_channels=spec.in_channels, out_channels=first, kernel=3, stride=2,
                            bias=spec.bias),
                *_norm(spec, "1", first),
                Activation(name="2", kind=spec.activation),
                Convolution(name="3", in_channels=first, out_channels=second, kernel=3, bias=spec.bias),
                *_norm(spec, "4", second),
                Activation(name="5", kind=spec.activation),
                Convolution(name="6", in_channels=second, out_channels=width, kernel=3, bias=spec.bias),
            ),
        )  # fmt: skip
    else:
        kernel, stride = (3, 1) if spec.stem == "cifar" else (7, 2)
        convolution = Convolution(
            name="conv1", in_channels=spec.in_channels, out_channels=width, kernel=kernel, stride=stride,
            bias=spec.bias,
        )  # fmt: skip
    operations = [convolution]
    if spec.order != "pre":
        operations += [*_norm(spec, "bn1", width), Activation(name="act1", kind=spec.activation)]
    if spec.stem != "cifar":
        operations.append(MaxPool(name="maxpool"))
    return operations


def _residual(spec: ResNetSpec, stage: int, block: int, drop_path: float) -> Residual:
    branch = _branch(spec, stage, block)
    pre: list[Operation] = []
    post: list[Operation] = []
    plain = spec.shortcut == "none"  # without a sum, dropping or zeroing the branch would cut the network
    if spec.order == "pre":
        before, _ = spec.block_channels(stage, block)
        pre = [
            *_norm(spec, "bn1", before, leading=True),
            Activation(name="act1", kind=spec.activation),
        ]
    elif spec.order == "post":
        post = [Activation(name="act", kind=spec.activation)]
    return Residual(
        name=str(block),
        pre=tuple(pre),
        branch=tuple(branch),
        shortcut=_shortcut(spec, stage, block),
        plain=plain,
        post=tuple(post),
        drop_path=0.0 if plain else drop_path,
        zero_gamma=spec.zero_gamma and not plain,
    )


def _convolutions(spec: ResNetSpec, stage: int, block: int) -> list[Convolution]:
    before, after = spec.block_channels(stage, block)
    stride = spec.block_stride(stage, block)
    widths = (before, *spec.inner(stage, block), after)
    kernels = {"basic": (3, 3), "bottleneck": (1, 3, 1), "article": (1, 3, 1)}[spec.block]
    strided = {"basic": 0, "bottleneck": 0 if spec.stride_in == "1x1" else 1, "article": 1}[spec.block]
    return [
        Convolution(
            name=f"conv{index + 1}",
            in_channels=widths[index],
            out_channels=widths[index + 1],
            kernel=kernel,
            stride=stride if index == strided else 1,
            groups=spec.groups if spec.block == "bottleneck" and kernel == 3 else 1,
            bias=spec.bias,
        )
        for index, kernel in enumerate(kernels)
    ]


def _branch(spec: ResNetSpec, stage: int, block: int) -> list[Operation]:
    convolutions = _convolutions(spec, stage, block)
    last = len(convolutions) - 1
    operations: list[Operation] = []
    for index, convolution in enumerate(convolutions):
        number = index + 1
        if spec.order == "pre" and index:
            operations += _between(spec, number, convolution.in_channels)
        if index == last and spec.dropout:
            operations.append(Dropout(name="dropout", rate=spec.dropout))
        operations.append(convolution)
        if spec.order == "pre":
            continue
        if spec.block == "article":  # step 3 is the only norm, and the text names no activation
            operations += _norm(spec, "bn2", convolution.out_channels) if index == 1 else []
        elif index < last:
            operations += _between(spec, number, convolution.out_channels)
        else:
            operations += _norm(spec, f"bn{number}", convolution.out_channels)
    if spec.se_ratio:
        channels = convolutions[-1].out_channels
        operations.append(SqueezeExcite(name="se", channels=channels, reduced=spec.se_width(stage)))
    return operations


def _between(spec: ResNetSpec, number: int, channels: int) -> list[Operation]:
    return [*_norm(spec, f"bn{number}", channels), Activation(name=f"act{number}", kind=spec.activation)]


def _shortcut(spec: ResNetSpec, stage: int, block: int) -> Sequence | ZeroPad | None:
    before, after = spec.block_channels(stage, block)
    stride = spec.block_stride(stage, block)
    changes = before != after or stride != 1
    if spec.shortcut == "none" or not (changes or spec.shortcut == "projection_always"):
        return None
    if spec.shortcut == "zero_pad":
        pads = spec.pads(stage, block)
        return ZeroPad(name="downsample", channels=before, stride=stride, before=pads[0], after=pads[1])
    pooled = spec.shortcut == "avgpool"
    first = int(pooled)  # timm's numbering, where the pool is 0 and an identity holds its place at stride 1
    operations: list[Operation] = [AveragePool(name="0", kernel=stride)] if pooled and stride > 1 else []
    operations.append(
        Convolution(
            name=str(first), in_channels=before, out_channels=after, kernel=1,
            stride=1 if pooled else stride, bias=spec.bias,
        )
    )  # fmt: skip
    if spec.order != "pre":
        operations += _norm(spec, str(first + 1), after)
    return Sequence(name="downsample", operations=tuple(operations))
