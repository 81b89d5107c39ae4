"""Training on: from the given weights, taught by the original, resumable, and the same for the same seed."""

import dataclasses
import errno
import os
import signal

import pytest
import torch
from small_trainings import RECIPE, SPEC

from resfit.compression.fine_tune import BY_GRADIENT, FINE_TUNING, fine_tune, recipe_for
from resfit.compression.prune import prune, prune_to, pruned_start
from resfit.compression.sparsify import keep_zeros, sparsify
from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.labels import LabelMismatch, match_splits
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.measure.macs import macs
from resfit.model.fold import fold
from resfit.model.model import weights_sha256
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.training.checkpoint import CheckpointLost
from resfit.training.events import StepDone
from resfit.training.loop import train
from resfit.training.surroundings import Interrupted, TrainingDiverged

FAST = dataclasses.replace(FINE_TUNING, precision="fp32", memory_format="channels_last", compile="eager", batch_size=64)


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def original(digits):
    recipe = dataclasses.replace(RECIPE, epochs=6, flip=False)
    return train(dataclasses.replace(SPEC, dropout=0.0, drop_path=0.0), digits, recipe).model


@pytest.fixture(scope="module")
def smaller(original, digits):
    return prune(original, digits.train.images[:256], speedup=2.0, multiple=4)


def _accuracy(model, splits):
    from resfit.metrics.classification import accuracy
    from resfit.training.step import InputLayer, network_logits

    layer = InputLayer(splits.preprocessing, "contiguous")
    return accuracy(network_logits(model.module(), splits.validation, layer), splits.validation.targets)


def test_what_pruning_cost_comes_back(original, smaller, digits):
    tuned = fine_tune(smaller, digits, epochs=3, teacher=original, threads=1, recipe=FAST)
    assert tuned.spec == smaller.spec
    assert _accuracy(tuned, digits) > _accuracy(smaller, digits) + 0.02
    assert "trained on for 3 epochs (seed 0), 90% of the loss" in tuned.provenance.notes[-1]
    assert tuned.provenance.notes[:-1] == smaller.provenance.notes
    assert tuned.provenance.source == original.provenance.source


def test_the_teacher_the_seed_and_the_recipe_each_matter(original, smaller, digits):
    def sha(**options):
        return weights_sha256(
            fine_tune(smaller, digits, **{"epochs": 1, "teacher": original, "threads": 1, "recipe": FAST, **options})
        )

    plain = sha()
    assert sha() == plain
    lower = dataclasses.replace(FAST, lr=0.01)
    assert len({plain, sha(teacher=None), sha(seed=1), sha(recipe=lower), sha(epochs=2)}) == 5


def test_a_pruned_network_s_teacher_sees_both_sides_where_images_are_mirrored():
    shape = {"num_images": 640, "height": 32, "width": 32}
    assert recipe_for(SPEC).resolved(**shape, channels=3).distill_mirrored
    assert not recipe_for(SPEC).resolved(**shape, channels=1).distill_mirrored
    assert not recipe_for(SPEC, held=True).resolved(**shape, channels=3).distill_mirrored
    assert not dataclasses.replace(recipe_for(SPEC), flip=False).resolved(**shape, channels=3).distill_mirrored


def test_hints_are_where_networks_are_alike(original, smaller, digits):
    hinting = dataclasses.replace(FAST, hint_weight=8.0)

    def hint_weight(model, **options):
        tuned = fine_tune(model, digits, epochs=1, threads=1, recipe=hinting, **{"teacher": original, **options})
        return tuned.provenance.recipe["hint_weight"]

    assert hint_weight(smaller) == 8.0
    assert hint_weight(smaller, teacher=None) == 0
    wide = dataclasses.replace(original.spec, widths=tuple(2 * width for width in original.spec.widths))
    other = dataclasses.replace(original, spec=wide, weights=ResNet(wide).state_dict())
    assert hint_weight(smaller, teacher=other) == 0


def test_it_goes_on_where_it_was_stopped(original, smaller, digits, tmp_path):
    options = {"epochs": 2, "teacher": original, "threads": 1, "recipe": FAST}
    expected = fine_tune(smaller, digits, **options)

    class Stopped(Exception):
        pass

    def stop(event):
        if isinstance(event, StepDone) and event.step == 25:
            raise Stopped

    with pytest.raises(Stopped):
        fine_tune(smaller, digits, **options, folder=tmp_path, on_event=stop)
    steps = []
    events = fine_tune(
        smaller, digits, **options, folder=tmp_path,
        on_event=lambda event: steps.append(event.step) if isinstance(event, StepDone) else None,
    )  # fmt: skip
    assert weights_sha256(events) == weights_sha256(expected)
    assert steps[0] > 1
    steps.clear()
    again = fine_tune(smaller, digits, **options, folder=tmp_path, on_event=lambda event: steps.append(event))
    assert weights_sha256(again) == weights_sha256(expected)
    assert not any(isinstance(event, StepDone) for event in steps)
    with pytest.raises(UsageError, match="earlier training"):
        fine_tune(smaller, digits, **options, folder=tmp_path, resume=False)
    with pytest.raises(UsageError, match="another network"):
        fine_tune(original, digits, **options, folder=tmp_path)


def test_weights_that_are_held_and_networks_without_norms_learn_by_gradients_at_lower_rates():
    assert recipe_for(architecture("resnet32")) == recipe_for(architecture("resnet18")) == FINE_TUNING
    assert recipe_for(architecture("resnet32"), held=True) == BY_GRADIENT
    assert recipe_for(architecture("resnet50"), held=True) == recipe_for(architecture("resnet18"), held=True)
    assert recipe_for(architecture("resnet18"), held=True).lr == pytest.approx(BY_GRADIENT.lr / 8)
    folded = recipe_for(dataclasses.replace(architecture("resnet32"), norm="none", bias=True))
    assert folded.optimizer == "sgd"
    assert folded.lr < 0.2 * BY_GRADIENT.lr
    assert folded.clip_norm is not None


def test_what_is_held_to_zeros_learns_by_gradients(original, digits):
    tuned = prune_to(original, digits, sparsity=0.5, epochs=1, threads=1)
    assert tuned.provenance.recipe["optimizer"] == "sgd"
    free = prune_to(original, digits, speedup=1.5, epochs=1, threads=1, multiple=4)
    assert free.provenance.recipe["optimizer"] == "muon"


def test_a_folded_network_can_be_pruned_and_trained_on(original, digits):
    tuned = prune_to(fold(original), digits, speedup=2.0, epochs=3, threads=1, multiple=4)
    assert tuned.spec.norm == "none"
    assert _accuracy(tuned, digits) > 0.5


def test_no_epochs_change_nothing(smaller, digits):
    assert fine_tune(smaller, digits, epochs=0) is smaller


def test_numbered_classes_take_the_data_s_names(original, digits):
    labels = tuple(f"digit {label}" for label in digits.labels)
    images = digits.train.images[:64]
    train_set = ArrayDataset(images=images, targets=digits.train.targets[:64], labels=labels)
    splits = Splits(
        train=train_set, validation=train_set, test=None, labels=labels, sources={}, preprocessing=digits.preprocessing
    )
    tuned = fine_tune(original, splits, epochs=1, teacher=original, threads=1, recipe=FAST)
    assert tuned.labels == labels
    with pytest.raises(LabelMismatch, match="does not know"):
        fine_tune(dataclasses.replace(original, labels=tuple("abcdefghij")), splits, epochs=1)


def test_classes_in_another_order_are_matched_by_name(original, smaller, digits):
    turned = tuple(reversed(digits.labels))
    weights = dict(smaller.weights) | {name: smaller.weights[name].flip(0) for name in ("fc.weight", "fc.bias")}
    data = {"split_seed": 3}
    model = dataclasses.replace(
        smaller, labels=turned, weights=weights, provenance=dataclasses.replace(smaller.provenance, data=data)
    )
    tuned = fine_tune(model, digits, epochs=3, teacher=original, threads=1, recipe=FAST)
    assert tuned.labels == turned
    assert _accuracy(tuned, match_splits(digits, turned)) > _accuracy(smaller, digits) + 0.02
    assert tuned.provenance.data["split_seed"] == 3


def _stopped(kind, *arguments, **options):
    with pytest.raises(kind) as stopped:
        fine_tune(*arguments, epochs=2, threads=1, **options)
    assert "train --resume" not in str(stopped.value)
    assert "--lr" not in str(stopped.value)
    return stopped.value


def test_what_stops_it_names_a_way_out_that_there_is(smaller, digits, tmp_path, monkeypatch):
    def press(event):
        if isinstance(event, StepDone) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    interrupted = _stopped(Interrupted, smaller, digits, recipe=FAST, folder=tmp_path / "stopped", on_event=press)
    assert "after step 2" in interrupted.message
    assert f"the same command goes on from there: {tmp_path / 'stopped'}" in interrupted.hint
    assert "without a folder" in _stopped(Interrupted, smaller, digits, recipe=FAST, on_event=press).hint
    diverged = _stopped(TrainingDiverged, smaller, digits, recipe=dataclasses.replace(FAST, lr=1000.0))
    assert "another --seed" in diverged.hint

    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("resfit.training.run.save_checkpoint", full)
    lost = _stopped(CheckpointLost, smaller, digits, recipe=FAST, folder=tmp_path / "full")
    assert lost.hint == "make room, and the same command starts it again"
    later = _stopped(CheckpointLost, smaller, digits, recipe=FAST, folder=tmp_path / "stopped")
    assert lost.message != later.message
    assert later.hint == "make room, and the same command goes on from step 2"


def test_images_of_another_kind_are_refused(smaller, digits):
    wider = dataclasses.replace(smaller, preprocessing=dataclasses.replace(smaller.preprocessing, mean=(0.1,)))
    with pytest.raises(UsageError, match="normalised otherwise"):
        fine_tune(wider, digits, epochs=1)


def test_zeros_stay_zeros_while_it_is_trained_on(original, digits):
    sparse = sparsify(original, sparsity=0.8)
    weights = [tensor for tensor in sparse.weights.values() if tensor.ndim > 1]
    zeros = sum(int((tensor == 0).sum()) for tensor in weights)
    assert zeros / sum(tensor.numel() for tensor in weights) == pytest.approx(0.8, abs=1e-3)
    assert all(bool(tensor.any()) for tensor in weights)
    tuned = fine_tune(sparse, digits, epochs=2, teacher=original, threads=1, recipe=FAST, project=keep_zeros(sparse))
    for name, tensor in sparse.weights.items():
        if tensor.ndim > 1:
            assert torch.equal(tuned.weights[name] == 0, tensor == 0), name
    assert _accuracy(tuned, digits) > _accuracy(sparse, digits)
    with pytest.raises(UsageError, match=r"sparsity is 1"):
        sparsify(original, sparsity=1.0)


def test_prune_to_is_pruning_and_training_on(original, digits):
    options = {"speedup": 2.0, "epochs": 1, "threads": 1, "multiple": 4}
    result = prune_to(original, digits, **options)
    size = original.preprocessing.height, original.preprocessing.width
    assert macs(original.spec, *size) >= 2.0 * macs(result.spec, *size)
    assert "pruned by taylor" in result.provenance.notes[-2]
    assert "trained on for 1 epoch" in result.provenance.notes[-1]
    bare = prune_to(original, digits, **{**options, "epochs": 0})
    assert bare.spec == result.spec
    assert weights_sha256(bare) != weights_sha256(result)


def test_a_pruning_that_began_in_a_folder_is_gone_on_with(original, digits, tmp_path):
    options = {"speedup": 2.0, "multiple": 4, "folder": tmp_path}
    first = pruned_start(original, digits.train.images, **options)
    other_images = digits.train.images[:100]
    assert weights_sha256(pruned_start(original, other_images, **options)) == weights_sha256(first)
    anew = pruned_start(original, other_images, **options, resume=False)
    assert weights_sha256(anew) != weights_sha256(first)
    for change in ({"speedup": 1.5}, {"seed": 1}, {"kind": "magnitude"}, {"multiple": 8}):
        with pytest.raises(UsageError, match="another pruning"):
            pruned_start(original, other_images, **{**options, **change})
    with pytest.raises(UsageError, match="another pruning"):
        pruned_start(anew, other_images, **options)
