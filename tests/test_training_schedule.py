"""The learning rate by step: each schedule against its formula or torch's own scheduler."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.training.recipe import Recipe
from resfit.training.schedule import learning_rate, progress


def test_rate_rises_to_the_peak_and_falls_to_zero():
    recipe = Recipe(lr=0.4, warmup_fraction=0.25)
    assert learning_rate(recipe, 0.125) == pytest.approx(0.2)
    assert learning_rate(recipe, 0.25) == pytest.approx(0.4)
    assert learning_rate(recipe, 0.625) == pytest.approx(0.2)  # half of the cosine
    assert learning_rate(recipe, 1.0) == pytest.approx(0.0, abs=1e-12)


def test_linear_schedule_without_warmup():
    recipe = Recipe(lr=0.4, warmup_fraction=0.0, schedule="linear")
    assert [learning_rate(recipe, part) for part in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.0])


def test_one_cycle_is_torch_s():
    steps, recipe = 40, Recipe(lr=0.4, warmup_fraction=0.3, schedule="one_cycle")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=steps + 1, pct_start=0.3 + 0.7 / (steps + 1), cycle_momentum=False
    )
    # torch counts its rise to pct_start * total_steps - 1 and its fall to total_steps - 1: here 12 and 40
    for step in range(steps + 1):
        assert learning_rate(recipe, step / steps) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        if step < steps:
            optimizer.step()
            theirs.step()


def test_steps_of_the_paper():
    recipe = Recipe(steps=64_000, lr=0.1, warmup_fraction=0.0, schedule="step", batch_size=128)
    recipe = recipe.resolved(num_images=45_000, height=32, width=32, channels=3)
    rates = [
        learning_rate(recipe, progress(step + 0.5, 64_000)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@settings(deadline=None, max_examples=50)
@given(st.integers(3, 100_000), st.data())
def test_milestones_in_steps_are_met_exactly(steps, data):
    at = data.draw(st.integers(1, steps - 1))
    recipe = Recipe(steps=steps, lr=1.0, warmup_fraction=0.0, schedule="step", milestones=(at,), milestone_decay=0.5)
    recipe = recipe.resolved(num_images=1000, height=8, width=8, channels=1)
    before, after = (learning_rate(recipe, progress(step + 0.5, steps)) for step in (at - 1, at))
    assert (before, after) == (1.0, 0.5)


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["cosine", "linear", "one_cycle", "step"]), st.floats(0, 1), st.floats(0, 1))
def test_the_rate_never_leaves_zero_to_the_peak(schedule, warmup, fraction):
    recipe = Recipe(lr=0.4, warmup_fraction=warmup, schedule=schedule)
    assert 0 <= learning_rate(recipe, fraction) <= 0.4 * (1 + 1e-12)


def test_the_schedule_needs_no_torch():
    code = "import sys, resfit.training.schedule, resfit.training.recipes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
