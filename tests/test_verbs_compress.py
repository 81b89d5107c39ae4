"""`resfit compress` from the command line: wishes kept and broken, what is proven, what is resumed."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_compressions import compressed, digits_model, make_quick

from resfit.cli import main
from resfit.compression.points import Points
from resfit.data.sources import open_data
from resfit.errors import UsageError
from resfit.measure.macs import parameters
from resfit.model.load import load
from resfit.model.model import weights_sha256
from resfit.model.run_folder import save
from resfit.training.events import Started, StepDone
from resfit.training.surroundings import Interrupted
from resfit.verbs import compress_proof
from resfit.verbs.compress import compress, render


def picture(folder: Path) -> Path:
    Image.fromarray(open_data("digits").test.images[0][..., 0]).save(folder / "digit.png")
    return folder / "digit.png"


def test_the_smallest_file_is_proven_and_every_verb_takes_it(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    path = tmp_path / "small.resfit"
    words = ["compress", digits_run, "digits", "--max-drop", "6", "--out", str(path), "--threads", "1", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"]["file_bytes"] == path.stat().st_size
    assert result["artifact"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["ratio"] == pytest.approx(4 * parameters(load(digits_run).spec) / path.stat().st_size)
    assert result["ratio"] > 4
    assert result["drop"] == pytest.approx(100 * (result["accuracy_before"] - result["accuracy_after"]))
    assert result["drop"] <= 6
    assert result["steps"][0]["file_bytes"] == path.stat().st_size
    assert result["steps"][0]["estimated_drop"] <= result["allowed_estimate"]
    assert 0 < result["margin"] < 6
    assert " images (" in result["selected_on"]
    assert result["work_folder"] is None
    assert not (tmp_path / "small.resfit.work").exists()
    for source, accuracy in ((str(path), "accuracy_after"), (digits_run, "accuracy_before")):
        assert main(["evaluate", source, "digits", "--threads", "1", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == result[accuracy]
    assert main(["inspect", str(path), "--json"]) == 0
    assert main(["export", str(path), "--out", str(tmp_path / "m.onnx"), "--threads", "1"]) == 0
    capsys.readouterr()
    assert main(["predict", str(path), str(picture(tmp_path)), "--json"]) == 0
    capsys.readouterr()
    assert f"{result['ratio']:.1f}x" in render(result)


def test_an_impossible_wish_ends_with_the_nearest_points(
    digits_run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.resfit"
    words = ["compress", digits_run, "digits", "--max-drop", "0", "--file-kb", "0.1", "--method", "share"]
    assert main([*words, "--out", str(path), "--threads", "1", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"] is None
    evaluated = dict.fromkeys(("accuracy", "accuracy_interval", "num_images", "source"), 1.0)
    assert {result[name] for name in ("ratio", *compress_proof.proof(evaluated, evaluated))} == {None}
    assert "file_kb" in result["binding"]
    assert min(point["file_bytes"] for point in result["nearest"]) == min(p["file_bytes"] for p in result["points"])
    assert not path.exists()
    assert "binding" in render(result)
    assert result["work_folder"] == f"{path}.work"
    assert Path(result["work_folder"]).is_dir()
    assert result["work_folder"] in render(result)


@pytest.mark.usefixtures("at_home")
def test_a_gate_broken_on_the_test_images_ends_with_a_file_that_says_so(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resfit.compression.wish.allowed_estimate", lambda _drop: 18.0)
    result = compressed(digits_run, tmp_path, max_drop=0.5, method="quantise")
    assert result["exit_code"] == 3
    assert result["drop"] > 0.5
    assert result["binding"] == ["max_drop"]
    assert result["artifact"]["path"].endswith("small.rejected.resfit")
    assert (Path(result["work_folder"]) / "points.json").is_file()  # another wish goes on with what was made
    assert Path(result["artifact"]["path"]).is_file()
    assert not (tmp_path / "small.resfit").exists()


@pytest.mark.usefixtures("at_home")
def test_a_file_limit_is_kept(digits_run: str, tmp_path: Path) -> None:
    result = compressed(digits_run, tmp_path, file_kb=4.0)
    assert 3000 < result["artifact"]["file_bytes"] <= 4000
    assert result["max_drop"] is None


@pytest.mark.usefixtures("at_home")
def test_a_compressed_model_is_compressed_again(digits_run: str, tmp_path: Path) -> None:
    first = compressed(digits_run, tmp_path, max_drop=100.0, method="quantise", bits=4)
    path = first["artifact"]["path"]
    stored = compress(path, "digits", method="code", codec="range", out=str(tmp_path / "again.resfit"), threads=1)
    assert stored["drop"] == 0
    assert stored["artifact"]["file_bytes"] == first["artifact"]["file_bytes"]
    smaller = compress(path, "digits", file_kb=2.5, out=str(tmp_path / "third.resfit"), threads=1)
    assert smaller["artifact"]["file_bytes"] <= 2500


@pytest.mark.usefixtures("at_home")
def test_nothing_of_the_users_is_overwritten(
    digits_run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.resfit").write_text("mine")
    compressed(digits_run, tmp_path, max_drop=100.0, method="quantise", bits=4)
    assert (tmp_path / "small.resfit.1").read_text() == "mine"
    assert "small.resfit.1" in capsys.readouterr().err


@pytest.mark.usefixtures("at_home")
def test_a_result_does_not_take_the_place_of_what_it_is_made_of(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = compressed(digits_run, tmp_path, max_drop=100.0, method="fp16")["artifact"]["path"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"would take the place of .*small\.resfit itself"):
        compress(path, "digits")
    with pytest.raises(UsageError, match="elsewhere"):  # what is not there is said so, whatever lies beside it
        compress(str(Path(path).rename("elsewhere.resfit").with_suffix("")), "digits")


@pytest.mark.usefixtures("at_home")
def test_a_work_folder_may_be_a_link(digits_run: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "small.resfit.work").symlink_to(tmp_path / "elsewhere")
    assert compressed(digits_run, tmp_path, max_drop=100.0, method="fp16")["exit_code"] == 0
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("at_home")
def test_an_untrained_network_teaches_nothing(tmp_path: Path) -> None:
    model = digits_model()
    provenance = dataclasses.replace(model.provenance, trained=False)
    save(dataclasses.replace(model, provenance=provenance), tmp_path / "fresh")
    with pytest.raises(UsageError, match="is untrained, and --epochs"):
        compressed(str(tmp_path / "fresh"), tmp_path, epochs=1)
    assert not (tmp_path / "small.resfit.work").exists()


class Stops:
    """In place of a printer of a training's progress: keeps what is told, and presses Ctrl-C once after a step."""

    def __init__(self, after: int | None = None):
        self.after, self.begun = after, list[int]()

    def __call__(self, event: Any) -> None:
        if isinstance(event, Started):
            self.begun.append(event.step)
        if isinstance(event, StepDone) and event.step == self.after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("flags", [{}, {"sparsity": 0.5, "method": "quantise", "bits": 6}])
def test_an_interrupted_training_goes_on_where_it_stopped(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any]
) -> None:
    def trained(folder: Path, stops: Stops) -> dict[str, Any]:
        monkeypatch.setattr("resfit.verbs.compressing.ProgressPrinter", lambda: stops)
        return compressed(digits_run, folder, max_drop=30.0, epochs=1, **flags)

    whole = trained(tmp_path / "whole", Stops())
    with pytest.raises(Interrupted, match="stopped after step 3") as stopped:
        trained(tmp_path / "parts", Stops(after=3))
    assert "the same command goes on" in str(stopped.value)
    assert "--resume" not in str(stopped.value)
    going_on = Stops()
    parts = trained(tmp_path / "parts", going_on)
    assert going_on.begun == [3]
    kept = [[(point["step"], point["divergence"]) for point in result["points"]] for result in (parts, whole)]
    assert kept[0] == kept[1]
    models = [load(result["artifact"]["path"]) for result in (parts, whole)]
    assert weights_sha256(models[0]) == weights_sha256(models[1])


@pytest.mark.usefixtures("at_home")
def test_an_interrupted_command_makes_only_what_it_had_not(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Points.point
    made: list[int] = []
    most = 2

    def counted(self: Points, settings: Any, make: Any) -> Any:
        def made_once() -> Any:
            if len(made) == most:
                raise KeyboardInterrupt
            made.append(settings["bits"])
            return make()

        return real(self, settings, made_once)

    monkeypatch.setattr(Points, "point", counted)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        compressed(digits_run, tmp_path, max_drop=0.0, method="quantise")
    first, most = list(made), 100
    made.clear()
    capsys.readouterr()
    result = compressed(digits_run, tmp_path, max_drop=0.0, method="quantise")
    assert "resumes" in capsys.readouterr().err
    assert [point["bits"] for point in result["points"]] == first + made
    assert made


@pytest.mark.usefixtures("at_home")
def test_points_of_another_network_with_the_same_weights_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = digits_model()
    flags = {"max_drop": 100.0, "file_kb": 0.1, "method": "quantise", "bits": 4}
    for activation in ("relu", "silu"):
        other = dataclasses.replace(model, spec=dataclasses.replace(model.spec, activation=activation))
        save(other, tmp_path / "run")
        compressed(str(tmp_path / "run"), tmp_path, **flags)
        assert "resumes" not in capsys.readouterr().err
    compressed(str(tmp_path / "run"), tmp_path, **flags)
    assert "resumes" in capsys.readouterr().err


@pytest.mark.usefixtures("at_home")
def test_an_interruption_once_the_file_is_in_place_promises_nothing(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = shutil.rmtree

    def stopped(folder: str | Path, **options: Any) -> None:
        if str(folder).endswith(".work"):
            raise KeyboardInterrupt
        removed(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt) as caught:
        compressed(digits_run, tmp_path, max_drop=100.0, method="fp16")
    assert str(caught.value) == ""
    assert load(tmp_path / "small.resfit").provenance.trained


@pytest.mark.usefixtures("at_home")
def test_what_the_evaluations_say_is_printed_once_and_kept(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = compress_proof.evaluated

    def evaluated(path: Path, data: str, **flags: Any) -> dict[str, Any]:
        return {**measured(path, data, **flags), "notes": ["said of both", f"said of {path.name}"]}

    monkeypatch.setattr(compress_proof, "evaluated", evaluated)
    notes = compressed(digits_run, tmp_path, max_drop=100.0, method="fp16")["notes"]
    assert notes[:2] == ["said of both", "said of original.resfit"]
    assert len(notes) == 3
    said = capsys.readouterr().err
    assert [said.count(f"note: {note}") for note in notes] == [1, 1, 1]


@pytest.mark.usefixtures("at_home")
def test_what_another_version_tried_is_kept_aside(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {"max_drop": 100.0, "file_kb": 0.1, "method": "quantise", "bits": 4}
    assert compressed(digits_run, tmp_path, **flags)["exit_code"] == 3
    monkeypatch.setattr("resfit.verbs.compressing.__version__", "0.0.7")
    capsys.readouterr()
    assert compressed(digits_run, tmp_path, **flags)["exit_code"] == 3
    assert "resumes" not in capsys.readouterr().err
    assert (tmp_path / "small.resfit.work.1" / "request.json").is_file()
