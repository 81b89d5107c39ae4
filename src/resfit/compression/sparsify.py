"""Unstructured pruning: single weights set to zero and held there. Smaller once coded, and not faster."""

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from resfit.engines.quantisation import quantised_layers
from resfit.errors import UsageError
from resfit.model.model import Model
from resfit.training.weight_rules import Project, Weights


def sparsify(model: Model, *, sparsity: float) -> Model:
    """The model with so large a share (0 to 1) of the weights of convolutions and the classifier at zero.

    Across layers those go first that are smallest beside what their layer would have left (layer-adaptive magnitude,
    Lee et al. 2021), so that no layer is emptied. `keep_zeros` holds them at zero while the model is trained on.
    Gates of squeeze-and-excite keep theirs. Encodings and activation ranges, which speak of the weights before, are
    left out. UsageError for another share.
    """
    if not 0 <= sparsity < 1:
        raise UsageError(f"sparsity is {sparsity}, expected at least 0 and less than 1")
    names = [f"{name}.weight" for name in quantised_layers(model.spec)]
    scores = {name: _beside_the_rest(model.weights[name]) for name in names}
    together = torch.cat([score.flatten() for score in scores.values()])
    removed = torch.zeros(len(together), dtype=torch.bool)
    removed[torch.argsort(together, stable=True)[: round(sparsity * len(together))]] = True
    weights = dict(model.weights)
    for name, gone in zip(names, removed.split([scores[name].numel() for name in names]), strict=True):
        weights[name] = weights[name].masked_fill(gone.reshape(weights[name].shape), 0.0)
    note = f"{sparsity:.0%} of the weights of convolutions and the classifier are zero"
    provenance = dataclasses.replace(model.provenance, notes=(*model.provenance.notes, note))
    return dataclasses.replace(model, weights=weights, encodings={}, activation_ranges={}, provenance=provenance)


def keep_zeros(model: Model) -> Project:
    """A projection, for fine_tune, that holds every weight that is zero in the model at zero."""
    zeros: Mapping[str, Tensor] = {
        name: tensor == 0 for name, tensor in model.weights.items() if tensor.ndim > 1 and bool((tensor == 0).any())
    }

    def project(weights: Weights) -> None:
        for name, places in zeros.items():
            weights[name].masked_fill_(places, 0.0)

    return project


def _beside_the_rest(weight: Tensor) -> Tensor:
    """Each weight's square over the sum of those of its layer that are at least as large."""
    squares = weight.detach().double().square().flatten()
    order = torch.argsort(squares, stable=True)
    rest = squares[order].flip(0).cumsum(0).flip(0)
    scores = torch.zeros_like(squares)
    scores[order] = squares[order] / rest.clamp_min(torch.finfo(torch.float64).tiny)
    return scores
