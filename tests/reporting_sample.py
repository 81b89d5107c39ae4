"""A report with every section filled, and a reader of pages, shared by the reporting tests."""

from html.parser import HTMLParser

import numpy as np

from resfit.budget import Budget, Measurement
from resfit.nn.architectures import architecture
from resfit.reporting.content import (
    Answer,
    Calibration,
    Candidate,
    ClassScore,
    ConfidenceBin,
    DataAudit,
    Epoch,
    NetworkLayout,
    ProvenAccuracy,
    ReportContent,
    Rung,
)

LABELS = ("daisy", "dandelion", "<b>roses</b>")


VOID = {"meta", "img", "br", "link", "wbr"}


class Page(HTMLParser):
    """What a page holds: balanced tags, attribute values, text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def candidates() -> tuple[Candidate, ...]:
    """Eight that raced over three rounds, one of which won, and two that were dropped first."""
    raced = [
        Candidate(
            name=f"resnet{8 + 6 * index}-w16",
            outcome="won" if index == 3 else "raced",
            reason="" if index == 3 else "slower and no better",
            latency_ms=0.5 * 1.4**index,
            file_bytes=20_000 * 2**index,
            macs=1_000_000 * 3**index,
            accuracies=tuple(0.5 + 0.04 * index + 0.03 * rung for rung in range(3 if index == 3 else 1)),
        )
        for index in range(8)
    ]
    dropped = [
        Candidate(name="resnet50", outcome="dropped", reason="latency_ms 46.2 over 5", latency_ms=46.2),
        Candidate(name="resnet110", outcome="failed", reason="ran out of memory"),
    ]
    return (*raced, *dropped)


def calibration() -> Calibration:
    """Three bins of which the middle one is empty, the first too unsure and the last too sure."""
    rows = ((0.0, 1 / 3, 50, 0.3, 0.5), (1 / 3, 2 / 3, 0, None, None), (2 / 3, 1.0, 100, 0.9, 0.6))
    bins = tuple(
        ConfidenceBin(low=low, high=high, count=count, confidence=confidence, accuracy=accuracy)
        for low, high, count, confidence, accuracy in rows
    )
    return Calibration(ece=0.266, bins=bins)


def full_content() -> ReportContent:
    """Every section, and markup in every place where a user's text can come."""
    generator = np.random.default_rng(0)
    measured = Measurement(
        latency_ms=1.4, file_bytes=160_000, accuracy=0.81, basis={"latency_ms": "median of <400> runs"}
    )
    budget = Budget.from_flags(latency_ms=5, file_kb=100, min_accuracy=0.8)
    return ReportContent(
        title="<script>alert(1)</script> photos & more",
        headline="Not met: file_kb.",
        holds=False,
        command="resfit fit 'a&b' --latency-ms 5",
        created="2026-11-24",
        notes=("A note with <i>markup</i>.",),
        facts={"accuracy": "81.0 %"},
        budgets=budget.check(measured),
        nearest=({"network": "resnet8-w16", "file_kb": 20.0}, {"network": "resnet14-w16", "accuracy": 0.5}),
        test=ProvenAccuracy(
            accuracy=0.81,
            low=0.74,
            high=0.86,
            num_images=150,
            labels=LABELS,
            confusion=np.array([[45, 3, 2], [1, 41, 8], [0, 15, 35]]),
            source="val/",
        ),
        candidates=candidates(),
        rungs=tuple(Rung(entered=8 // 2**i, kept=4 // 2**i, epochs=2.0**i, seconds=30) for i in range(3)),
        latency_limit_ms=5,
        file_limit_bytes=100_000,
        min_accuracy=0.8,
        curve=tuple(
            Epoch(
                epoch=index + 1,
                loss=1 / (index + 1),
                validation_accuracy=0.8 - 0.3 / (index + 1),
                validation_loss=1.2 / (index + 1),
                lr=0.1 - 0.008 * index,
                images_per_second=900 + index,
            )
            for index in range(12)
        ),
        classes=(
            ClassScore(label=LABELS[0], num_images=50, precision=0.978, recall=0.9, f1=0.938),
            ClassScore(label=LABELS[1], num_images=50, precision=0.695, recall=0.82, f1=0.752),
            ClassScore(label=LABELS[2], num_images=50, precision=None, recall=0.0, f1=0.0),
        ),
        calibration=calibration(),
        mistakes=tuple(
            Answer(
                pixels=generator.integers(0, 255, shape, dtype=np.uint8),
                name=f"val/roses/{index}.jpg",
                label=LABELS[2],
                predicted=LABELS[0],
                probability=0.9,
            )
            for index, shape in enumerate([(8, 8, 1), (64, 64, 3), (300, 200, 3)])
        ),
        right=(
            Answer(
                pixels=generator.integers(0, 255, (16, 16, 3), dtype=np.uint8),
                name="val/daisy/7.jpg",
                label=LABELS[0],
                predicted=LABELS[0],
                probability=0.995,
                looked=np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4),
            ),
        ),
        network=NetworkLayout(spec=architecture("resnet20"), height=32, width=32),
        audit=DataAudit(
            num_images={"train": 300, "validation": 30, "test": 150},
            class_counts={
                "train": {LABELS[0]: 100, LABELS[1]: 190, LABELS[2]: 10},
                "test": dict.fromkeys(LABELS, 50),
            },
            skipped=(("train/<i>broken</i>.jpg", "truncated & short"),),
            duplicates=2,
            leaks=1,
        ),
        provenance={"Data": {"train": "2,250 images", "seed": 0}, "Machine": {"cores": 2}},
    )
