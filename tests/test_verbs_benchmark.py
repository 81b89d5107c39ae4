"""`resfit benchmark`: rows that were measured, and what must be said about them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.compression.quantise import quantise
from resfit.engines.artifact import build
from resfit.errors import DataError, UsageError
from resfit.measure import comparison, roofline
from resfit.measure.comparison import Candidate, compare
from resfit.measure.elsewhere import read_profile
from resfit.measure.roofline import Roofline
from resfit.verbs.benchmark import slower_int8

ROW = {
    "engine", "peer", "precision", "batch_size", "threads", "runs", "latency_ms_p50", "latency_ms_p99",
    "latency_ms_quartiles", "latency_ms_rounds", "images_per_second", "load_ms", "memory_bytes", "file_bytes",
    "ratio_to_best", "roofline_ms", "share_of_roofline",
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
    assert result["roofline"]["threads"] == 1
    kinds = [(found["precision"], found["batch_size"]) for found in result["results"]]
    assert kinds == [("fp32", 1), ("int8", 1), ("fp32", 4), ("int8", 4)]
    for found in result["results"]:
        assert set(found) - {"energy_mj"} == ROW
        assert found["latency_ms_quartiles"][0] <= found["latency_ms_p50"] <= found["latency_ms_quartiles"][1]
        assert len(found["latency_ms_rounds"]) == 3
        assert found["load_ms"] > 0
        assert 0 < found["share_of_roofline"] == pytest.approx(found["roofline_ms"] / found["latency_ms_p50"])
        assert found["threads"] == 1
        assert 0 < found["latency_ms_p50"] <= found["latency_ms_p99"]
        assert found["images_per_second"] == pytest.approx(1000 * found["batch_size"] / found["latency_ms_p50"])
        assert found["ratio_to_best"] >= 1
    assert result["results"][1]["file_bytes"] < result["results"][0]["file_bytes"]


def test_each_candidate_is_measured_three_times_with_the_others_between(tmp_path, monkeypatch):
    order = []
    real = comparison.run_child

    def noted(request, *module):
        order.append(request.batch_size)
        return real(request, *module)

    monkeypatch.setattr(comparison, "run_child", noted)
    path = build(small_model(small_spec()), tmp_path / "small.onnx").path
    candidates = [Candidate(artifact=path, engine="onnxruntime", precision="fp32", batch_size=size) for size in (1, 2)]
    rows = compare(candidates, threads=1)
    assert order == [1, 2, 1, 2, 1, 2]
    assert all(found["runs"] >= 100 for found in rows)


def test_a_file_is_timed_as_it_is(tmp_path, capsys):
    model = small_model(small_spec())
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    path = build(quantise(model, images), tmp_path / "small.onnx", precision="int8").path
    result = resfit.benchmark(str(path), threads=1)
    assert [(row["engine"], row["precision"]) for row in result["results"]] == [
        ("onnxruntime", "int8"), ("openvino", "int8"),
    ]  # fmt: skip
    assert all(row["file_bytes"] == path.stat().st_size for row in result["results"])
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
        ({"against": ["tensorrt"]}, "there is no library to measure against 'tensorrt'"),
        ({"energy_estimate": 0.0}, "--energy-estimate is 0"),
        ({"script": "a", "on": "b"}, "two steps"),
        ({"engine": "onyxruntime"}, "there is no engine 'onyxruntime'"),
        ({"engine": "torch", "precision": "int8"}, "nothing to time: the torch format has no precision 'int8'"),
    ],
)
def test_wrong_flags_are_usage_errors(flags, message):
    with pytest.raises(UsageError, match=message):
        resfit.benchmark("resnet8", **flags)


@pytest.fixture
def still(monkeypatch):
    """Peaks of a machine, without measuring them."""
    peaks = Roofline(threads=1, gemm_gops={"fp32": 100.0, "int8": 400.0}, memory_gb_per_second=10.0)
    monkeypatch.setattr(roofline, "roofline", lambda _threads: peaks)


@pytest.mark.usefixtures("still")
def test_other_libraries_take_their_turn(capsys, tmp_path):
    picture = tmp_path / "speed.svg"
    flags = ["--img-size", "32", "--engine", "onnxruntime", "--precision", "fp32", "--threads", "1", "--json"]
    assert main(["benchmark", "resnet18", *flags, "--against", "timm,onnxruntime", "--plot", str(picture)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(row["engine"], row["peer"]) for row in result["results"]] == [
        ("onnxruntime", False), ("timm", True), ("onnxruntime", True),
    ]  # fmt: skip
    assert all(row["threads"] == 1 and row["precision"] == "fp32" for row in result["results"])
    assert min(row["ratio_to_best"] for row in result["results"]) == 1
    drawn = picture.read_text()
    assert "timm fp32, batch 1" in drawn
    assert drawn.count('class="limit"') == 3


@pytest.mark.usefixtures("still")
def test_energy_is_estimated_only_when_asked_for_and_named_so(tmp_path):
    path = build(small_model(small_spec()), tmp_path / "small.onnx").path
    plain, estimated = (resfit.benchmark(str(path), threads=1, energy_estimate=watts) for watts in (None, 10.0))
    if "energy_mj" not in plain["results"][0]:  # a machine with a meter measures
        assert "energy_mj_estimate" not in plain["results"][0]
        row = estimated["results"][0]
        assert row["energy_mj_estimate"] == pytest.approx(10 * row["latency_ms_p50"])
    assert "estimate" in estimated["notes"][-1]
    assert "estimate" not in str(plain["notes"])


@pytest.mark.usefixtures("still")
def test_another_seed_times_other_weights(monkeypatch):
    seen = []

    def seeds(contestants, *, threads):
        seen.append((contestants[0].artifact.read_bytes(), threads))
        return []

    monkeypatch.setattr(comparison, "compare", seeds)
    for seed in (0, 0, 1):
        resfit.benchmark("resnet8", engine="onnxruntime", precision="fp32", seed=seed, threads=1)
    assert seen[0] == seen[1] != seen[2]


def test_a_script_measures_elsewhere_and_its_profile_is_read_back(tmp_path, capsys):
    folder = tmp_path / "there"
    network = ["benchmark", "resnet8", "--img-size", "16"]
    assert main([*network, "--script", str(folder)]) == 0
    assert "python measure.py" in capsys.readouterr().out
    flags = ["--threads", "1", "--batch-size", "1", "2"]
    done = subprocess.run(
        [sys.executable, "-P", str(folder / "measure.py"), *flags], capture_output=True, check=True, cwd=tmp_path
    )
    profile = tmp_path / "profile.json"
    profile.write_bytes(done.stdout)
    assert main([*network, "--on", str(profile), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    kinds = [(row["precision"], row["batch_size"]) for row in result["results"]]
    assert kinds == [("fp32", 1), ("int8", 1), ("fp32", 2), ("int8", 2)]
    assert "another machine" in result["notes"][0]
    assert result["machine"]["cores"] >= 1
    with pytest.raises(UsageError, match="other files than those of resnet14"):
        resfit.benchmark("resnet14", img_size=16, on=str(profile))
    (folder / "fp32.onnx").write_bytes(b"changed")
    refused = subprocess.run([sys.executable, str(folder / "measure.py")], capture_output=True, check=False)
    assert refused.returncode == 1
    assert b"is not the file that was exported" in refused.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "is no profile"),
        ('{"profile": 2}', "version 2, expected 1"),
        ('{"profile": 1, "machine": {}, "artifacts": [], "results": [{"batch_size": 1}]}', "latency_ms_p50"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path, content, message):
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_profile(path)
    with pytest.raises(UsageError, match="there is no profile"):
        read_profile(tmp_path / "none.json")


def test_int8_is_called_slower_only_where_it_is():
    rows = [
        row("onnxruntime", "fp32", 1.0),
        row("onnxruntime", "int8", 1.5),
        row("onnxruntime", "fp32", 8.0, 8),
        row("onnxruntime", "int8", 4.0, 8),
        row("torch", "fp32", 0.5),
    ]
    assert slower_int8(rows) == ["int8 is slower than fp32 here with onnxruntime at batch 1: 1.5 ms against 1 ms"]
