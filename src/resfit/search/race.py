"""Successive halving (Jamieson and Talwalkar 2016): equal time for all, the better third goes on."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

KEEP = 3  # one in so many goes on to the next rung
LEAST_SECONDS = 4.0  # a shorter training says nothing


class Trial(Protocol):
    """What a training of the race must tell: its accuracy and loss on the validation images."""

    @property
    def accuracy(self) -> float: ...

    @property
    def loss(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A round as planned: how many enter, how many go on, seconds of training each."""

    entered: int
    kept: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A training that ended with weights; only these are ranked."""

    trial: Any


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A training that broke down, and why."""

    reason: str


@dataclass
class Entrant:
    """A network in the race and what became of it, one result a rung."""

    name: str
    subject: Any
    results: list[Finished | Failed] = field(default_factory=list)

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Validation accuracy after each rung."""
        return tuple(result.trial.accuracy for result in self.results if isinstance(result, Finished))

    @property
    def last(self) -> Any:
        """The last finished trial, None before the first."""
        finished = [result.trial for result in self.results if isinstance(result, Finished)]
        return finished[-1] if finished else None


def plan_rungs(entrants: int, seconds: float) -> tuple[Rung, ...]:
    """The rungs of a race of this many networks in this much time; each rung takes an equal share.

    Fewer may enter than asked, where the time would give each less than four seconds; one network needs none.
    """
    for count in range(entrants, 1, -1):
        sizes = [count]
        while sizes[-1] > 1:
            sizes.append(math.ceil(sizes[-1] / KEEP))
        share = seconds / (len(sizes) - 1)
        if share / count >= LEAST_SECONDS:
            return tuple(
                Rung(entered=entered, kept=kept, seconds=share / entered) for entered, kept in itertools.pairwise(sizes)
            )
    return ()


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of the items, evenly spaced, the last always among them."""
    if count >= len(items):
        return list(items)
    return [items[len(items) - 1 - round(step * (len(items) - 1) / max(count - 1, 1))] for step in range(count)][::-1]


def race(
    entrants: Sequence[Entrant], rungs: Sequence[Rung], run: Callable[[Entrant, Rung, int], Finished | Failed]
) -> list[Entrant]:
    """Run the rungs; the entrants that are left, best first. A failed training leaves the race."""
    left = list(entrants)
    for number, rung in enumerate(rungs):
        for entrant in left:
            entrant.results.append(run(entrant, rung, number))
        ranked = [entrant for entrant in left if isinstance(entrant.results[-1], Finished)]
        ranked.sort(key=_order)
        left = ranked[: rung.kept]
    return left


def _order(entrant: Entrant) -> tuple[float, float]:
    trial = entrant.last
    accuracy = trial.accuracy if math.isfinite(trial.accuracy) else -1.0
    loss = trial.loss if math.isfinite(trial.loss) else math.inf
    return -accuracy, loss
