"""What an artifact costs, measured in a process of its own."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fake_session import FakeSession, brightness
from small_models import small_model, small_spec

from resfit.engines.artifact import build
from resfit.errors import EngineError, UsageError
from resfit.measure import artifact as measuring
from resfit.measure.artifact import measure, percentile
from resfit.measure.child import logits_in_batches, timed_runs
from resfit.measure.macs import macs
from resfit.measure.memory import peak_memory_bytes
from resfit.measure.request import Report, Request

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    return build(small_model(small_spec()), tmp_path_factory.mktemp("artifact") / "small.onnx").path


def request_to(path, **changes):
    values = {
        "artifact": str(path),
        "engine": "onnxruntime",
        "threads": 1,
        "image_shape": (16, 16, 3),
        "quantities": ("latency_ms",),
    }
    return Request(**{**values, **changes})


def test_every_quantity_asked_for_is_measured_and_says_how(onnx_file):
    found = measure(onnx_file, threads=2, quantities=("latency_ms", "file_bytes", "memory_bytes", "macs"), repeats=20)
    assert 0 < found.latency_ms < 1000
    assert found.file_bytes == onnx_file.stat().st_size
    assert 0 < found.memory_bytes < 200 * MEGABYTE
    assert found.macs == macs(small_spec(), 16, 16)
    assert set(found.basis) == {"latency_ms", "file_bytes", "memory_bytes", "macs"}
    assert "onnxruntime, 2 threads, own process" in found.basis["latency_ms"]
    assert (found.energy_mj, found.accuracy) == (None, None)


def test_what_needs_no_run_starts_no_process(onnx_file, monkeypatch):
    monkeypatch.setattr(measuring, "run_child", lambda _request: pytest.fail("a process was started"))
    found = measure(onnx_file, quantities=("file_bytes",))
    assert found.file_bytes == onnx_file.stat().st_size
    assert found.latency_ms is None


def test_torch_artifacts_are_measured_through_torch(tmp_path):
    path = build(small_model(small_spec()), tmp_path / "small.safetensors", format="torch").path
    found = measure(path, engine="torch", threads=1, quantities=("latency_ms", "memory_bytes"), repeats=5)
    assert found.latency_ms > 0
    assert "torch, 1 thread, own process" in found.basis["latency_ms"]


def test_memory_holds_the_weights_and_nothing_of_the_parent(tmp_path):
    ballast = np.ones(300 * MEGABYTE, np.uint8)
    wide = small_spec(widths=(8, 1024), depths=(1, 1))
    path = build(small_model(wide), tmp_path / "wide.onnx").path
    assert path.stat().st_size > 35 * MEGABYTE
    found = measure(path, threads=1, quantities=("memory_bytes",), repeats=3)
    assert path.stat().st_size < found.memory_bytes < ballast.nbytes


def test_the_measuring_process_imports_neither_torch_nor_onnx(onnx_file):
    program = (
        "import sys; from resfit.measure.child import measure_here; "
        "from resfit.measure.request import Request; "
        "measure_here(Request.from_json(sys.stdin.read())); "
        "print(sorted({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    )
    text = request_to(onnx_file, repeats=2, min_seconds=0.0).to_json()
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['onnxruntime']"


def test_the_report_is_all_that_stands_on_standard_output(onnx_file):
    command = [sys.executable, "-P", "-m", "resfit.measure.child"]
    text = request_to(onnx_file, repeats=7, min_seconds=0.0).to_json()
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    report = Report.from_dict(json.loads(done.stdout))
    assert len(report.latencies_ms) == 7
    assert report.sha256_before == report.sha256_after
    assert report.memory_bytes is None


def test_runs_take_different_images_turn_about_and_warm_up_first():
    session = FakeSession(brightness)
    batches = np.arange(3, dtype=np.uint8).repeat(192).reshape(3, 1, 8, 8, 3)
    latencies = timed_runs(session, batches, request_to("x", warmup=2, repeats=7, min_seconds=0.0))
    assert len(latencies) == 7
    assert [int(run[0, 0, 0, 0]) for run in session.runs] == [0, 1, 0, 1, 2, 0, 1, 2, 0]


def test_a_slow_network_is_timed_on_fewer_runs_and_a_fast_one_on_more():
    def slow(images):
        time.sleep(0.02)
        return brightness(images)

    batches = np.zeros((1, 1, 8, 8, 3), np.uint8)
    few = timed_runs(FakeSession(slow), batches, request_to("x", warmup=0, repeats=50, max_seconds=0.1))
    many = timed_runs(FakeSession(brightness), batches, request_to("x", warmup=0, repeats=5, min_seconds=0.1))
    assert 1 <= len(few) <= 6
    assert min(few) >= 20
    assert len(many) > 5


def test_logits_in_batches_are_those_of_one_run_and_in_order():
    session = FakeSession(brightness)
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(logits_in_batches(session.run, images), brightness(images))
    assert len(session.runs) == 3


def test_energy_is_read_around_many_runs(onnx_file, tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("1000000000")
    (zone / "energy_uj").write_text("0")
    stop = threading.Event()

    def spend():  # 1 J every 10 ms: 100 W
        for count in itertools.count(1):
            (tmp_path / "next").write_text(str(count * 1_000_000))
            os.replace(tmp_path / "next", zone / "energy_uj")
            if stop.wait(0.01):
                return

    thread = threading.Thread(target=spend)
    thread.start()
    try:
        found = measure(onnx_file, threads=1, quantities=("energy_mj",), repeats=1, powercap=tmp_path)
    finally:
        stop.set()
        thread.join()
    assert found.energy_mj > 0
    assert "idle power included" in found.basis["energy_mj"]


def test_energy_without_a_meter_is_refused_before_anything_runs(onnx_file, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "run_child", lambda _request: pytest.fail("a process was started"))
    with pytest.raises(UsageError, match="this machine has no energy meter"):
        measure(onnx_file, quantities=("latency_ms", "energy_mj"), powercap=tmp_path)


def test_unknown_names_are_usage_errors_with_the_nearest_right_one(onnx_file):
    with pytest.raises(UsageError, match="'latency' is not a quantity") as caught:
        measure(onnx_file, quantities=("latency",))
    assert "latency_ms" in caught.value.hint
    with pytest.raises(UsageError, match="there is no engine 'onnxruntim'") as caught:
        measure(onnx_file, engine="onnxruntim")
    assert "onnxruntime" in caught.value.hint


def test_the_engines_own_error_comes_back_from_the_process(onnx_file):
    with pytest.raises(EngineError, match=r"torch cannot open .*small\.onnx") as caught:
        measure(onnx_file, engine="torch")
    assert "onnxruntime" in caught.value.hint


def test_a_file_that_is_no_artifact_is_named(tmp_path):
    (tmp_path / "odd.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(EngineError, match=r"odd\.onnx"):
        measure(tmp_path / "odd.onnx")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -9 $$", r"was ended by SIGKILL \(out of memory\?\)"),
        ("echo it broke >&2; exit 7", "failed: it broke"),
        ("exit 7", "failed: exit code 7"),
    ],
)
def test_a_process_that_dies_is_an_engine_error_that_says_how(onnx_file, tmp_path, monkeypatch, script, message):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(EngineError, match=message):
        measure(onnx_file)


def test_memory_is_read_from_vmhwm_and_its_absence_is_said(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n")
    assert peak_memory_bytes(tmp_path / "status") == 2048 * 1024
    with pytest.raises(EngineError, match="memory cannot be measured on this system"):
        peak_memory_bytes(tmp_path / "absent")
    (tmp_path / "status").write_text("Name:\tpython\n")
    with pytest.raises(EngineError, match="no VmHWM"):
        peak_memory_bytes(tmp_path / "status")


@pytest.mark.parametrize(("percent", "expected"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_percentile_is_a_value_that_was_measured(percent, expected):
    values = [float(value) for value in range(100, 0, -1)]
    assert percentile(values, percent) == expected


def test_a_request_and_a_report_survive_json():
    request = request_to("x", images="i.npy", batch_size=4)
    assert Request.from_json(request.to_json()) == request
    report = Report(sha256_before="a", sha256_after="a", file_bytes=1, engine="e", threads=1, latencies_ms=(1.0, 2.0))
    assert Report.from_dict(json.loads(report.to_json())) == report
