"""The probe: what it may choose between, what it leaves alone, and when compiling is worth a try."""

import math

import numpy as np
import pytest
import torch
from small_models import small_spec

from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.nn.resnet import ResNet
from resfit.training import compiling
from resfit.training import probe as probing
from resfit.training.probe import probe
from resfit.training.recipe import Recipe
from resfit.training.step import NotFinite, TrainingStep

SPEC = small_spec(in_channels=1)
PREPROCESSING = Preprocessing(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
FIXED = {"precision": "fp32", "memory_format": "channels_last", "compile": "eager"}
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1), dtype=np.uint8)
TARGETS = np.arange(8) % 3


def _probe(recipe: Recipe, network: ResNet | None = None, **plan: float):
    recipe = recipe.resolved(num_images=100, height=8, width=8, channels=1)
    return probe(network or ResNet(SPEC), recipe, IMAGES, TARGETS, PREPROCESSING, seconds=0.2, **plan)


class Timed:
    """Stands in for a trial: each combination takes the seconds it is told."""

    seconds: dict[tuple[str, str, str], float]
    compiles = True
    broken = False
    update_seconds = 0.0

    def __init__(self, _network, recipe, _preprocessing):
        self.recipe = recipe
        self.fastest = math.inf
        self.first = True

    def run(self, images, _targets, *, counts):
        key = (self.recipe.precision, self.recipe.memory_format, self.recipe.compile)
        if key[2] == "compiled" and not self.compiles:
            raise RuntimeError("no such header")
        if counts:
            self.fastest = self.seconds[key] * len(images) / len(IMAGES) + self.update_seconds

    step_seconds = probing._Trial.step_seconds
    cost = probing._Trial.cost
    may_compile = probing._Trial.may_compile


@pytest.fixture
def timed(monkeypatch):
    Timed.seconds = {
        (precision, memory_format, "eager"): 1.0
        for precision in ("fp32", "bf16")
        for memory_format in ("contiguous", "channels_last")
    }
    Timed.compiles = True
    monkeypatch.setattr(probing, "_Trial", Timed)
    monkeypatch.setattr(compiling, "compiler", lambda: "/usr/bin/g++")
    return Timed.seconds


def test_what_the_recipe_says_is_kept():
    for values in (FIXED, {**FIXED, "precision": "bf16", "memory_format": "contiguous"}):
        found = _probe(Recipe(batch_size=8, **values))
        assert {name: getattr(found, name) for name in values} == values
        assert 0 < found.step_seconds < 60


@pytest.mark.usefixtures("timed")
def test_a_long_training_is_decided_on_whole_batches():
    """Seconds and images of a look at few: 1 s a batch, so that a probe of 4 s affords half a batch a step."""
    seen: list[int] = []
    run = Timed.run

    def counted(self, images, targets, *, counts):
        seen.append(len(images))
        run(self, images, targets, counts=counts)

    recipe = Recipe(batch_size=8, compile="eager").resolved(num_images=100, height=8, width=8, channels=1)
    for steps, images in ((10, 4), (3000, 8)):
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Timed, "run", counted)
            probe(ResNet(SPEC), recipe, IMAGES, TARGETS, PREPROCESSING, planned_steps=steps)
        assert max(seen) == images


@pytest.mark.usefixtures("timed")
def test_what_a_step_takes_whatever_its_images_is_counted_once(monkeypatch):
    monkeypatch.setattr(Timed, "update_seconds", 10.0)
    assert _probe(Recipe(batch_size=8)).step_seconds == pytest.approx(11.0)


def test_a_step_tells_how_long_its_update_took():
    recipe = Recipe(batch_size=8, **FIXED).resolved(num_images=100, height=8, width=8, channels=1)
    trial = probing._Trial(ResNet(SPEC), recipe, PREPROCESSING)
    trial.run(IMAGES, TARGETS, counts=True)
    assert 0 < trial.update_seconds < trial.fastest
    assert trial.step_seconds(3) == pytest.approx(3 * trial.fastest - 2 * trial.update_seconds)


def test_a_probe_s_share_of_the_time():
    assert probing._probe_seconds(math.inf, math.inf) == probing.LEAST_SECONDS
    assert probing._probe_seconds(600.0, math.inf) == pytest.approx(12.0)
    assert probing._probe_seconds(1e6, math.inf) == probing.MOST_SECONDS
    assert probing._probe_seconds(20.0, 20.0) == pytest.approx(1.0)


def test_the_network_is_left_as_it_was():
    network = ResNet(SPEC)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    _probe(Recipe(batch_size=8), network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_teacher_and_balance_need_not_be_there():
    recipe = Recipe(batch_size=8, distill_weight=0.5, teacher="ab", balance="weights", **FIXED)
    assert _probe(recipe).step_seconds > 0


@pytest.mark.parametrize(
    ("faster", "chosen"),
    [
        ({("fp32", "contiguous", "eager"): 0.9}, ("fp32", "contiguous")),
        ({("bf16", "channels_last", "eager"): 0.5}, ("bf16", "channels_last")),
        ({("bf16", "channels_last", "eager"): 0.95}, ("fp32", "channels_last")),
        ({("fp32", "contiguous", "eager"): 0.99}, ("fp32", "channels_last")),
    ],
)
def test_only_a_clear_gain_changes_the_choice(timed, faster, chosen):
    timed.update(faster)
    found = _probe(Recipe(batch_size=8))
    assert (found.precision, found.memory_format, found.compile) == (*chosen, "eager")


def test_a_short_training_has_the_same_layout_every_time(timed):
    timed["fp32", "contiguous", "eager"] = 0.9
    assert _probe(Recipe(batch_size=8), planned_steps=1000).memory_format == "contiguous"
    assert _probe(Recipe(batch_size=8), planned_steps=100).memory_format == "channels_last"
    assert _probe(Recipe(batch_size=8), planned_seconds=100).memory_format == "channels_last"
    timed["fp32", "contiguous", "eager"] = 0.8
    assert _probe(Recipe(batch_size=8), planned_steps=100).memory_format == "contiguous"


@pytest.mark.parametrize(
    ("plan", "compiled_seconds", "chosen"),
    [
        ({"planned_steps": 10_000}, 0.8, "compiled"),
        ({"planned_seconds": 10_000}, 0.8, "compiled"),
        ({"planned_steps": 10_000, "planned_seconds": 60}, 0.8, "eager"),
        ({"planned_steps": 100}, 0.1, "eager"),
        ({"planned_steps": 10_000}, 1.2, "eager"),
        ({"planned_steps": 10_000}, 0.99, "eager"),
        ({}, 0.1, "eager"),
    ],
    ids=str,
)
def test_only_a_long_training_that_gains_by_it_is_compiled(timed, plan, compiled_seconds, chosen):
    timed["fp32", "channels_last", "compiled"] = compiled_seconds
    assert _probe(Recipe(batch_size=8), **plan).compile == chosen


def test_without_a_compiler_nothing_is_compiled(timed, monkeypatch):
    timed["fp32", "channels_last", "compiled"] = 0.1
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert _probe(Recipe(batch_size=8), planned_steps=1e6).compile == "eager"
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        _probe(Recipe(batch_size=8, compile="compiled"))


def test_a_compiler_that_fails_leaves_training_eager(timed):
    timed["fp32", "channels_last", "compiled"] = 0.1
    Timed.compiles = False
    assert _probe(Recipe(batch_size=8), planned_steps=1e6).compile == "eager"


@pytest.mark.parametrize("change", [{"activation_checkpointing": True}, {"precision": "fp64"}, {"compile": "eager"}])
def test_what_cannot_or_shall_not_be_compiled_is_not_tried(timed, change):
    timed["fp64", "channels_last", "eager"] = timed["fp64", "contiguous", "eager"] = 1.0
    Timed.compiles = False
    assert _probe(Recipe(batch_size=8, **change), planned_steps=1e6).compile == "eager"


@pytest.mark.usefixtures("timed")
def test_compiled_when_asked_for():
    assert _probe(Recipe(batch_size=8, compile="compiled")).compile == "compiled"


def test_a_compiler_is_found_or_not(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compiling.compiler() is None
    fake = tmp_path / "my-c++"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", "my-c++")
    assert compiling.compiler() == str(fake)
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda _name: str(tmp_path))
    assert compiling.compiler() is None  # no headers


def test_compiling_must_repay_itself_and_more():
    times = {"eager_seconds": 1.0, "compiled_seconds": 0.8, "compiling_seconds": 100.0}
    assert compiling.repays(**times, steps=1000)
    assert not compiling.repays(**times, steps=400)
    assert not compiling.repays(**{**times, "compiled_seconds": 0.98}, steps=1e6)


def test_numbers_that_are_not_finite_are_never_chosen(monkeypatch):
    """As those of bf16 on maps of one pixel are, in some steps."""

    class Step(TrainingStep):
        def _update(self):
            if self.recipe.precision == "bf16":
                raise NotFinite("the gradient of fc.weight is not finite")
            super()._update()

    monkeypatch.setattr(probing, "TrainingStep", Step)
    free = {"compile": "eager", "memory_format": "contiguous", "epochs": 1, "batch_size": 8}
    found = _probe(Recipe(**free))
    assert found.precision == "fp32"
    assert math.isfinite(found.step_seconds)
    with pytest.raises(UsageError, match="no step with bf16 numbers gives finite gradients") as caught:
        _probe(Recipe(precision="bf16", **free))
    assert "--precision fp32" in caught.value.hint
