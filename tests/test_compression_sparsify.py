"""Single weights set to zero: which, and what of the model before is left out."""

import dataclasses

import torch
from small_models import small_model, small_spec

from resfit.compression.sparsify import sparsify
from resfit.model.encoding import Float
from resfit.model.model import Range


def test_gates_keep_their_weights() -> None:
    model = small_model(small_spec(se_ratio=0.5))
    sparse = sparsify(model, sparsity=0.6)
    gates = [name for name, tensor in model.weights.items() if ".se." in name and tensor.ndim > 1]
    assert gates
    assert all(torch.equal(sparse.weights[name], model.weights[name]) for name in gates)
    others = [tensor for name, tensor in sparse.weights.items() if tensor.ndim > 1 and name not in gates]
    zeros = sum(int((tensor == 0).sum()) for tensor in others)
    assert abs(zeros - 0.6 * sum(tensor.numel() for tensor in others)) <= 1


def test_what_spoke_of_the_weights_before_is_left_out() -> None:
    model = small_model(small_spec())
    told = dataclasses.replace(
        model, encodings={"fc.bias": Float(kind="bf16")}, activation_ranges={"input": Range(low=-1.0, high=1.0)}
    )
    sparse = sparsify(told, sparsity=0.5)
    assert not sparse.encodings
    assert not sparse.activation_ranges
