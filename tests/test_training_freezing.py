"""Fine-tuning in the training itself: frozen epochs, rates by layer, and that both survive a stop."""

import dataclasses
from pathlib import Path

import pytest
import torch
from small_models import small_model, small_spec
from small_trainings import RECIPE, RICH, SPEC, assert_same
from torch import Tensor

from resfit.data.dataset import Splits
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.model.model import Model, weights_sha256
from resfit.nn.resnet import ResNet
from resfit.training.freezing import begin_epoch, layers, rate_factors
from resfit.training.loop import train
from resfit.training.optimizers import build_optimizer, set_rate
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.surroundings import Interrupted

HEAD = ("fc.weight", "fc.bias")
SHORT = dataclasses.replace(RECIPE, epochs=2, freeze_epochs=1, ema_decay=None)


@pytest.fixture(scope="module")
def digits() -> Splits:
    return open_data("digits")


@pytest.fixture(scope="module")
def start() -> dict[str, Tensor]:
    return dict(small_model(SPEC, seed=3).weights)


def moved(model: Model, start: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.weights.items() if not torch.equal(tensor, start[name])}


def test_frozen_epochs_move_the_classifier_alone(digits: Splits, start: dict[str, Tensor]) -> None:
    recipe = dataclasses.replace(
        SHORT, epochs=1, freeze_epochs=5, l1=1e-3, clip_weights=0.01, max_norm=0.01, weight_decay=0.1
    )
    held = train(SPEC, digits, recipe, init_weights=start)
    assert moved(held.model, start) == set(HEAD), "neither statistics nor decay nor limits touch the rest"


def test_after_them_everything_learns(digits: Splits, start: dict[str, Tensor]) -> None:
    thawed = train(SPEC, digits, SHORT, init_weights=start)
    learning = {name for name in start if not name.endswith("num_batches_tracked")}
    assert moved(thawed.model, start) >= learning
    assert thawed.recipe.freeze_epochs == 1
    counted = thawed.model.weights["bn1.num_batches_tracked"] - start["bn1.num_batches_tracked"]
    assert counted == thawed.steps // 2, "a frozen epoch counts no batches"


def test_defaults_change_no_bit(digits: Splits, start: dict[str, Tensor]) -> None:
    plain = dataclasses.replace(SHORT, epochs=1, freeze_epochs=0)
    named = dataclasses.replace(plain, layer_decay=1.0)
    one = train(SPEC, digits, plain, init_weights=start)
    other = train(SPEC, digits, named, init_weights=start)
    assert weights_sha256(one.model) == weights_sha256(other.model)


STOPPED = dataclasses.replace(RICH, freeze_epochs=1, layer_decay=0.7, patience=None)


@pytest.fixture(scope="module")
def whole(
    digits: Splits, start: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainResult, Path]:
    """The fine-tuning that is never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(SPEC, digits, STOPPED, folder=folder, init_weights=start), folder


@pytest.mark.parametrize("stop", [5, 11])
def test_a_stop_in_or_after_frozen_epochs_resumes_to_the_same_weights(
    digits: Splits, start: dict[str, Tensor], whole: tuple[TrainResult, Path], tmp_path: Path, stop: int
) -> None:
    assert whole[0].steps == 20
    with pytest.raises(Interrupted):
        train(SPEC, digits, STOPPED, folder=tmp_path, init_weights=start, stop_after_step=stop)
    assert_same(train(SPEC, digits, folder=tmp_path, resume=True), tmp_path, whole)


def test_random_weights_are_not_frozen(digits: Splits) -> None:
    with pytest.raises(UsageError, match="there are no weights to keep") as caught:
        train(SPEC, digits, SHORT)
    assert "--pretrained" in str(caught.value.hint)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_layers_are_stem_blocks_and_head(order: str) -> None:
    network = ResNet(small_spec(order=order))
    parts = layers(network)
    assert len(parts) == 1 + 3 + 1
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert [names[id(part[0])].split(".")[0] for part in parts[:4]] == ["conv1", "layer1", "layer2", "layer2"]
    head = [names[id(parameter)] for parameter in parts[-1]]
    assert head[-2:] == list(HEAD)
    assert ("norm.weight" in head) == (order == "pre")
    assert sum(len(part) for part in parts) == len(names)


def test_rates_fall_towards_the_input() -> None:
    assert rate_factors(3, 0.5) == [0.25, 0.5, 1.0]
    network = ResNet(small_spec(norm="none"))
    optimizer = build_optimizer(network, Recipe(lr=0.1, layer_decay=0.5))
    set_rate(optimizer, 0.4)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in network.named_parameters()}
    assert by_name["fc.weight"] == by_name["fc.bias"] == 0.4
    assert by_name["layer2.1.conv1.weight"] == 0.2
    assert by_name["layer1.0.conv2.weight"] == 0.05
    assert by_name["conv1.weight"] == 0.025


def test_lower_layers_move_less(digits: Splits, start: dict[str, Tensor]) -> None:
    recipe = dataclasses.replace(SHORT, epochs=1, freeze_epochs=0, lr=0.01)

    def step_of(decay: float, name: str) -> float:
        model = train(SPEC, digits, dataclasses.replace(recipe, layer_decay=decay), init_weights=start).model
        return float((model.weights[name] - start[name]).norm())

    assert step_of(0.1, "conv1.weight") < 0.1 * step_of(1.0, "conv1.weight")


@pytest.mark.parametrize("values", [{"freeze_epochs": -1}, {"layer_decay": 0.0}, {"layer_decay": 1.5}])
def test_values_that_cannot_be(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        Recipe(**values)  # type: ignore[arg-type]


def test_beginning_an_epoch_thaws_what_was_frozen() -> None:
    network = ResNet(small_spec())
    begin_epoch(network, frozen=True)
    assert not network.bn1.training  # type: ignore[union-attr]
    assert [name for name, p in network.named_parameters() if p.requires_grad] == list(HEAD)
    begin_epoch(network, frozen=False)
    assert network.bn1.training  # type: ignore[union-attr]
    assert all(p.requires_grad for p in network.parameters())
