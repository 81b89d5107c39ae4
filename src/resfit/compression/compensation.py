"""Channels removed, and what they contributed taken over by those that stay: least squares, a layer at a time.

Each layer that reads removed channels is fitted anew, so that from what is left it gives what it gave before; at the
end of a branch also what the shortcut beside it lacks, as where an earlier block is gone (after He, Zhang and Sun 2017,
"Channel pruning", who fit the layer behind). Nothing is trained: it is a closed form of a few images' activations.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from resfit.compression.correction import DAMPING, best_bias, best_weights, damped_covariance
from resfit.compression.couplings import Wire, wires
from resfit.compression.moments import channel_statistics, moments_of
from resfit.compression.removal import Kept, kept_after, pruned_spec, remove
from resfit.compression.side_by_side import Meeting, carry, few_images
from resfit.data.images import Images
from resfit.model.fold import EPSILON, fold, folding_norms, folding_scales
from resfit.model.model import Model
from resfit.nn import plan as layout
from resfit.randomness import rng

LEAST_SCALE = 1e-3  # of a norm's mean: what a norm hides is not made visible by a weight a thousand times as large


def remove_compensated(model: Model, removed: Mapping[str, Collection[int]], images: Images, *, seed: int = 0) -> Model:
    """`removal.remove`, with the layers that stay fitted to what they gave before.

    removed: as of `remove`. images: uint8 (N, height, width, channels) from training, of which up to 1,024 are drawn.
    Batch norms' statistics are those of these images in the smaller network, with scales and shifts that leave its
    answers as they are; group norms are fitted in their old groups, which makes less good. The input is unchanged; same
    input, same result. UsageError as from `remove`.
    """
    pruned_spec(model.spec, kept_after(model.spec, removed))  # refused before anything is measured
    few = few_images(model, images, seed=seed)
    bare = dataclasses.replace(model, encodings={}, activation_ranges={})
    folded = fold(bare)
    fitting = _Fitting(folded, kept_after(folded.spec, removed), biased=_biased(bare), seed=seed)
    carry(folded, fitting.without_removed, few, fitting)
    fitted = dataclasses.replace(bare, weights={**bare.weights, **_behind_norms(bare, fitting.fitted)})
    return with_own_statistics(remove(fitted, removed), few)


class _Fitting:
    """Makes the layers of a copy of the folded network's shape, in which removed channels are silent."""

    def __init__(self, model: Model, kept: Kept, *, biased: Collection[str], seed: int):
        self.model, self.kept, self.biased, self.seed = model, kept, biased, seed
        self.wires = wires(model.spec)
        self.fitted: dict[str, Tensor] = {}
        self.something_gone = False  # until then the copy is the original, and nothing is to be fitted
        self.without_removed = dict(self._silenced())

    def __call__(self, meeting: Meeting) -> tuple[Tensor, Tensor | None]:
        name = meeting.name
        weight = self.without_removed[f"{name}.weight"].clone()
        bias = self.without_removed[f"{name}.bias"].clone() if name in self.biased else None
        reads, _ = _staying(self.kept, self.wires[name])
        self.something_gone |= self.kept.renamed(name) is None or not reads.all()
        if self.something_gone and self.kept.renamed(name) is not None:
            self._fit(meeting, weight, bias)
            self.fitted |= {f"{name}.weight": weight, **({} if bias is None else {f"{name}.bias": bias})}
        return weight, bias

    def _fit(self, meeting: Meeting, weight: Tensor, bias: Tensor | None) -> None:
        """Writes the rows that stay, of the columns that stay; a group of a grouped convolution is a layer of its own.

        All others of the weight must become zero: the columns are those of silent channels.
        """
        reads, writes = _staying(self.kept, self.wires[meeting.name])
        every = moments_of(meeting, rng(self.seed, f"fit of {meeting.name}"))
        area = weight[0].numel() // weight.shape[1]
        rows, present = len(weight) // len(every), weight.flatten(1).double().numpy()
        for group, (moments, stays) in enumerate(zip(every, np.split(reads, len(every)), strict=True)):
            outputs = np.flatnonzero(writes[group * rows : (group + 1) * rows])
            inputs = np.flatnonzero(np.repeat(stays, area))
            part = (moments if bias is not None else moments.without_constant()).part(outputs, inputs)
            damping = max(DAMPING, len(inputs) / part.samples)  # fewer samples tell inputs apart less
            covariance = damped_covariance(part, damping=damping)
            best = best_weights(present[group * rows + outputs][:, inputs], part, covariance)
            fitted = np.zeros((len(outputs), weight[0].numel()))
            fitted[:, inputs] = best
            weight[group * rows + outputs] = torch.from_numpy(fitted).to(weight.dtype).reshape(-1, *weight.shape[1:])
            if bias is not None:
                bias[group * rows + outputs] = torch.from_numpy(best_bias(best, part)).to(bias.dtype)

    def _silenced(self) -> Iterator[tuple[str, Tensor]]:
        """What writes channels, with zeros for those that are removed or inside of a block that is."""
        for name, wire in self.wires.items():
            if not isinstance(wire.operation, layout.Convolution | layout.Linear | layout.Norm):
                continue
            _, stay = _staying(self.kept, wire)
            gone = torch.from_numpy(~stay if self.kept.renamed(name) is not None else np.ones_like(stay))
            for key in (f"{name}.weight", f"{name}.bias"):
                if key in self.model.weights:
                    tensor = self.model.weights[key].clone()
                    tensor[gone] = 0
                    yield key, tensor


def _biased(model: Model) -> set[str]:
    """The layers that can add a constant: by their own bias, or by the batch norm behind them."""
    own = {name.removesuffix(".bias") for name in model.weights if name.endswith(".bias")}
    return own | set(folding_scales(model))


def _staying(kept: Kept, wire: Wire) -> tuple[np.ndarray, np.ndarray]:
    """Which of the channels read and written stay, bool (reads,) and (writes,)."""
    reads, writes = np.zeros(len(wire.reads), dtype=bool), np.zeros(len(wire.writes), dtype=bool)
    reads[kept.positions(wire.reads)] = True
    writes[kept.positions(wire.writes)] = True
    return reads, writes


def _behind_norms(model: Model, fitted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The fitted weights of the folded network, as they stand before the model's batch norms."""
    weights = dict(fitted)
    for convolution, scale in folding_scales(model).items():
        weight, bias, norm = f"{convolution}.weight", f"{convolution}.bias", folding_norms(model.spec)[convolution]
        if weight not in fitted:
            continue
        mean, variance = (model.weights[f"{norm}.running_{part}"].double() for part in ("mean", "var"))
        usual = scale.abs().mean() if scale.any() else torch.tensor(1.0, dtype=scale.dtype)
        scale = torch.where(scale.abs() < LEAST_SCALE * usual, usual, scale)
        shift = weights.pop(bias).double() + mean * scale
        if model.spec.bias:
            weights[bias] = torch.zeros_like(model.weights[bias])
        weights[weight] = (fitted[weight].double() / scale.reshape(-1, 1, 1, 1)).to(fitted[weight].dtype)
        weights[f"{norm}.weight"] = (scale * torch.sqrt(variance + EPSILON)).to(fitted[weight].dtype)
        weights[f"{norm}.bias"] = shift.to(fitted[weight].dtype)
    return weights


def with_own_statistics(model: Model, images: Images) -> Model:
    """The same function with the means and variances that its batch norms meet on these images, all looked at once.

    images: uint8 (N, height, width, channels). Scales and shifts make good what changes. In training, where a norm
    takes those of its batch, the network then begins as the function that it is.
    """
    operations = layout.walk(layout.plan(model.spec))
    norms = [name for name, part in operations if isinstance(part, layout.Norm) and part.kind == "batch"]
    weights = dict(model.weights)
    for name, (now, spread) in channel_statistics(model, images, norms, of="inputs").items():
        keys = {part: f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
        scale, shift, mean, variance = (weights[key].double() for key in keys.values())
        scale = scale / torch.sqrt(variance + EPSILON)
        values = (scale * torch.sqrt(spread + EPSILON), shift + scale * (now - mean), now, spread)
        weights |= {key: value.to(weights[key].dtype) for key, value in zip(keys.values(), values, strict=True)}
    return dataclasses.replace(model, weights=weights)
