"""Patience: when it runs out, and whose weights are then published."""

import dataclasses
import shutil

import pytest
from small_trainings import RECIPE, SPEC, assert_same

from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.metrics.classification import cross_entropy
from resfit.model.model import weights_sha256
from resfit.nn.resnet import ResNet
from resfit.training.early_stop import BestEpoch
from resfit.training.events import StoppedEarly
from resfit.training.loop import train
from resfit.training.step import InputLayer, network_logits
from resfit.training.surroundings import Interrupted

RESTLESS = dataclasses.replace(RECIPE, epochs=8, batch_size=128, ema_decay=None, patience=2)


@pytest.fixture(scope="module")
def digits():
    """The digits, with wrong labels on the validation images: the surer the network, the larger their loss."""
    splits = open_data("digits")
    wrong = dataclasses.replace(
        splits.validation, targets=(splits.validation.targets + 1) % 10, fingerprint="wrong labels"
    )
    return Splits(
        train=splits.train, validation=wrong, test=splits.test, labels=splits.labels, sources=splits.sources,
        preprocessing=splits.preprocessing,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stopped(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    events = []
    return train(SPEC, digits, RESTLESS, folder=folder, on_event=events.append), folder, events


def test_it_stops_and_publishes_the_best_epoch(digits, stopped):
    result, _, events = stopped
    losses = [row["validation_loss"] for row in result.history]
    best = losses.index(min(losses)) + 1
    assert result.stopped_early
    assert result.published_epoch == best
    assert len(losses) == best + 2 < 8
    logits = network_logits(result.model.module(), digits.validation, InputLayer(digits.preprocessing, "channels_last"))
    assert cross_entropy(logits, digits.validation.targets) == pytest.approx(min(losses), rel=1e-5)
    told = [event for event in events if isinstance(event, StoppedEarly)]
    assert [(event.epoch, event.patience) for event in told] == [(best, 2)]


def test_without_patience_the_last_weights_are_published(digits, stopped):
    result, _, _ = stopped
    epochs = len(result.history)
    plain = train(SPEC, digits, dataclasses.replace(RESTLESS, patience=None, epochs=None, steps=8 * 10))
    assert plain.published_epoch == 8
    assert not plain.stopped_early
    assert [row["loss"] for row in plain.history[:epochs]] == [row["loss"] for row in result.history]


def test_a_stopped_training_resumes_to_its_result_and_goes_on_with_more_epochs(digits, stopped, tmp_path):
    result, folder, _ = stopped
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    assert_same(train(SPEC, digits, folder=again, resume=True), again, (result, folder))
    more = train(SPEC, digits, folder=again, resume=True, epochs=len(result.history) + 1)
    assert len(more.history) == len(result.history) + 1


def test_patience_and_best_weights_survive_a_stop(digits, stopped, tmp_path):
    result, folder, _ = stopped
    with pytest.raises(Interrupted):
        train(SPEC, digits, RESTLESS, folder=tmp_path, stop_after_step=10 * len(result.history) - 5)
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, (result, folder))


def test_equal_losses_are_no_better():
    best, network = BestEpoch(2), ResNet(SPEC)
    for epoch, loss in enumerate((0.5, 0.4, 0.4), start=1):
        best.epoch_done(epoch, loss, network)
    assert (best.epoch, best.waited, best.exhausted) == (2, 1, False)
    best.epoch_done(4, float("nan"), network)
    assert best.exhausted
    copy = BestEpoch(2)
    copy.restore(best.to_dict())
    assert copy.exhausted
    copy.wait_anew()
    assert not copy.exhausted


def test_the_average_is_what_is_kept():
    digits = open_data("digits")
    recipe = dataclasses.replace(RECIPE, epochs=2, batch_size=128, patience=5)
    kept = train(SPEC, digits, recipe)
    last = train(SPEC, digits, dataclasses.replace(recipe, patience=None))
    assert kept.published_epoch == 2
    assert weights_sha256(kept.model) == weights_sha256(last.model)
