"""Structured pruning: a network of fewer channels and blocks that costs a given number of times less to run."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from resfit.compression.allocation import chosen
from resfit.compression.compensation import remove_compensated
from resfit.compression.fine_tune import fine_tune
from resfit.compression.importance import Importance, importance
from resfit.compression.sparsify import keep_zeros, sparsify
from resfit.data.dataset import Splits
from resfit.data.images import Images
from resfit.errors import UsageError
from resfit.measure.macs import macs
from resfit.model.model import Model, weights_sha256
from resfit.model.run_folder import is_run, load_run, save
from resfit.training.events import Subscriber

START = "pruned"  # subfolder of a training's folder


def prune(
    model: Model,
    images: Images,
    *,
    speedup: float,
    kind: Importance = "taylor",
    multiple: int = 8,
    seed: int = 0,
) -> Model:
    """The model with so many times fewer multiply-accumulates, by removing what its answers depend on least.

    images: uint8 (N, height, width, channels) from training, on which importance is measured and what stays is fitted;
        labels are not looked at.
    multiple: widths go down to multiples of it, which hardware likes; a block whose width would reach zero goes whole.
    Nothing is trained, and answers are worse until it is (see prune_to): see `compensation` for what is made good.
    The input is unchanged; same input, same result. UsageError for a speedup that is not above 1; BudgetNotMet, with
    the most there is to gain, where the network cannot be that small.
    """
    if not speedup > 1 or not np.isfinite(speedup):
        raise UsageError(f"speedup is {speedup:g}, expected more than 1")
    if multiple < 1:
        raise UsageError(f"multiple is {multiple}, expected at least 1")
    size = model.preprocessing
    scores = importance(model, images, kind=kind, seed=seed)
    removed = chosen(model.spec, scores, height=size.height, width=size.width, speedup=speedup, multiple=multiple)
    smaller = remove_compensated(model, removed, images, seed=seed)
    before, after = (macs(spec, size.height, size.width) for spec in (model.spec, smaller.spec))
    note = f"pruned by {kind} (seed {seed}) from {before:,} to {after:,} multiply-accumulates, the rest fitted"
    notes = (*model.provenance.notes, note)
    return dataclasses.replace(smaller, provenance=dataclasses.replace(model.provenance, notes=notes))


def prune_to(
    model: Model,
    splits: Splits,
    *,
    speedup: float | None = None,
    sparsity: float | None = None,
    epochs: int,
    kind: Importance = "taylor",
    multiple: int = 8,
    seed: int = 0,
    threads: int | None = None,
    folder: Path | None = None,
    on_event: Subscriber | None = None,
) -> Model:
    """The model pruned and trained on for so many epochs, taught by the model it was.

    speedup: by removing channels; sparsity: then by setting single weights to zero, which stay so; None is not.
    Only training images are looked at, and validation images measured. See `pruned_start`, `sparsify`, `fine_tune`.
    """
    smaller = model
    if speedup is not None:
        smaller = pruned_start(
            model,
            splits.train.images,
            speedup=speedup,
            kind=kind,
            multiple=multiple,
            seed=seed,
            folder=folder,
        )
    if sparsity is not None:
        smaller = sparsify(smaller, sparsity=sparsity)
    return fine_tune(
        smaller,
        splits,
        epochs=epochs,
        teacher=model,
        seed=seed,
        threads=threads,
        folder=folder,
        project=None if sparsity is None else keep_zeros(smaller),
        on_event=on_event,
    )


def pruned_start(
    model: Model,
    images: Images,
    *,
    speedup: float,
    kind: Importance = "taylor",
    multiple: int = 8,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = True,
) -> Model:
    """What `prune` gives, kept in the folder's subfolder "pruned": with `resume` it is read from there.

    So a training that goes on does so with the very network it began with, whatever the number of threads now.
    UsageError where the folder holds the pruning of another network, or by other values.
    """
    network = {"weights_sha256": weights_sha256(model), "spec": model.spec.to_dict()}
    values = {"speedup": speedup, "importance": kind, "multiple": multiple, "seed": seed, "fitted": True}
    request = json.loads(json.dumps({**values, **network}))
    kept = None if folder is None else folder / START
    if kept is not None and resume and is_run(kept):
        smaller = load_run(kept)
        if smaller.provenance.recipe != request:
            raise UsageError(f"{kept} holds another pruning", hint="choose another folder")
        return smaller
    smaller = prune(model, images, speedup=speedup, kind=kind, multiple=multiple, seed=seed)
    smaller = dataclasses.replace(smaller, provenance=dataclasses.replace(smaller.provenance, recipe=request))
    if kept is not None:
        save(smaller, kept)
    return smaller
