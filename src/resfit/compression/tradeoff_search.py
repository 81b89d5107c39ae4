"""The search along a curve: the greatest tradeoff whose response is within a limit, in few trials."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

MOST_TRIALS = 8
CLOSE = 0.87  # of the limit: near enough to stop
RESPONSE = 1.2  # a response grows about as this power of the tradeoff
LEAST_RATIO = 1.1  # between two tradeoffs worth telling apart
MOST_RATIO = 6.0  # a step never goes further

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[Made]):
    """One point that was tried. response: what must stay within the limit; it grows with the tradeoff."""

    tradeoff: float
    response: float
    made: Made


def search_tradeoff(
    attempt: Callable[[float], tuple[float, Made]], *, start: float, limit: float, trials: int = MOST_TRIALS
) -> list[Trial[Made]]:
    """Trials in the order made, in search of the greatest tradeoff whose response is within the limit.

    attempt: gives the response of a tradeoff, and what was made. A response of 0 counts as almost none.
    """
    done: list[Trial[Made]] = []
    tradeoff = start
    for _ in range(trials):
        response, made = attempt(tradeoff)
        done.append(Trial(tradeoff=tradeoff, response=response, made=made))
        if limit > 0 and CLOSE * limit <= response <= limit:
            break
        following = _next_tradeoff(done, limit)
        if following is None:
            break
        tradeoff = following
    return done


def _next_tradeoff(done: list[Trial[Made]], limit: float) -> float | None:
    """Where the response should meet the limit, kept inside what is known; None when that is narrow enough."""
    last = done[-1]
    aim = limit * (1 + CLOSE) / 2
    below = max((trial.tradeoff for trial in done if trial.response <= limit), default=None)
    above = min((trial.tradeoff for trial in done if trial.response > limit), default=None)
    if aim > 0:
        ratio = (aim / max(last.response, limit / 100)) ** (1 / RESPONSE)
    else:
        ratio = MOST_RATIO if last.response <= limit else 1 / MOST_RATIO
    guess = last.tradeoff * min(max(ratio, 1 / MOST_RATIO), MOST_RATIO)
    if below is None or above is None:
        return guess
    if above / below < LEAST_RATIO:
        return None
    return guess if aim > 0 and below < guess < above else math.sqrt(below * above)
