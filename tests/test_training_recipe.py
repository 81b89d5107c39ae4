"""Recipe: validation, defaults by data, and its way through JSON."""

import dataclasses
import json
import subprocess
import sys

import pytest

from resfit.data.augment import Augment
from resfit.errors import UsageError
from resfit.training.recipe import Recipe


def test_json_round_trip_keeps_every_field():
    recipe = Recipe(
        steps=70, replans=((10, 90), (40, 60)), lr=0.3, flip=False, precision="bf16", seed=7, threads=2,
        schedule="step", milestones=(0.2, 0.7), trivial=True, mixup=0.3, teacher="ab", distill_weight=0.5,
    )  # fmt: skip
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert Recipe.from_dict({}) == Recipe()


def test_what_is_resolved_stays_so_and_survives_json():
    recipe = Recipe(
        epochs=4, batch_size=16, accumulate=3, schedule="step", milestones=(5, 9), teacher="ab", distill_weight=0.5
    )
    resolved = _resolved(recipe, 100, 8, 1)
    assert _resolved(Recipe.from_dict(json.loads(json.dumps(resolved.to_dict()))), 100, 8, 1) == resolved


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean epochs"):
        Recipe.from_dict({"epoch": 3})


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"epochs": 3, "steps": 100}, "epochs is 3 and steps is 100"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"precision": "int8"}, "precision is 'int8'"),
        ({"optimizer": "lion"}, "optimizer is 'lion'"),
        ({"loss": "hinge"}, "loss is 'hinge'"),
        ({"schedule": "stairs"}, "schedule is 'stairs'"),
        ({"compile": "yes"}, "compile is 'yes'"),
        ({"micro_batch": 1}, "micro_batch is 1"),
        ({"patience": 0}, "patience is 0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"max_norm": -1.0}, "max_norm is -1.0"),
        ({"l1": "much"}, "l1 is much"),
        ({"flip": "yes"}, "flip is 'yes'"),
        ({"distill_weight": 1.5}, "distill_weight is 1.5"),
        ({"rotate_degrees": -1.0}, "rotate degrees -1.0"),
        ({"accumulate": 2, "micro_batch": 8}, "both split the batch"),
        ({"nesterov": True, "optimizer": "adam"}, "nesterov needs sgd"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs sgd or muon with momentum"),
        ({"momentum": 0.9, "optimizer": "adagrad"}, "adagrad has none"),
        ({"l1": 0.1, "optimizer": "muon"}, "muon leaves out how large"),
        ({"milestones": (0.5,)}, "of the step schedule, and this one is cosine"),
        ({"milestone_decay": 0.5, "schedule": "linear"}, "this one is linear"),
        ({"milestones": (0.5, 0.4), "schedule": "step"}, "expected rising numbers"),
        ({"milestones": (0.0,), "schedule": "step"}, "expected rising numbers above 0"),
        ({"milestones": (0.5, 100), "schedule": "step"}, "some are fractions"),
        ({"distill_temperature": 2.0}, "distill_weight is 0"),
        ({"distill_mirrored": True}, "distill_weight, is 0"),
        ({"teacher": "0" * 64}, "distill_weight, is 0"),
        ({"compile": "compiled", "precision": "fp16"}, "fp16 is for correctness"),
        ({"compile": "compiled", "activation_checkpointing": True}, "this one is compiled"),
    ],
)
def test_nonsense_is_named(values, named):
    with pytest.raises(UsageError, match=named):
        Recipe(**values)


def _resolved(recipe: Recipe, num_images: int, side: int, channels: int) -> Recipe:
    return recipe.resolved(num_images=num_images, height=side, width=side, channels=channels)


def test_defaults_follow_the_data():
    colour = _resolved(Recipe(), 47_500, 32, 3)
    assert (colour.batch_size, colour.lr, colour.crop_padding, colour.flip) == (128, 0.2, 4, True)
    digits = _resolved(Recipe(), 1150, 8, 1)
    assert (digits.batch_size, digits.crop_padding, digits.flip) == (32, 1, False)
    assert digits.lr == pytest.approx(0.1)
    photos = _resolved(Recipe(), 100_000, 224, 3)
    assert (photos.batch_size, photos.crop_padding) == (32, 28)
    tiny = _resolved(Recipe(), 9, 8, 1)
    assert tiny.batch_size == 2


def test_what_is_given_stays():
    given = Recipe(epochs=3, batch_size=32, lr=0.5, momentum=0.8, nesterov=False, crop_padding=0, flip=False)
    assert _resolved(given, 47_500, 32, 3) == given


def test_defaults_follow_the_optimiser():
    assert _resolved(Recipe(), 47_500, 32, 3).nesterov
    assert _resolved(Recipe(optimizer="muon"), 47_500, 32, 3).nesterov
    adam = _resolved(Recipe(optimizer="adam", batch_size=128), 47_500, 32, 3)
    assert (adam.lr, adam.momentum, adam.nesterov) == (0.002, 0.9, False)
    assert _resolved(Recipe(optimizer="adagrad"), 47_500, 32, 3).momentum is None
    assert not _resolved(Recipe(momentum=0.0), 47_500, 32, 3).nesterov


def test_parts_of_a_batch_are_resolved_to_their_size():
    assert _resolved(Recipe(batch_size=32, accumulate=4), 100, 8, 1).micro_batch == 8
    assert _resolved(Recipe(batch_size=32, accumulate=3), 100, 8, 1).micro_batch == 11
    assert _resolved(Recipe(batch_size=32, micro_batch=64), 100, 8, 1).micro_batch == 32
    assert _resolved(Recipe(batch_size=32), 100, 8, 1).micro_batch is None
    for recipe in (Recipe(batch_size=6, accumulate=4), Recipe(batch_size=5, micro_batch=2)):
        with pytest.raises(UsageError, match="parts of a single image"):
            _resolved(recipe, 100, 8, 1)


def test_milestones_become_fractions_of_the_schedule():
    resolved = _resolved(Recipe(steps=200, schedule="step", milestones=(50, 150)), 1000, 8, 1)
    assert resolved.milestones == (0.25, 0.75)
    assert resolved.milestone_decay == 0.1
    default = _resolved(Recipe(steps=200, schedule="step"), 1000, 8, 1)
    assert default.milestones == (0.5, 0.75)
    with pytest.raises(UsageError, match="a milestone is at step 200, and the training ends at 200"):
        _resolved(Recipe(steps=200, schedule="step", milestones=(200,)), 1000, 8, 1)


def test_augmentation_is_the_recipe_s_and_ends_its_crops():
    recipe = Recipe(crop_padding=3, flip=True, rotate_degrees=5.0, color=0.2, cutout=4, mixup=0.2, cutmix=1.0)
    augment = recipe.augmentation()
    assert augment == Augment(crop_padding=3, flip=True, rotate_degrees=5.0, color=0.2, cutout=4, mixup=0.2, cutmix=1.0)
    assert recipe.augmentation(cropped=False) == dataclasses.replace(augment, crop_padding=0)
    assert Recipe(trivial=True).augmentation().trivial


def test_fewer_images_than_a_batch():
    with pytest.raises(UsageError, match="20 training images are fewer than one batch of 64"):
        _resolved(Recipe(batch_size=64), 20, 32, 3)


def test_total_steps():
    assert Recipe(epochs=3).total_steps(17) == 51
    assert Recipe(steps=40).total_steps(17) == 40
    assert Recipe().total_steps(2) == 100
    assert dataclasses.replace(Recipe(steps=40), replans=((10, 44), (20, 38))).total_steps(17) == 38


def test_the_recipe_needs_no_torch():
    code = "import sys, resfit.training.recipe, resfit.training.events; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("optimizer", "network_width", "lr"),
    [("sgd", 16, 0.2), ("sgd", 64, 0.2), ("sgd", 512, 0.025), ("adamw", 512, 0.002)],
)
def test_a_wide_network_gets_a_lower_rate_of_sgd(optimizer, network_width, lr):
    recipe = Recipe(optimizer=optimizer, batch_size=128)
    wide = recipe.resolved(num_images=1000, height=32, width=32, channels=3, network_width=network_width)
    assert wide.lr == pytest.approx(lr)
    given = dataclasses.replace(recipe, lr=0.3).resolved(
        num_images=1000, height=32, width=32, channels=3, network_width=network_width
    )
    assert given.lr == 0.3
