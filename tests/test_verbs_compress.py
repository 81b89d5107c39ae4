"""`resfit compress` from the command line: wishes kept and broken, every flag, what is proven, what is resumed."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_compression_side_by_side import TINY

from resfit.cli import main
from resfit.compression.points import Points
from resfit.compression.tradeoff_search import search_tradeoff
from resfit.data.sources import open_data
from resfit.measure.macs import parameters
from resfit.model.load import load
from resfit.model.run_folder import save
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.verbs.compress import compress, render
from resfit.verbs.compressing import Job
from resfit.verbs.evaluate import evaluate


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network that knows its digits."""
    folder = tmp_path_factory.mktemp("run")
    spec = dataclasses.replace(TINY, num_classes=10, in_channels=1)
    recipe = Recipe(epochs=5, batch_size=32, lr=0.05, threads=1, precision="fp32", memory_format="contiguous")
    save(train(spec, open_data("digits"), recipe).model, folder)
    return str(folder)


def picture(folder: Path) -> Path:
    Image.fromarray(open_data("digits").test.images[0][..., 0]).save(folder / "digit.png")
    return folder / "digit.png"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images, and few points."""
    monkeypatch.setattr("resfit.verbs.compressing.CALIBRATION_IMAGES", 64)
    monkeypatch.setattr("resfit.compression.selection.MOST_IMAGES", 250)
    few = functools.partial(search_tradeoff, trials=4)
    monkeypatch.setattr("resfit.compression.rounded_points.search_tradeoff", few)


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:  # noqa: ARG001
    """Accuracies measured in this process too; one test measures them as users do."""

    def evaluated(self: Job, source: str) -> dict[str, Any]:
        return evaluate(source, self.data, threads=1)

    monkeypatch.setattr(Job, "_evaluated", evaluated)


def compressed(run: str, folder: Path, **flags: Any) -> dict[str, Any]:
    return compress(run, "digits", **{"out": str(folder / "small.resfit"), "threads": 1, **flags})


@pytest.mark.usefixtures("quick")
def test_the_smallest_file_is_proven_and_every_verb_takes_it(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.resfit"
    words = ["compress", run, "digits", "--max-drop", "6", "--out", str(path), "--threads", "1", "--json"]
    assert main(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"]["file_bytes"] == path.stat().st_size
    assert result["artifact"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["ratio"] == pytest.approx(4 * parameters(load(run).spec) / path.stat().st_size)
    assert result["ratio"] > 4
    assert result["drop"] == pytest.approx(100 * (result["accuracy_before"] - result["accuracy_after"]))
    assert result["drop"] <= 6
    assert result["steps"][0]["file_bytes"] == path.stat().st_size
    assert result["steps"][0]["estimated_drop"] <= result["allowed_estimate"]
    assert 0 < result["margin"] < 6
    assert " images (" in result["selected_on"]
    assert not (tmp_path / "small.resfit.work").exists()
    assert main(["evaluate", str(path), "digits", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == result["accuracy_after"]
    assert main(["inspect", str(path), "--json"]) == 0
    assert main(["export", str(path), "--out", str(tmp_path / "m.onnx"), "--threads", "1"]) == 0
    capsys.readouterr()
    assert main(["predict", str(path), str(picture(tmp_path)), "--json"]) == 0
    capsys.readouterr()
    assert f"{result['ratio']:.1f}x" in render(result)


def test_an_impossible_wish_ends_with_the_nearest_points(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.resfit"
    words = ["compress", run, "digits", "--max-drop", "0", "--file-kb", "0.1", "--method", "share"]
    assert main([*words, "--out", str(path), "--threads", "1", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["artifact"] is None
    assert "file_kb" in result["binding"]
    assert min(point["file_bytes"] for point in result["nearest"]) == min(p["file_bytes"] for p in result["points"])
    assert not path.exists()
    assert "binding" in render(result)


@pytest.mark.usefixtures("at_home")
def test_a_gate_broken_on_the_test_images_ends_with_a_file_that_says_so(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resfit.compression.wish.allowed_estimate", lambda _drop: 18.0)
    result = compressed(run, tmp_path, max_drop=0.5, method="quantise")
    assert result["exit_code"] == 3
    assert result["drop"] > 0.5
    assert result["binding"] == ["max_drop"]
    assert result["artifact"]["path"].endswith("small.rejected.resfit")
    assert Path(result["artifact"]["path"]).is_file()
    assert not (tmp_path / "small.resfit").exists()


@pytest.mark.usefixtures("at_home")
def test_a_file_limit_is_kept(run: str, tmp_path: Path) -> None:
    result = compressed(run, tmp_path, file_kb=4.0)
    assert 3000 < result["artifact"]["file_bytes"] <= 4000
    assert result["max_drop"] is None


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("method", "encoding"),
    [
        ("quantise", "int5"),
        ("share", "values"),
        ("fp16", "fp16"),
        ("bf16", "bf16"),
        ("code", "float32"),
    ],
)
def test_methods_and_bits_decide_what_is_stored(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, encoding: str
) -> None:
    bits = {"bits": 5} if method in ("quantise", "share") else {}
    compressed(run, tmp_path, max_drop=100.0, method=method, **bits)
    assert main(["inspect", str(tmp_path / "small.resfit"), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert any(encoding in layer["encoding"] for layer in layers)


@pytest.mark.usefixtures("at_home")
def test_a_compressed_model_is_compressed_again(run: str, tmp_path: Path) -> None:
    first = compressed(run, tmp_path, max_drop=100.0, method="quantise", bits=4)
    path = first["artifact"]["path"]
    stored = compress(path, "digits", method="code", codec="range", out=str(tmp_path / "again.resfit"), threads=1)
    assert stored["drop"] == 0
    assert stored["artifact"]["file_bytes"] == first["artifact"]["file_bytes"]
    smaller = compress(path, "digits", file_kb=2.5, out=str(tmp_path / "third.resfit"), threads=1)
    assert smaller["artifact"]["file_bytes"] <= 2500


@pytest.mark.usefixtures("at_home")
def test_codecs_store_the_same_model_in_other_sizes(run: str, tmp_path: Path) -> None:
    results = [
        compressed(run, tmp_path / codec, max_drop=100.0, method="quantise", bits=4, codec=codec)
        for codec in ("range", "raw", "huffman")
    ]
    assert len({result["accuracy_after"] for result in results}) == 1
    sizes = [result["artifact"]["file_bytes"] for result in results]
    assert sizes[0] < sizes[2] < sizes[1]


@pytest.mark.usefixtures("at_home")
def test_epochs_train_with_rounded_weights(run: str, tmp_path: Path) -> None:
    result = compressed(run, tmp_path, max_drop=5.0, epochs=1)
    assert any("after 1 epochs" in point["step"] for point in result["points"])
    assert result["steps"][0]["estimated_drop"] <= result["allowed_estimate"]


@pytest.mark.usefixtures("at_home")
def test_a_speedup_removes_channels_and_is_measured(run: str, tmp_path: Path) -> None:
    result = compressed(run, tmp_path, speedup=1.5, epochs=1, max_drop=60.0)
    assert result["macs_before"] / result["macs_after"] >= 1.5
    assert result["latency_ms_before"] > 0
    assert result["latency_ms_after"] > 0


@pytest.mark.usefixtures("at_home")
def test_importance_decides_which_channels_go(run: str, tmp_path: Path) -> None:
    taylor, magnitude = (
        compressed(run, tmp_path / kind, speedup=1.5, importance=kind, method="prune", max_drop=100.0)
        for kind in ("taylor", "magnitude")
    )
    assert taylor["artifact"]["sha256"] != magnitude["artifact"]["sha256"]


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(("method", "epochs"), [("auto", 1), ("quantise", 0), ("share", 0)])
def test_sparsity_sets_weights_to_zero_that_stay_so(run: str, tmp_path: Path, method: str, epochs: int) -> None:
    result = compressed(run, tmp_path, sparsity=0.6, epochs=epochs, method=method, max_drop=100.0)
    weights = load(result["artifact"]["path"]).weights
    tensors = [tensor for tensor in weights.values() if tensor.ndim > 1]
    zeros = sum(int((tensor == 0).sum()) for tensor in tensors)
    assert zeros >= 0.6 * sum(tensor.numel() for tensor in tensors) - len(tensors)


@pytest.mark.usefixtures("at_home")
def test_an_interrupted_command_goes_on_where_it_stopped(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, made = Points.point, []

    def stop_at_the_third(self: Points, settings: Any, make: Any) -> Any:
        def counted() -> Any:
            if len(made) == 2:
                raise KeyboardInterrupt
            made.append(settings["bits"])
            return make()

        return real(self, settings, counted)

    monkeypatch.setattr(Points, "point", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        compressed(run, tmp_path, max_drop=0.0, method="quantise")
    assert (tmp_path / "small.resfit.work").is_dir()
    monkeypatch.setattr(Points, "point", real)
    capsys.readouterr()
    result = compressed(run, tmp_path, max_drop=0.0, method="quantise")
    assert "resumes" in capsys.readouterr().err
    assert [point["bits"] for point in result["points"]][:2] == made


@pytest.mark.usefixtures("at_home")
def test_another_seed_calibrates_on_other_images(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resfit.compression.rounded_points.BYTES_TRIALS", 1)
    first, again, other = (
        compressed(run, tmp_path / name, file_kb=20.0, seed=seed)["artifact"]["sha256"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


@pytest.mark.usefixtures("at_home")
def test_nothing_of_the_users_is_overwritten(run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.resfit").write_text("mine")
    compressed(run, tmp_path, max_drop=100.0, method="quantise", bits=4)
    assert (tmp_path / "small.resfit.1").read_text() == "mine"
    assert "small.resfit.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-drop", "-1"], "--max-drop"),
        (["--file-kb", "0"], "--file-kb"),
        (["--speedup", "1"], "--speedup"),
        (["--epochs", "-1"], "--epochs"),
        (["--bits", "9"], "--bits"),
        (["--bits", "8", "--method", "bf16"], "--bits"),
        (["--importance", "magnitude"], "--importance"),
        (["--method", "prune"], "--speedup"),
        (["--sparsity", "1"], "--sparsity"),
        (["--bits", "4", "--method", "code"], "--bits"),
        (["--codec", "gzip"], "--codec"),
        (["--out", "."], "--out"),
    ],
)
def test_flags_that_cannot_be_are_usage_errors(
    words: list[str], message: str, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", run, "digits", *words]) == 2
    assert message in capsys.readouterr().err
