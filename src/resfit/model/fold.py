"""Batch norms folded into the convolutions before them: the same answers from fewer operations."""

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from resfit.errors import ModelError
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.nn.spec import ResNetSpec

EPSILON = nn.BatchNorm2d(1).eps


def fold(model: Model) -> Model:
    """The same function without the batch norms that follow a convolution; every convolution has a bias.

    The norm is "none" afterwards, or "batch_leading" in a pre-activation network, whose leading norms stay.
    Running statistics are used, so the answers are those of evaluation mode (to rounding). A network without
    batch norms, or with group norms, is returned as it is. A model with encodings or activation ranges, which
    speak of the tensors before folding, is a ModelError.
    """
    spec = model.spec
    if spec.norm != "batch":
        return model
    if model.encodings or model.activation_ranges:
        raise ModelError("a model with encodings or activation ranges cannot be folded", hint="fold it first")
    folded, norms = _folded_spec(spec), folding_norms(spec)
    weights: dict[str, Tensor] = {}
    for name, operation in layout.walk(layout.plan(folded)):
        if isinstance(operation, layout.Convolution):
            weight, bias = _folded(model, name, norms.get(name))
            weights |= {f"{name}.weight": weight, f"{name}.bias": bias}
    gone = tuple(f"{norm}." for norm in norms.values())
    rest = {name: tensor for name, tensor in model.weights.items() if not name.startswith(gone)}
    return dataclasses.replace(model, spec=folded, weights={**rest, **weights})


def folding_scales(model: Model) -> dict[str, Tensor]:
    """What `fold` multiplies the weights of each output by, float64 (outputs,), for each convolution it folds into."""
    if model.spec.norm != "batch":
        return {}
    return {convolution: _scale(model, norm) for convolution, norm in folding_norms(model.spec).items()}


def folding_norms(spec: ResNetSpec) -> dict[str, str]:
    """By the name of each convolution, the batch norm that it takes in when a network of this spec is folded."""
    folded = layout.plan(_folded_spec(spec))
    kept = {name for name, operation in layout.walk(folded) if isinstance(operation, layout.Norm)}
    return {convolution: norm for convolution, norm in _followed(layout.plan(spec), "") if norm not in kept}


def unfold(model: Model, outputs: Mapping[str, tuple[Tensor, Tensor]]) -> Model:
    """The folded model with batch norms again, which leave its answers as they are: a network that can be trained on.

    outputs: means and variances, float64 (outputs,), of what each convolution that takes a norm gives. Its spec has
    biases beside norms, those of convolutions that have a norm are zero. Encodings are left out.
    """
    spec = dataclasses.replace(model.spec, norm="batch")
    weights = dict(model.weights)
    for convolution, norm in folding_norms(spec).items():
        mean, variance = outputs[convolution]
        bias = weights[f"{convolution}.bias"]
        weights[f"{convolution}.bias"] = torch.zeros_like(bias)
        parts = {
            "weight": torch.sqrt(variance + EPSILON), "bias": mean,
            "running_mean": mean - bias.double(), "running_var": variance,
        }  # fmt: skip
        weights |= {f"{norm}.{part}": value.to(bias.dtype) for part, value in parts.items()}
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return dataclasses.replace(model, spec=spec, weights=weights, encodings={}, activation_ranges={})


def can_be_unfolded(spec: ResNetSpec) -> bool:
    """Whether `unfold` can put batch norms into a network of this spec: there are none, and every one has its place."""
    return spec.norm in ("none", "batch_leading") and spec.bias


def normed_convolutions(spec: ResNetSpec) -> tuple[str, ...]:
    """The convolutions that take a norm when a network of this spec, with batch norms, is folded."""
    return tuple(folding_norms(dataclasses.replace(spec, norm="batch")))


def _folded_spec(spec: ResNetSpec) -> ResNetSpec:
    return dataclasses.replace(spec, norm="batch_leading" if spec.order == "pre" else "none", bias=True)


def _scale(model: Model, norm: str) -> Tensor:
    gamma, variance = (model.weights[f"{norm}.{part}"].double() for part in ("weight", "running_var"))
    return gamma / torch.sqrt(variance + EPSILON)


def _followed(operations: tuple[layout.Operation, ...], prefix: str) -> Iterator[tuple[str, str]]:
    """Pairs of a convolution and the norm that directly follows it."""
    previous: str | None = None
    for operation in operations:
        name = prefix + operation.name
        if isinstance(operation, layout.Norm) and previous is not None:
            yield previous, name
        previous = _last_convolution(operation, name)
        yield from _followed(layout.children(operation), name + ".")


def _last_convolution(operation: layout.Operation, name: str) -> str | None:
    """The convolution whose output an operation gives, if it does: itself, or the last of a sequence."""
    if isinstance(operation, layout.Convolution):
        return name
    if isinstance(operation, layout.Sequence):
        last = operation.operations[-1]
        return _last_convolution(last, f"{name}.{last.name}")
    return None


def _folded(model: Model, convolution: str, norm: str | None) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the norm in it, computed in double precision."""
    kernel = model.weights[f"{convolution}.weight"]
    weight = kernel.double()
    zeros = torch.zeros(len(weight), dtype=torch.float64)
    bias = model.weights.get(f"{convolution}.bias", zeros).double()
    if norm is not None:
        beta, mean = (model.weights[f"{norm}.{part}"].double() for part in ("bias", "running_mean"))
        scale = _scale(model, norm)
        weight = weight * scale.reshape(-1, 1, 1, 1)
        bias = beta + (bias - mean) * scale
    return weight.to(kernel.dtype), bias.to(kernel.dtype)
