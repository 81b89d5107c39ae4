"""Recipe: validation, defaults by data, and its way through JSON."""

import dataclasses
import json
import subprocess
import sys

import pytest

from resfit.errors import UsageError
from resfit.training.recipe import Recipe


def test_json_round_trip_keeps_every_field():
    recipe = Recipe(steps=70, replans=((10, 90), (40, 60)), lr=0.3, flip=False, precision="bf16", seed=7, threads=2)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


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
        ({"precision": "fp16"}, "precision is 'fp16'"),
        ({"optimizer": "adam"}, "optimizer is 'adam'"),
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
    given = Recipe(epochs=3, batch_size=32, lr=0.5, crop_padding=0, flip=False)
    assert _resolved(given, 47_500, 32, 3) == given


def test_fewer_images_than_a_batch():
    with pytest.raises(UsageError, match="20 training images are fewer than one batch of 64"):
        _resolved(Recipe(batch_size=64), 20, 32, 3)


def test_total_steps():
    assert Recipe(epochs=3).total_steps(17) == 51
    assert Recipe(steps=40).total_steps(17) == 40
    assert Recipe().total_steps(2) == 50
    assert dataclasses.replace(Recipe(steps=40), replans=((10, 44), (20, 38))).total_steps(17) == 38


def test_the_recipe_needs_no_torch():
    code = "import sys, resfit.training.recipe, resfit.training.events; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
