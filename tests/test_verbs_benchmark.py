"""`resfit benchmark`: rows that were measured, and what must be said about them."""

import json

import numpy as np
import pytest
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.compression.quantise import quantise
from resfit.engines.artifact import build
from resfit.errors import UsageError
from resfit.measure.comparison import Candidate, compare
from resfit.verbs.benchmark import slower_int8

ROW = {
    "engine", "precision", "batch_size", "threads", "runs", "latency_ms_p50", "latency_ms_p99",
    "images_per_second", "memory_bytes", "file_bytes", "ratio_to_best",
}  # fmt: skip


def row(engine, precision, milliseconds, batch_size=1):
    return {"engine": engine, "precision": precision, "batch_size": batch_size, "latency_ms_p50": milliseconds}


def test_a_network_by_name_is_timed_untrained_and_its_noise_calibration_is_said(capsys):
    flags = ["--img-size", "16", "--engine", "onnxruntime", "--batch-size", "1", "4", "--threads", "1"]
    assert main(["benchmark", "resnet8", *flags, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["weights"], result["img_size"]) == ("untrained", [16, 16])
    assert any("noise" in note for note in result["notes"])
    assert result["machine"]["cores"] >= 1
    kinds = [(found["precision"], found["batch_size"]) for found in result["results"]]
    assert kinds == [("fp32", 1), ("int8", 1), ("fp32", 4), ("int8", 4)]
    for found in result["results"]:
        assert set(found) == ROW
        assert found["threads"] == 1
        assert 0 < found["latency_ms_p50"] <= found["latency_ms_p99"]
        assert found["images_per_second"] == pytest.approx(1000 * found["batch_size"] / found["latency_ms_p50"])
        assert found["ratio_to_best"] >= 1
    assert result["results"][1]["file_bytes"] < result["results"][0]["file_bytes"]


def test_each_candidate_is_measured_twice_with_the_others_between(tmp_path, monkeypatch):
    from resfit.measure import comparison

    order = []
    real = comparison.run_child

    def noted(request):
        order.append(request.batch_size)
        return real(request)

    monkeypatch.setattr(comparison, "run_child", noted)
    path = build(small_model(small_spec()), tmp_path / "small.onnx").path
    candidates = [Candidate(artifact=path, engine="onnxruntime", precision="fp32", batch_size=size) for size in (1, 2)]
    rows = compare(candidates, threads=1)
    assert order == [1, 2, 1, 2]
    assert all(found["runs"] >= 100 for found in rows)


def test_a_file_is_timed_as_it_is(tmp_path, capsys):
    model = small_model(small_spec())
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    path = build(quantise(model, images), tmp_path / "small.onnx", precision="int8").path
    result = resfit.benchmark(str(path), threads=1)
    (found,) = result["results"]
    assert (found["engine"], found["precision"]) == ("onnxruntime", "int8")
    assert found["file_bytes"] == path.stat().st_size
    assert result["notes"] == []
    assert main(["benchmark", str(path), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "onnxruntime  int8" in shown
    assert "best" in shown


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"img_size": 32}, "takes images of 16 x 16, not --img-size 32"),
        ({"precision": ["int8"]}, "is of precision fp32, not int8"),
        ({"engine": ["torch"]}, "torch cannot open"),
    ],
)
def test_what_a_file_cannot_do_is_a_usage_error(tmp_path, flags, message):
    path = build(small_model(small_spec()), tmp_path / "small.onnx").path
    with pytest.raises(UsageError, match=message):
        resfit.benchmark(str(path), **flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"batch_size": [1, 0]}, "--batch-size is 0"),
        ({"threads": 0}, "--threads is 0"),
        ({"img_size": -1}, "--img-size is -1"),
        ({"engine": "onyxruntime"}, "there is no engine 'onyxruntime'"),
        ({"engine": "torch", "precision": "int8"}, "nothing to time: torch has no int8"),
    ],
)
def test_wrong_flags_are_usage_errors(flags, message):
    with pytest.raises(UsageError, match=message):
        resfit.benchmark("resnet8", **flags)


def test_int8_is_called_slower_only_where_it_is():
    rows = [
        row("onnxruntime", "fp32", 1.0),
        row("onnxruntime", "int8", 1.5),
        row("onnxruntime", "fp32", 8.0, 8),
        row("onnxruntime", "int8", 4.0, 8),
        row("torch", "fp32", 0.5),
    ]
    assert slower_int8(rows) == ["int8 is slower than fp32 here with onnxruntime at batch 1: 1.5 ms against 1 ms"]
