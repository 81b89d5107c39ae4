"""The race: planned rungs, who goes on, and that a broken training never wins."""

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resfit.search.race import LEAST_SECONDS, Entrant, Failed, Finished, evenly, plan_rungs, race


@dataclass(frozen=True)
class Score:
    accuracy: float
    loss: float = 1.0


@given(st.integers(1, 40), st.floats(0, 5000))
def test_rungs_fit_the_time_and_end_with_one(entrants: int, seconds: float) -> None:
    rungs = plan_rungs(entrants, seconds)
    if not rungs:
        assert entrants == 1 or seconds / 2 < LEAST_SECONDS
        return
    assert rungs[0].entered <= entrants
    assert rungs[-1].kept == 1
    assert sum(rung.entered * rung.seconds for rung in rungs) == pytest.approx(seconds)
    assert all(rung.seconds >= LEAST_SECONDS * 0.999 for rung in rungs)
    assert all(before.kept == after.entered for before, after in itertools.pairwise(rungs))


@given(st.integers(1, 50), st.integers(1, 50))
def test_evenly_keeps_order_and_the_last(count: int, wanted: int) -> None:
    items = list(range(count))
    chosen = evenly(items, wanted)
    assert len(chosen) == min(count, wanted)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == items[-1]


def test_the_best_goes_on_and_loss_breaks_ties() -> None:
    entrants = [Entrant(name=name, subject=None) for name in "abcd"]
    scores = {"a": Score(0.5), "b": Score(0.9, 0.4), "c": Score(0.9, 0.3), "d": Score(0.1)}
    left = race(entrants, plan_rungs(4, 100), lambda entrant, _rung, _number: Finished(trial=scores[entrant.name]))
    assert [entrant.name for entrant in left] == ["c"]
    assert [len(entrant.results) for entrant in entrants] == [1, 2, 2, 1]


def test_failed_and_nan_trainings_never_win() -> None:
    entrants = [Entrant(name=name, subject=None) for name in "abc"]
    outcomes = {
        "a": Failed(reason="diverged"),
        "b": Finished(trial=Score(float("nan"))),
        "c": Finished(trial=Score(0.01)),
    }
    left = race(entrants, plan_rungs(3, 100), lambda entrant, _rung, _number: outcomes[entrant.name])
    assert [entrant.name for entrant in left] == ["c"]
    assert entrants[0].accuracies == ()


def test_a_race_that_all_lose_ends_with_nobody() -> None:
    entrants = [Entrant(name=name, subject=None) for name in "ab"]
    assert race(entrants, plan_rungs(2, 100), lambda *_: Failed(reason="no memory")) == []
