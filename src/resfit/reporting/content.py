"""What a report shows: plain data, without torch, that `report.write_report` lays out on a page.

Everything but the title is optional; a section without content is left out, so that a training run, an
evaluation and a whole fit share one page. Accuracies are fractions, sizes bytes, times in the unit named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from resfit.budget import Verdict

Outcome = Literal["won", "raced", "dropped", "failed"]


@dataclass(frozen=True, kw_only=True)
class ProvenAccuracy:
    """The accuracy on images that served no choice.

    low, high: bounds of the 95 % interval; confusion: counts [true class, predicted class], integers;
    source: where the images came from, a phrase ("val/", "the test file").
    """

    accuracy: float
    low: float
    high: float
    num_images: int
    labels: tuple[str, ...] = ()
    confusion: np.ndarray | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network of the ladder.

    latency_ms, file_bytes, macs: measured (or counted) of its untrained artifact, None where it was not;
    accuracies: on the validation images, one a rung that it ran, in order;
    outcome: won; raced (and lost); dropped before the race; failed; reason: why, a phrase.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    latency_ms: float | None = None
    file_bytes: int | None = None
    macs: int | None = None
    accuracies: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One round of the race: how many networks entered, how many went on, and what each was trained for."""

    entered: int
    kept: int
    epochs: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One point of the training curve; epoch counts from 1, loss is the mean over the training images."""

    epoch: int
    loss: float
    validation_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test image that the network got wrong; pixels: uint8, height x width x (1 or 3)."""

    pixels: np.ndarray
    name: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """One report.

    title: what it is about, a few words; headline: the verdict in one sentence; holds: whether every budget
    holds, None where there was none; command: what was typed; notes: what the reader must know besides;
    facts: the numbers to show large, by caption, already worded ("latency": "4.31 ms");
    budgets: what Budget.check returned; nearest: for a budget not met, the nearest feasible points, a mapping
    each with the same keys, worded as they should be read;
    latency_limit_ms, min_accuracy: lines in the picture of the candidates;
    file_limit_bytes: larger candidates are drawn hollow;
    provenance: sections (Data, Training, Machine ..) of facts by name.
    """

    title: str
    headline: str = ""
    holds: bool | None = None
    command: str = ""
    created: str = ""
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    budgets: tuple[Verdict, ...] = ()
    nearest: tuple[Mapping[str, object], ...] = ()
    test: ProvenAccuracy | None = None
    candidates: tuple[Candidate, ...] = ()
    rungs: tuple[Rung, ...] = ()
    latency_limit_ms: float | None = None
    file_limit_bytes: float | None = None
    min_accuracy: float | None = None
    curve: tuple[Epoch, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    provenance: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CardContent:
    """A model card, the README.md of a run folder.

    architecture: name or short description; labels in the order of the outputs; preprocessing: a sentence;
    usage: shell lines that use the model; facts: by name, already worded; notes: limits, assumptions.
    """

    name: str
    architecture: str
    trained: bool
    labels: tuple[str, ...]
    preprocessing: str
    facts: Mapping[str, object] = field(default_factory=dict)
    training: Mapping[str, object] = field(default_factory=dict)
    data: Mapping[str, object] = field(default_factory=dict)
    usage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    created: str = ""
    resfit_version: str = ""
