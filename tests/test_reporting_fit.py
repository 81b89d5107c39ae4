"""The report of a fit, from what fit returns."""

import copy

import numpy as np
import pytest
from reporting_sample import Page

from resfit.data.dataset import ArrayDataset
from resfit.reporting.fit_report import write_fit_report

LABELS = ("cat", "dog", "owl")


def _candidate(network: str, precision: str, *, latency: float | None, kilobytes: float, reason: str = "") -> dict:
    return {
        "network": network, "precision": precision, "latency_ms": latency, "file_kb": kilobytes, "memory_mb": None,
        "macs_m": 1.5, "energy_mj": None, "fits": not reason, "reason": reason,
    }  # fmt: skip


RESULT = {
    "data": "../my pets", "model": "resnet8-w16", "max_drop": 1.0, "int8_drop": 0.4, "img_size": None, "seed": 0,
    "time_minutes": 1.5,
    "budgets": [
        {"name": "latency_ms", "limit": 2.0, "measured": 0.9, "holds": True, "basis": "median of 50 runs"},
        {"name": "file_kb", "limit": 60.0, "measured": 41.2, "holds": True, "basis": "size of the artifact file"},
    ],
    "binding": [], "nearest": [], "accuracy": 2 / 3, "accuracy_interval": [0.35, 0.88], "num_images": 6,
    "artifact": {"path": "fits/pets/model.onnx", "sha256": "ab" * 32, "file_bytes": 41_200, "precision": "int8"},
    "measured": {"latency_ms": 0.9, "file_bytes": 41_200, "macs": 1_500_000},
    "basis": {"latency_ms": "median of 50 runs"},
    "candidates": [
        _candidate("resnet8-w8", "fp32", latency=0.5, kilobytes=30),
        _candidate("resnet8-w16", "fp32", latency=None, kilobytes=120, reason="file_kb 120 over 60"),
        _candidate("resnet8-w16", "int8", latency=0.9, kilobytes=41),
        _candidate("resnet50", "fp32", latency=20.0, kilobytes=90_000, reason="latency_ms 20 over 2"),
    ],
    "race": {
        "rungs": [{"entered": 2, "kept": 1, "seconds": 10.0}],
        "entrants": [
            {"network": "resnet8-w8", "accuracies": [0.6], "failed": [], "epochs": [3.0]},
            {"network": "resnet8-w16", "accuracies": [0.7], "failed": [], "epochs": [2.0]},
        ],
    },
    "history": [
        {"epoch": 1, "loss": 1.0, "validation_accuracy": 0.5},
        {"epoch": 2, "loss": 0.5, "validation_accuracy": 0.7},
    ],
    "recipe": {"batch_size": 64, "ema_decay": None},
    "roles": {"train": {"num_images": 60, "source": "train/"}, "test": {"num_images": 6, "source": "val/"}},
    "fingerprint": "cd" * 32, "machine": {"processor": "Zen", "cores": 2}, "engine": "onnxruntime", "threads": 2,
}  # fmt: skip


@pytest.fixture
def proof_images() -> ArrayDataset:
    images = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    return ArrayDataset(images=images, targets=np.array([0, 0, 1, 1, 2, 2]), labels=LABELS, names=tuple("abcdef"))


LOGITS = np.log(
    np.array(
        [[0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.05, 0.9, 0.05], [0.1, 0.1, 0.8]],
        dtype=np.float32,
    )
)


def _text(folder, result, proof_images) -> str:
    return Page(write_fit_report(folder, result, LOGITS, proof_images).read_text(encoding="utf-8")).text


def test_report_of_a_fit_tells_verdict_race_and_proof(tmp_path, proof_images):
    text = _text(tmp_path, RESULT, proof_images)
    assert "resnet8-w16 for my pets" in text
    assert "Every budget holds, with 66.7 % right on 6 images" in text
    assert (
        "resfit fit '../my pets' --latency-ms 2 --file-kb 60 --time-minutes 1.5 --max-drop 1 --seed 0 --threads 2"
        in text
    )
    assert "Stored as int8, which costs 0.40 points" in text
    assert "resnet8-w16 0.90 41 1.50 70.0 % won resnet8-w8 0.50 30 1.50 60.0 % raced" in text
    assert "resnet50 20 90,000 1.50 latency_ms 20 over 2" in text
    assert "Round 1: 2 in, 2.50 epochs, 10 s, 1 kept." in text
    assert "cd" * 32 in text
    assert "ema" not in text


def test_mistakes_are_the_surest_wrong_answers_first(tmp_path, proof_images):
    text = _text(tmp_path, RESULT, proof_images)
    assert text.index("dog 90.0 % is owl e") < text.index("owl 70.0 % is cat b")
    assert "1 0 1" in text  # cats: one right, one taken for an owl


def test_a_budget_that_does_not_hold_is_the_headline(tmp_path, proof_images):
    result = copy.deepcopy(RESULT)
    result["budgets"][1] |= {"measured": 120.0, "holds": False}
    result |= {
        "binding": ["file_kb"], "int8_drop": 2.5, "artifact": RESULT["artifact"] | {"precision": "fp32"},
        "nearest": [{"network": "resnet8-w8", "accuracy": 0.6, "energy_mj": None}],
    }  # fmt: skip
    text = _text(tmp_path, result, proof_images)
    assert "Over budget: file_kb." in text
    assert "Kept as float32: int8 would cost 2.50 points on the validation images, over --max-drop 1." in text
    assert "Nearest feasible points network accuracy resnet8-w8 60.0 %" in text


def test_a_training_that_failed_is_told(tmp_path, proof_images):
    result = copy.deepcopy(RESULT)
    result["race"]["entrants"][0] |= {"accuracies": [], "failed": ["the loss became nan"], "epochs": []}
    assert "resnet8-w8 0.50 30 1.50 the loss became nan" in _text(tmp_path, result, proof_images)
