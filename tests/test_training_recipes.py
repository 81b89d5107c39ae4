"""Recipes by name, from files and from runs."""

import json

import pytest

from resfit.errors import UsageError
from resfit.training.recipe import Recipe
from resfit.training.recipes import NAMED, read_recipe


def test_the_paper_s_recipe_is_the_paper_s():
    recipe = read_recipe("paper").resolved(num_images=45_000, height=32, width=32, channels=3)
    assert (recipe.batch_size, recipe.lr, recipe.momentum, recipe.nesterov) == (128, 0.1, 0.9, False)
    assert (recipe.weight_decay, recipe.decay_norms) == (1e-4, True)
    assert (recipe.crop_padding, recipe.flip, recipe.uncropped_fraction) == (4, True, 0.0)
    assert recipe.total_steps(351) == 64_000
    assert [fraction * 64_000 for fraction in recipe.milestones] == [32_000, 48_000]
    assert (recipe.schedule, recipe.milestone_decay, recipe.warmup_fraction) == ("step", 0.1, 0.0)
    assert (recipe.optimizer, recipe.loss, recipe.label_smoothing, recipe.ema_decay) == (
        "sgd",
        "cross_entropy",
        0,
        None,
    )


def test_fast_is_the_default_and_all_are_different():
    assert read_recipe("fast") == Recipe()
    assert set(NAMED) == {"paper", "fast", "strong"}
    assert len(set(NAMED.values())) == 3
    assert read_recipe("strong").augmentation().trivial


@pytest.mark.parametrize("name", NAMED)
def test_each_comes_back_from_a_file_and_a_run(name, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(NAMED[name].to_dict()))
    assert read_recipe(str(tmp_path)) == read_recipe(str(tmp_path / "recipe.json")) == NAMED[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not a recipe"), ("[1]", "an object expected"), ('{"epoch": 1}', "unknown field 'epoch'"),
     ('{"replans": 3}', "not a recipe"), ('{"epochs": "many"}', "epochs is 'many'")],
)  # fmt: skip
def test_what_is_no_recipe_is_named(text, message, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_recipe(str(path))


def test_an_unknown_name_hints_at_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="there is no recipe 'papr'") as caught:
        read_recipe("papr")
    assert "paper" in str(caught.value.hint)
    with pytest.raises(UsageError, match="is not a recipe"):
        read_recipe(str(tmp_path / "missing.json"))
    with pytest.raises(UsageError, match="is not a recipe"):
        read_recipe(str(tmp_path))
