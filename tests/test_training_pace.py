"""The schedule, its re-plans, and the stopwatch that keeps a training to a wall time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resfit.training import pace as pace_module
from resfit.training.pace import Pace
from resfit.training.schedule import progress


@settings(deadline=None, max_examples=50)
@given(
    st.integers(2, 1000),
    st.lists(st.tuples(st.integers(1, 100), st.integers(1, 1000)), max_size=5),
)
def test_progress_rises_and_ends_at_the_last_plan(steps, changes):
    replans, at, end = [], 0, steps
    for later, left in changes:
        if at + later >= end:
            break
        at, end = at + later, at + later + left
        replans.append((at, end))
    values = [progress(step, steps, replans) for step in range(end + 1)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(1.0)
    assert all(before < after for before, after in itertools.pairwise(values))


def test_a_replan_changes_nothing_before_it():
    before = [progress(step, 100) for step in range(31)]
    assert [progress(step, 100, [(30, 50)]) for step in range(31)] == pytest.approx(before)
    assert progress(40, 100, [(30, 50)]) == pytest.approx(0.65)


class Clock:
    """A clock that only moves when told."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace_module, "time", clock)
    return clock


def _run(pace: Pace, clock: Clock, steps: int, seconds_of_step, most_seconds: float = 1e9) -> tuple[int, float, int]:
    """Steps, seconds and re-plans of a training that evaluates for 0.5 s after every 20 steps."""
    start, step, replans = clock.now, 0, 0
    pace.start()
    while step < steps:
        clock.now += seconds_of_step(step)
        step += 1
        pace.step_done()
        new = pace.replanned(step, steps)
        replans += new != steps
        steps = new
        if step % 20 == 0 or step == steps:
            clock.now += 0.5
            pace.evaluated(0.5)
            pace.go_on()
        assert clock.now - start < most_seconds
    return step, clock.now - start, replans


@pytest.mark.parametrize(
    "seconds_of_step",
    [
        lambda _step: 0.1,
        lambda _step: 0.02,
        lambda _step: 0.5,
        lambda step: 0.1 if step < 100 else 0.4,
        lambda step: 0.4 if step < 50 else 0.05,
        lambda step: 1.0 if step % 37 == 0 else 0.1,
    ],
    ids=["as expected", "faster", "slower", "slows down", "speeds up", "bursts"],
)
def test_the_plan_keeps_to_the_time(clock, seconds_of_step):
    pace = Pace(batch_size=32, steps_per_epoch=20)
    pace.expect(step_seconds=0.1, evaluation_seconds=0.5)
    pace.deadline = clock.now + 60
    _, seconds, _ = _run(pace, clock, pace.steps_until_deadline(), seconds_of_step)
    assert 54 <= seconds <= 62


def test_a_steady_speed_needs_no_replan(clock):
    pace = Pace(batch_size=32, steps_per_epoch=20)
    pace.expect(step_seconds=0.1, evaluation_seconds=0.5)
    pace.deadline = clock.now + 60
    assert _run(pace, clock, pace.steps_until_deadline(), lambda _step: 0.1)[2] == 0


def test_the_recipe_s_epochs_bound_a_plan_by_time(clock):
    pace = Pace(batch_size=32, steps_per_epoch=20)
    pace.expect(step_seconds=0.1, evaluation_seconds=0.5)
    pace.deadline, pace.most_steps = clock.now + 1000, 200
    steps, seconds, _ = _run(pace, clock, min(pace.steps_until_deadline(), 200), lambda _step: 0.05)
    assert steps == 200
    assert seconds < 20


def test_images_per_second_leaves_evaluation_out(clock):
    pace = Pace(batch_size=32, steps_per_epoch=20)
    _run(pace, clock, 40, lambda _step: 0.1)
    assert pace.images_per_second == pytest.approx(320)
    assert pace.elapsed == pytest.approx(5.0)


def test_the_stopwatch_survives_a_checkpoint(clock):
    pace = Pace(batch_size=32, steps_per_epoch=20)
    _run(pace, clock, 40, lambda _step: 0.1)
    saved = pace.to_dict()
    clock.now += 1000  # a night between stop and resume
    later = Pace(batch_size=32, steps_per_epoch=20)
    later.restore(saved)
    _run(later, clock, 20, lambda _step: 0.3)
    assert later.elapsed == pytest.approx(5.0 + 6.5)
    assert later.images_per_second == pytest.approx(60 * 32 / 10)
