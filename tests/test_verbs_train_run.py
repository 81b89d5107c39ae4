"""A run from its command to its end: stopped, gone on with from elsewhere, given more epochs, out of disk."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import resfit
from resfit.errors import ResfitError, UsageError
from resfit.measure.memory import peak_memory_bytes
from resfit.model import run_folder
from resfit.training.checkpoint import last_step
from resfit.verbs import train as verb
from resfit.verbs.request import path_of, read_request
from resfit.verbs.training_outcome import over_limit

FAST: dict[str, Any] = {
    "model": "resnet8", "epochs": 2, "precision": "fp32", "memory_format": "channels_last", "compile": "eager",
    "threads": 1, "batch_size": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("runs") / "r"
    return resfit.train(str(shapes_folder), **FAST, tensorboard=True, out=str(out))


def test_what_a_run_says_and_leaves(finished: dict[str, Any], shapes_folder: Path) -> None:
    folder = Path(finished["out"])
    names = {path.name for path in folder.iterdir()}
    assert {"data.jsonl.gz", "request.json", "report.html", "evaluation.json", "audit.json", "tensorboard"} <= names
    assert 0 < finished["peak_memory_bytes"] <= peak_memory_bytes()
    assert (finished["published_epoch"], finished["stopped_early"], finished["exit_code"]) == (2, False, 0)
    assert finished["skipped"] == []
    spec, request = read_request(folder)
    assert spec.num_classes == 3
    assert (request["model"], request["data"]) == ("resnet8", str(shapes_folder))
    text = verb.render(finished)
    assert "report.html" in text
    assert "limit" not in text


def test_a_limit_that_was_not_kept_is_said_and_ends_with_exit_3(finished: dict[str, Any]) -> None:
    broken = {**finished, "recipe": {**finished["recipe"], "train_memory_mb": 1.0}}
    assert over_limit(broken)
    assert "limit 1 MB: NOT KEPT" in verb.render(broken)
    kept = {**finished, "recipe": {**finished["recipe"], "train_memory_mb": 1e6}}
    assert not over_limit(kept)
    assert "MB: kept" in verb.render(kept)


def test_more_epochs_from_another_folder(shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shapes_folder.parent)
    resfit.train(shapes_folder.name, **FAST, out=str(tmp_path / "r"))
    monkeypatch.chdir(tmp_path)
    result = resfit.train(resume="r", epochs=3)
    assert result["epochs"] == 3
    assert result["recipe"]["extensions"] == [[8, 12]]
    assert len((tmp_path / "r" / "metrics.csv").read_text().splitlines()) == 4
    with pytest.raises(UsageError, match="3 epochs behind it"):
        resfit.train(resume="r", epochs=3)
    with pytest.raises(UsageError, match="--lr cannot change on resume"):
        resfit.train(resume="r", lr=0.1)


def test_a_relative_path_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there" / "photos").mkdir(parents=True)
    (tmp_path / "there" / "digits").mkdir()
    request = {"folder": str(tmp_path / "there")}
    monkeypatch.chdir(tmp_path)
    assert path_of(request, "photos") == str(tmp_path / "there" / "photos")
    assert path_of(request, "gone") == "gone"
    assert path_of(request, "digits") == "digits"
    monkeypatch.chdir(tmp_path / "there")
    assert path_of(request, "photos") == "photos"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_says_how_to_go_on_and_does(
    finished: dict[str, Any], shapes_folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**FAST, "epochs": 200}.items()]
    command = [sys.executable, "-m", "resfit", "train", str(shapes_folder), *flags, "--out", str(tmp_path / "r")]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch 1 "):
                process.send_signal(number)
                break
        output, errors = process.communicate()
    assert process.returncode == 130
    assert json.loads(output)["error"] == "interrupted"
    assert f"`resfit train --resume {tmp_path / 'r'}` goes on" in errors
    epochs = (last_step(tmp_path / "r") or 0) // 4 + 1  # four steps each: the one it was stopped in, to its end
    result = resfit.train(resume=str(tmp_path / "r"), epochs=epochs)
    assert result["epochs"] == epochs
    assert result["weights_sha256"] != finished["weights_sha256"]  # its first steps were of a plan of 200 epochs


def test_a_disk_that_is_full_at_the_end_loses_no_training(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: dict[str, Any]
) -> None:
    def full(_model: Any, folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.safetensors"))

    with monkeypatch.context() as context:
        context.setattr(run_folder, "save", full)
        with pytest.raises(ResfitError, match=r"model\.safetensors could not be written: No space left") as caught:
            resfit.train(str(shapes_folder), **FAST, out=str(tmp_path / "r"))
    assert f"`resfit train --resume {tmp_path / 'r'}` writes it" in str(caught.value)
    result = resfit.train(resume=str(tmp_path / "r"))
    assert result["weights_sha256"] == finished["weights_sha256"]
    assert result["accuracy"] == finished["accuracy"]


def test_a_folder_left_by_a_training_that_never_began_is_no_obstacle(shapes_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r"
    with pytest.raises(UsageError, match="fewer than one batch"):
        resfit.train(str(shapes_folder), **{**FAST, "batch_size": 5000}, out=str(out))
    assert resfit.train(str(shapes_folder), **{**FAST, "epochs": 1}, out=str(out))["epochs"] == 1
