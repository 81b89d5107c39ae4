"""`resfit predict`, from the command line and from Python."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.engines.artifact import build
from resfit.errors import UsageError
from resfit.model.run_folder import save


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No engine that was chosen before, here or in another test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def run(tmp_path):
    save(small_model(small_spec()), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("blue.png", (0, 0, 255)), ("red.jpg", (255, 0, 0))):
        Image.new("RGB", (40, 30), colour).save(folder / name)
    return folder


def test_json_has_a_row_for_each_picture(run, pictures, capsys):
    assert main(["predict", str(run), str(pictures / "red.jpg"), str(pictures), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in result["predictions"]] == [
        str(pictures / "red.jpg"),
        str(pictures / "blue.png"),
    ]
    for row in result["predictions"]:
        assert row["label"] in ("class 0", "class 1", "class 2")
        assert 0 < row["probability"] <= 1
    assert (result["num_images"], result["failed"], result["trained"]) == (2, 0, True)


def test_python_gives_what_json_prints(run, pictures, capsys):
    main(["predict", str(run), str(pictures), "--json"])
    assert resfit.predict(str(run), [str(pictures)]) == json.loads(capsys.readouterr().out)
    assert resfit.predict(str(run), str(pictures))["num_images"] == 2


def test_a_bad_picture_fails_the_command_and_not_the_others(run, pictures, capsys):
    (pictures / "cut.jpg").write_bytes((pictures / "red.jpg").read_bytes()[:100])
    assert main(["predict", str(run), str(pictures), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] == 1
    assert ["error" in row for row in result["predictions"]] == [False, True, False]


def test_a_person_sees_path_probability_and_label(run, pictures, capsys):
    (pictures / "cut.jpg").write_bytes(b"")
    assert main(["predict", str(run), str(pictures), "--top-k", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + 2 + 1
    assert lines[0].startswith(str(pictures / "blue.png"))
    assert "%  class " in lines[0]
    assert lines[1].startswith(" ")
    assert lines[2].endswith("cannot be read: cannot be decoded (the file is empty)")
    assert lines[-1] == "1 of 3 images could not be read"


def test_engines_and_artifacts_agree(run, pictures, tmp_path):
    artifact = build(small_model(small_spec()), tmp_path / "model.onnx").path
    results = [
        resfit.predict(str(run), [str(pictures)]),
        resfit.predict(str(run), [str(pictures)], engine="torch"),
        resfit.predict(str(artifact), [str(pictures)], threads=1),
    ]
    assert [result["engine"] for result in results] == ["onnxruntime", "torch", "onnxruntime"]
    assert results[2]["threads"] == 1
    for result in results[1:]:
        for row, first in zip(result["predictions"], results[0]["predictions"], strict=True):
            assert row["label"] == first["label"]
            assert row["probability"] == pytest.approx(first["probability"], abs=1e-4)


def test_published_weights_know_a_real_bird(shared, capsys):
    result = resfit.predict(
        str(shared / "weights" / "resnet20-12fca82f.th"),
        [str(shared / "jpegs" / "n01558993_robin.JPEG")],
        labels=["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    )
    assert result["predictions"][0]["label"] == "bird"
    assert result["notes"]
    assert result["notes"][0] in capsys.readouterr().err


def test_untrained_weights_are_said_aloud(pictures, capsys):
    result = resfit.predict("resnet8", [str(pictures)])
    assert result["trained"] is False
    assert "untrained" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [{"batch_size": 0}, {"top_k": 0}, {"threads": -1}])
def test_counts_below_one_are_usage_errors_that_name_the_flag(run, pictures, flags):
    (name,) = flags
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
        resfit.predict(str(run), [str(pictures)], **flags)


def test_wrong_paths_end_with_exit_code_2(run, capsys):
    assert main(["predict", str(run), "no-such.jpg"]) == 2
    assert "there is no image no-such.jpg" in capsys.readouterr().err
    assert main(["predict", "no-such-run", __file__]) == 2
    assert "no-such-run" in capsys.readouterr().err


def test_rows_go_to_a_file_in_the_order_of_the_pictures(run, pictures, tmp_path, capsys):
    (pictures / "cut.jpg").write_bytes(b"")
    out = tmp_path / "p.jsonl"
    assert main(["predict", str(run), str(pictures), "--out", str(out), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == [str(pictures / name) for name in ("blue.png", "cut.jpg", "red.jpg")]
    assert rows == resfit.predict(str(run), [str(pictures)])["predictions"]
    assert (result["num_images"], result["failed"], result["out"], result["format"]) == (3, 1, str(out), "jsonl")
    assert "predictions" not in result


@pytest.mark.parametrize("format", ["text", "csv", "jsonl"])
def test_what_is_printed_is_what_a_file_would_hold(run, pictures, tmp_path, capsys, format):
    flags = ["--format", format, "--top-k", "2"]
    assert main(["predict", str(run), str(pictures / "red.jpg"), *flags]) == 0
    printed = capsys.readouterr().out
    assert main(["predict", str(run), str(pictures / "red.jpg"), *flags, "--out", str(tmp_path / "rows")]) == 0
    assert (tmp_path / "rows").read_text() == printed
    assert capsys.readouterr().out == f"1 rows as {format} in {tmp_path / 'rows'}\n"


def test_probabilities_are_those_of_all_classes(run, pictures, tmp_path):
    (row, _) = resfit.predict(str(run), [str(pictures)], probabilities=True)["predictions"]
    assert list(row["probabilities"]) == ["class 0", "class 1", "class 2"]
    assert sum(row["probabilities"].values()) == pytest.approx(1)
    assert max(row["probabilities"].values()) == row["probability"]
    (row, _) = resfit.predict(str(run), [str(pictures)])["predictions"]
    assert "probabilities" not in row
    resfit.predict(str(run), [str(pictures)], probabilities=True, out=str(tmp_path / "p.csv"))
    header = next(csv.reader((tmp_path / "p.csv").open()))
    assert header == ["path", "label", "probability", "class 0", "class 1", "class 2", "error"]
    resfit.predict(str(run), [str(pictures)], probabilities=True, out=str(tmp_path / "p.parquet"))
    assert pq.read_table(tmp_path / "p.parquet").column("probabilities")[0].as_py() == pytest.approx(
        list(resfit.predict(str(run), [str(pictures)], probabilities=True)["predictions"][0]["probabilities"].values())
    )


def test_strict_stops_at_the_first_bad_picture_and_writes_nothing(run, pictures, tmp_path, capsys):
    (pictures / "cut.jpg").write_bytes(b"")
    flags = [str(run), str(pictures), "--strict", "--out", str(tmp_path / "out" / "p.csv")]
    assert main(["predict", *flags]) == 1
    assert f"{pictures / 'cut.jpg'}: cannot be decoded (the file is empty)" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_large_jpegs_are_read_scaled_or_exactly(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.jpg", quality=95)
    found = {
        decoding: resfit.predict(str(run), [str(tmp_path / "noise.jpg")], decoding=decoding)
        for decoding in ("exact", "scaled")
    }
    assert found["exact"]["decoding"] == "exact"
    exact, scaled = (found[name]["predictions"][0]["probability"] for name in ("exact", "scaled"))
    assert exact != scaled
    assert exact == pytest.approx(scaled, abs=0.05)
    assert resfit.predict(str(run), [str(tmp_path / "noise.jpg")])["predictions"] == found["scaled"]["predictions"]


def test_paths_come_on_standard_input(run, pictures, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{pictures / 'red.jpg'}\n{pictures / 'absent.jpg'}\n"))
    assert main(["predict", str(run), "-", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["predictions"]
    assert [row["path"] for row in rows] == [str(pictures / "red.jpg"), str(pictures / "absent.jpg")]
    assert rows[1]["error"] == "no such file"


def test_a_tar_is_classified_without_being_unpacked(run, pictures, tmp_path):
    with tarfile.open(tmp_path / "some.tar", "w") as file:
        file.add(pictures / "red.jpg", "in/red.jpg")
    (row,) = resfit.predict(str(run), [str(tmp_path / "some.tar")])["predictions"]
    assert row["path"] == f"{tmp_path}/some.tar/in/red.jpg"
    assert row["top"] == resfit.predict(str(run), [str(pictures / "red.jpg")])["predictions"][0]["top"]


def test_parquet_needs_a_file(run, pictures, capsys):
    assert main(["predict", str(run), str(pictures), "--format", "parquet"]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_name_that_is_no_text_is_shown_with_its_bytes(run, tmp_path, capsys, format):
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png"))
    assert main(["predict", str(run), str(tmp_path / "*.png"), "--format", format]) == 0
    assert "b\\xff.png" in capsys.readouterr().out.replace("\\\\", "\\")


def test_ctrl_c_leaves_no_half_file(run, pictures, tmp_path):
    """Interrupted while it waits for more paths, after rows were written."""
    out = tmp_path / "out" / "p.csv"
    out.parent.mkdir()
    out.write_text("earlier")
    command = [sys.executable, "-m", "resfit", "predict", str(run), "-", "--out", str(out), "--batch-size", "1"]

    def listen() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background would hand on that it is ignored

    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listen
    ) as process:
        process.stdin.write(f"{pictures / 'red.jpg'}\n" * 50)
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in out.parent.glob(".p.csv*.partial")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert "Traceback" not in process.stderr.read()
    assert [path.name for path in out.parent.iterdir()] == ["p.csv"]
    assert out.read_text() == "earlier"


def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """Peaks of two processes: rows and pictures of 1,900 more files would take several megabytes."""
    program = (
        "import sys, re; from resfit.cli import main; main(sys.argv[1:])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    content = io.BytesIO()
    Image.new("RGB", (64, 64)).save(content, "PNG")
    peaks = []
    artifact = build(small_model(small_spec()), tmp_path / "model.onnx").path
    for count in (100, 2000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number}.png").write_bytes(content.getvalue())
        flags = [str(artifact), str(folder), "--out", str(tmp_path / f"{count}.jsonl"), "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "-c", program, "predict", *flags], capture_output=True, text=True, check=True
        )
        assert len((tmp_path / f"{count}.jsonl").read_text().splitlines()) == count
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < peaks[0] * 1.1


@pytest.fixture
def artifacts(tmp_path):
    """The model of `run` in every form that a file may take."""
    model = small_model(small_spec())
    folder = tmp_path / "artifacts"
    return [
        build(model, folder / "model.onnx").path,
        build(model, folder / "beside.onnx", input="normalised").path,
        build(model, folder / "probabilities.onnx", output="probabilities").path,
        build(model, folder / "graph.xml", format="openvino").path,
        build(model, folder / "model.safetensors", format="torch").path,
    ]


def test_every_artifact_answers_as_the_model_does(run, artifacts, pictures):
    expected = resfit.predict(str(run), [str(pictures)], probabilities=True)["predictions"]
    for artifact in artifacts:
        rows = resfit.predict(str(artifact), [str(pictures)], probabilities=True, threads=1)["predictions"]
        for row, other in zip(rows, expected, strict=True):
            assert row["label"] == other["label"], artifact
            assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4), artifact


def test_an_artifact_is_damaged_or_missing(artifacts, pictures, capsys):
    onnx, graph = artifacts[0], artifacts[3]
    onnx.write_bytes(onnx.read_bytes()[:500])
    graph.with_suffix(".bin").unlink()
    for path in (onnx, graph):
        assert main(["predict", str(path), str(pictures)]) == 1
        assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch"])
def test_the_engine_and_its_precision_are_those_asked_for(run, pictures, engine):
    result = resfit.predict(str(run), [str(pictures)], engine=engine, precision="fp32", threads=1)
    assert (result["engine"], result["precision"], result["engine_reason"]) == (engine, "fp32", None)


def test_what_an_engine_cannot_do_is_said(run, pictures, capsys):
    assert main(["predict", str(run), str(pictures), "--engine", "onnxruntime", "--precision", "bf16"]) == 1
    assert "bf16" in capsys.readouterr().err


def test_auto_takes_the_fastest_and_says_why(run, pictures, monkeypatch, capsys):
    monkeypatch.setattr(
        "resfit.measure.choice._measured", lambda *_: ({"onnxruntime": 2.0, "openvino": 1.0}, {"torch": "absent"})
    )
    result = resfit.predict(str(run), [str(pictures)], engine="auto")
    assert result["engine"] == "openvino"
    assert "1 ms" in result["engine_reason"]
    assert f"note: {result['engine_reason']}" in capsys.readouterr().err
