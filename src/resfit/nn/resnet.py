"""The residual network as a torch module, built operation by operation from its plan."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec


class Sin(nn.Module):
    """sin(x) element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of a stride, as a unit-stride one of every stride-th pixel: the same function.

    torch 2.13's own (oneDNN, float32, channels_last) writes outside its memory in the backward pass where the
    input channels are no multiple of 16.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, across = self.stride
        kept = x[:, :, ::down, ::across]
        return nn.functional.conv2d(kept, self.weight, self.bias, groups=self.groups)


class GlobalPool(nn.Module):
    """Mean over all pixels: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


class ZeroPad(nn.Module):
    """Option A shortcut: every stride-th pixel, zero channels before and after (He et al. 2015, 3.3)."""

    def __init__(self, stride: int, before: int, after: int):
        super().__init__()
        self.stride, self.before, self.after = stride, before, after

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(x, (0, 0, 0, 0, self.before, self.after))


class SqueezeExcite(nn.Module):
    """Channel gates from the pooled map (Hu et al. 2018); parameter names are timm's."""

    def __init__(self, channels: int, reduced: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gates)


class DropPath(nn.Module):
    """Stochastic depth: drops a sample's branch in training, keeping the expectation (Huang et al. 2016)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        kept = x.new_empty((len(x), 1, 1, 1)).bernoulli_(1 - self.rate)
        return x * kept / (1 - self.rate)


class Residual(nn.Module):
    """Where two paths meet: post(shortcut + drop_path(branch(pre(x))))."""

    def __init__(self, operation: layout.Residual):
        super().__init__()
        self.operation = operation
        for part in layout.children(operation):
            self.add_module(part.name, build_module(part))
        if operation.pre and isinstance(first := self.get_submodule(operation.pre[0].name), nn.ReLU):
            first.inplace = False  # without a norm before it, it would overwrite what the shortcut reads
        self.drop_path = DropPath(operation.drop_path)

    def forward(self, x: Tensor) -> Tensor:
        operation = self.operation
        y = self._run(operation.pre, x)
        branch = self._run(operation.branch, y)
        if operation.plain:
            return self._run(operation.post, branch)
        shortcut = y if operation.shortcut_reads_pre else x
        if operation.shortcut is not None:
            shortcut = self._run((operation.shortcut,), shortcut)
        return self._run(operation.post, shortcut + self.drop_path(branch))

    def _run(self, parts: Sequence[layout.Operation], x: Tensor) -> Tensor:
        for part in parts:
            x = self._modules[part.name](x)  # type: ignore[misc]
        return x


Taps = dict[str, Tensor]


class ResNet(nn.Module):
    """Any network a ResNetSpec describes: normalised images (N, in_channels, H, W) to logits (N, classes).

    The state dict has torchvision's names, and timm's where torchvision has none (deep stems, se).
    """

    def __init__(self, spec: ResNetSpec):
        super().__init__()
        self.spec = spec
        for operation in layout.plan(spec):
            self.add_module(operation.name, build_module(operation))
        self.reset_parameters()

    def forward(self, x: Tensor, taps: Taps | None = None) -> Tensor:
        """Logits; `taps`, if given, receives the output of each top-level part by name."""
        for name, part in self.named_children():
            if taps is not None and getattr(part, "inplace", False):
                x = x.clone()  # what has been given to the taps stays
            x = part(x)
            if taps is not None:
                taps[name] = x
        return x

    def reset_parameters(self) -> None:
        """He initialisation, fan out (He et al. 2015b); with zero_gamma each branch starts at zero."""
        if next(self.parameters()).is_meta:  # shapes alone: the weights come from elsewhere
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Residual) and module.operation.zero_gamma:
                last = [op for op in module.operation.branch if not isinstance(op, layout.SqueezeExcite)][-1]
                nn.init.zeros_(module.get_submodule(last.name).weight)  # type: ignore[arg-type]


def build_module(operation: layout.Operation) -> nn.Module:
    """The torch module of one operation of a plan."""
    return _BUILDERS[type(operation)](operation)


def _convolution(operation: layout.Convolution) -> nn.Module:
    pointwise = operation.kernel == 1 and operation.stride > 1
    return (StridedPointwise if pointwise else nn.Conv2d)(
        operation.in_channels,
        operation.out_channels,
        operation.kernel,
        operation.stride,
        operation.kernel // 2,
        groups=operation.groups,
        bias=operation.bias,
    )


def _norm(operation: layout.Norm) -> nn.Module:
    if operation.kind == "batch":
        return nn.BatchNorm2d(operation.channels)
    return nn.GroupNorm(operation.groups, operation.channels)


def _sequence(operation: layout.Sequence) -> nn.Module:
    module = nn.Sequential()
    for part in operation.operations:
        module.add_module(part.name, build_module(part))
    return module


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "sin": Sin,
    "identity": nn.Identity,
}

_BUILDERS: dict[type, Callable[[Any], nn.Module]] = {
    layout.Convolution: _convolution,
    layout.Norm: _norm,
    layout.Activation: lambda op: ACTIVATIONS[op.kind](),
    layout.MaxPool: lambda _: nn.MaxPool2d(3, stride=2, padding=1),
    layout.AveragePool: lambda op: nn.AvgPool2d(op.kernel, ceil_mode=True, count_include_pad=False),
    layout.ZeroPad: lambda op: ZeroPad(op.stride, op.before, op.after),
    layout.SqueezeExcite: lambda op: SqueezeExcite(op.channels, op.reduced),
    layout.Dropout: lambda op: nn.Dropout(op.rate),
    layout.GlobalPool: lambda _: GlobalPool(),
    layout.Linear: lambda op: nn.Linear(op.in_features, op.out_features),
    layout.Sequence: _sequence,
    layout.Residual: Residual,
}
