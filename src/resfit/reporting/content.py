"""What a report shows: plain data, without torch, that `report.write_report` lays out on a page.

Everything but the title is optional; a section without content is left out, so that a training run, an
evaluation and a whole fit share one page. Accuracies are fractions, sizes bytes, times in the unit named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from resfit.budget import Verdict
from resfit.nn.spec import ResNetSpec

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
    """One point of the training curves.

    epoch counts from 1 and is a fraction where the last one was cut short; losses are means in nats, `loss`
    over the training images as the training saw them; lr that of the epoch's last step.
    """

    epoch: float
    loss: float
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    lr: float | None = None
    images_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the network said of one test image.

    pixels: uint8, height x width x (1 or 3); probability: of `predicted`; looked: where in the image the
    evidence for `predicted` lay, float (h, w) from 0 to 1 in any resolution, None where it was not computed.
    """

    pixels: np.ndarray
    name: str
    label: str
    predicted: str
    probability: float
    looked: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class ConfidenceBin:
    """Answers whose probability lies from `low` to `high`: how many, their mean probability, the share right.

    confidence and accuracy are None in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether probabilities mean what they say; ece: expected calibration error, a fraction (Guo et al. 2017)."""

    ece: float
    bins: tuple[ConfidenceBin, ...]


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class on the test images; a score is None where it is not defined (no image, or never predicted)."""

    label: str
    num_images: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class NetworkLayout:
    """The network that is drawn, at its input size in pixels."""

    spec: ResNetSpec
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class DataAudit:
    """What reading the data found.

    num_images: by role; class_counts: by role and label; skipped: name and reason of files that could not be
    read; duplicates: groups of images of equal content; leaks: images that two roles share.
    """

    num_images: Mapping[str, int]
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    skipped: tuple[tuple[str, str], ...] = ()
    duplicates: int = 0
    leaks: int = 0


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
    mistakes, right: answers with their pictures, wrong and right ones;
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
    classes: tuple[ClassScore, ...] = ()
    calibration: Calibration | None = None
    mistakes: tuple[Answer, ...] = ()
    right: tuple[Answer, ...] = ()
    network: NetworkLayout | None = None
    audit: DataAudit | None = None
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
