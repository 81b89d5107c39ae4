"""Each flag of `compress` changes something that can be seen, and what cannot stand together is refused."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_compressions import compressed, digits_model

from resfit.cli import main
from resfit.data.sources import open_data
from resfit.errors import ResfitError
from resfit.model.load import load
from resfit.verbs import compress_proof
from resfit.verbs.compress import compress
from resfit.verbs.evaluate import evaluate


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
    digits_run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str, encoding: str
) -> None:
    bits = {"bits": 5} if method in ("quantise", "share") else {}
    compressed(digits_run, tmp_path, max_drop=100.0, method=method, **bits)
    assert main(["inspect", str(tmp_path / "small.resfit"), "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    weights = [layer["encoding"] for layer in layers if layer["kind"] in ("convolution", "classifier")]
    assert weights
    assert all(encoding in found for found in weights)


@pytest.mark.usefixtures("at_home")
def test_codecs_store_the_same_model_in_other_sizes(digits_run: str, tmp_path: Path) -> None:
    results = [
        compressed(digits_run, tmp_path / codec, max_drop=100.0, method="quantise", bits=4, codec=codec)
        for codec in ("range", "raw", "huffman", "lzw", "zstd")
    ]
    assert len({result["accuracy_after"] for result in results}) == 1
    sizes = [result["artifact"]["file_bytes"] for result in results]
    assert sizes[0] < sizes[2] < sizes[1]
    assert len(set(sizes)) == len(sizes)


@pytest.mark.usefixtures("at_home")
def test_epochs_train_with_rounded_weights(digits_run: str, tmp_path: Path) -> None:
    result = compressed(digits_run, tmp_path, max_drop=5.0, epochs=1)
    trained = next(point for point in result["points"] if point["step"].startswith("trained after"))
    begun = next(point for point in result["points"] if point.get("tradeoff") == trained["trained_at"])
    assert begun["step"] == "rate-distortion"
    # That it gets better by it is tested with the training itself; without any it would be where it began
    assert abs(trained["divergence"] - begun["divergence"]) > 0.1 * begun["divergence"]
    assert result["steps"][0]["estimated_drop"] <= result["allowed_estimate"]


@pytest.mark.usefixtures("at_home")
def test_a_speedup_removes_channels_and_is_measured(digits_run: str, tmp_path: Path) -> None:
    result = compressed(digits_run, tmp_path, speedup=1.5, epochs=1, max_drop=60.0)
    assert result["macs_before"] / result["macs_after"] >= 1.5
    assert result["latency_ms_before"] > 0
    assert result["latency_ms_after"] > 0


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("file_kb", [None, 1.2])
def test_where_pruning_alone_loses_too_much_few_points_show_it(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_kb: float | None
) -> None:
    monkeypatch.setattr("resfit.compression.rounded_points.BYTES_TRIALS", 2)
    result = compressed(digits_run, tmp_path, speedup=2.0, max_drop=0.1, file_kb=file_kb)
    steps = [point["step"] for point in result["points"]]
    assert result["exit_code"] == 3
    assert "max_drop" in result["binding"]
    assert steps[0] == "prune"
    assert result["points"][0]["estimated_drop"] > result["allowed_estimate"]
    assert steps[1:] == ["rate-distortion"] * (1 if file_kb is None else 2)


@pytest.mark.usefixtures("at_home")
def test_importance_decides_which_channels_go(digits_run: str, tmp_path: Path) -> None:
    results = [
        compressed(digits_run, tmp_path / kind, speedup=1.5, importance=kind, method="prune", max_drop=100.0)
        for kind in ("taylor", "magnitude", "norm_scale")
    ]
    assert len({result["artifact"]["sha256"] for result in results}) == 3


@pytest.mark.usefixtures("at_home")
def test_widths_are_multiples_of_what_is_given(digits_run: str, tmp_path: Path) -> None:
    options = {"speedup": 1.3, "method": "prune", "max_drop": 100.0}
    widths = {}
    for multiple in (1, 4, None):
        result = compressed(digits_run, tmp_path / str(multiple), width_multiple=multiple, **options)
        spec = load(result["artifact"]["path"]).spec
        widths[multiple] = [width for stage in range(len(spec.depths)) for width in spec.inner(stage, 0)]
        assert all(width % (multiple or 8) == 0 for width in widths[multiple])
        assert result["width_multiple"] == (multiple or 8)
    assert len({str(each) for each in widths.values()}) == 3, widths


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(("method", "epochs"), [("auto", 1), ("quantise", 0), ("share", 0)])
def test_sparsity_sets_weights_to_zero_that_stay_so(digits_run: str, tmp_path: Path, method: str, epochs: int) -> None:
    result = compressed(digits_run, tmp_path, sparsity=0.6, epochs=epochs, method=method, max_drop=100.0)
    weights = load(result["artifact"]["path"]).weights
    tensors = [tensor for tensor in weights.values() if tensor.ndim > 1]
    zeros = sum(int((tensor == 0).sum()) for tensor in tensors)
    assert zeros >= 0.6 * sum(tensor.numel() for tensor in tensors) - len(tensors)


@pytest.mark.usefixtures("at_home")
def test_another_seed_calibrates_on_other_images(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resfit.compression.rounded_points.BYTES_TRIALS", 1)
    first, again, other = (
        compressed(digits_run, tmp_path / name, file_kb=20.0, seed=seed)["artifact"]["sha256"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-drop", "-1"], "--max-drop"),
        (["--file-kb", "0"], "--file-kb"),
        (["--file-kb", "0.0005"], "--file-kb"),
        (["--bits", "4"], "--bits"),
        *[(["--epochs", "1", "--method", name], "--epochs") for name in ("quantise", "share", "fp16", "bf16", "code")],
        (["--max-unreadable", "2"], "unreadable"),
        (["--speedup", "1"], "--speedup"),
        (["--epochs", "-1"], "--epochs"),
        (["--bits", "9"], "--bits"),
        (["--bits", "8", "--method", "bf16"], "--bits"),
        (["--importance", "magnitude"], "--importance"),
        (["--width-multiple", "4"], "--width-multiple chooses channels"),
        (["--speedup", "2", "--width-multiple", "0"], "--width-multiple is 0"),
        (["--method", "prune"], "--speedup"),
        (["--sparsity", "1"], "--sparsity"),
        (["--bits", "4", "--method", "code"], "--bits"),
        (["--codec", "gzip"], "--codec"),
        (["--out", "."], "--out"),
    ],
)
def test_flags_that_cannot_be_are_usage_errors(
    words: list[str], message: str, digits_run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", digits_run, "digits", *words]) == 2
    assert message in capsys.readouterr().err


def foreign(folder: Path) -> str:
    """The same network as a file of weights alone, which says nothing of images and classes."""
    torch.save(dict(digits_model().weights), folder / "digits.th")
    return str(folder / "digits.th")


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("change", [{"img_size": 10}, {"mean": (0.1,)}, {"std": (0.6,)}])
def test_what_is_said_of_a_checkpoint_goes_into_the_file(tmp_path: Path, change: dict[str, Any]) -> None:
    source = foreign(tmp_path)
    usual, result = (
        compressed(source, tmp_path / name, method="fp16", max_drop=100.0, **flags)
        for name, flags in (("usual", {}), ("changed", change))
    )
    assert result["preprocessing"] != usual["preprocessing"]
    assert result["accuracy_before"] != usual["accuracy_before"]
    assert result["accuracy_before"] == evaluate(source, "digits", threads=1, **change)["accuracy"]
    assert result["accuracy_after"] == evaluate(result["artifact"]["path"], "digits", threads=1)["accuracy"]


@pytest.mark.usefixtures("at_home")
def test_threads_are_those_of_the_choice_and_of_the_proof(
    digits_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_home, asked = compress_proof.evaluated, []

    def evaluated(path: Path, data: str, **flags: Any) -> dict[str, Any]:
        asked.append(flags["threads"])
        return at_home(path, data, **flags)

    monkeypatch.setattr(compress_proof, "evaluated", evaluated)
    used = [compressed(digits_run, tmp_path, method="fp16", threads=count)["threads"] for count in (1, 2)]
    assert used == [1, 2]
    assert asked == [1, 1, 2, 2]


def test_the_proof_is_an_evaluation_by_all_its_flags(digits_run: str, shapes_folder: Path) -> None:
    flags = {"split_seed": 3, "max_unreadable": 0.1, "threads": 1}
    proven = compress_proof.evaluated(Path(digits_run), "digits", **flags)
    here = evaluate(digits_run, "digits", **flags)
    assert proven["accuracy"] == here["accuracy"]
    assert (proven["threads"], proven["notes"]) == (1, here["notes"])
    assert len(proven["notes"]) == 0
    with pytest.raises(ResfitError, match=r"could not be evaluated: .*classes"):
        compress_proof.evaluated(Path(digits_run), str(shapes_folder), **flags)


def test_the_proof_does_without_as_many_images_as_it_may(digits_run: str, tmp_path: Path) -> None:
    pictures = open_data("digits", roles=("test",)).role("test")
    for target in range(10):
        folder = tmp_path / "test" / pictures.labels[target]
        folder.mkdir(parents=True)
        index = int(np.flatnonzero(pictures.targets == target)[0])
        Image.fromarray(pictures.images[index][..., 0]).save(folder / "good.png")
    (tmp_path / "test" / "7" / "bad.png").write_bytes(b"no picture")
    flags = {"split_seed": 0, "threads": 1}
    proven = compress_proof.evaluated(Path(digits_run), str(tmp_path), max_unreadable=0.1, **flags)
    assert (proven["num_images"], len(proven["skipped"])) == (10, 1)
    with pytest.raises(ResfitError, match=r"bad\.png"):
        compress_proof.evaluated(Path(digits_run), str(tmp_path), max_unreadable=0.09, **flags)


@pytest.mark.usefixtures("at_home")
def test_the_result_holds_every_flag(digits_run: str, tmp_path: Path) -> None:
    result = compressed(digits_run, tmp_path, method="quantise", bits=6, max_drop=100.0, seed=2)
    known = {**result, **result["seeds"]}
    names = [p.name for p in inspect.signature(compress).parameters.values()]
    assert [name for name in names if name not in known] == []
    assert (known["bits"], known["seed"], known["importance"], known["out"]) == (
        6, 2, None, str(tmp_path / "small.resfit"),
    )  # fmt: skip
    assert result["trained"]
    assert json.loads(json.dumps(result)) == result


TESTED = {
    "max_drop": "test_the_smallest_file_is_proven_and_every_verb_takes_it",
    "file_kb": "test_a_file_limit_is_kept",
    "out": "test_nothing_of_the_users_is_overwritten",
    "speedup": "test_a_speedup_removes_channels_and_is_measured",
    "importance": "test_importance_decides_which_channels_go",
    "width_multiple": "test_widths_are_multiples_of_what_is_given",
    "sparsity": "test_sparsity_sets_weights_to_zero_that_stay_so",
    "epochs": "test_epochs_train_with_rounded_weights",
    "method": "test_methods_and_bits_decide_what_is_stored",
    "bits": "test_methods_and_bits_decide_what_is_stored",
    "codec": "test_codecs_store_the_same_model_in_other_sizes",
    "img_size": "test_what_is_said_of_a_checkpoint_goes_into_the_file",
    "mean": "test_what_is_said_of_a_checkpoint_goes_into_the_file",
    "std": "test_what_is_said_of_a_checkpoint_goes_into_the_file",
    "split_seed": "test_the_cut_is_the_run_s_own_and_goes_with_the_file",
    "max_unreadable": "test_unreadable_images_are_left_out_up_to_the_share_that_the_run_allows",
    "seed": "test_another_seed_calibrates_on_other_images",
    "threads": "test_threads_are_those_of_the_choice_and_of_the_proof",
}


def test_every_flag_has_a_test() -> None:
    flags = [p.name for p in inspect.signature(compress).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert sorted(flags) == sorted(TESTED)
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_verbs_compress*.py")]
    assert [name for name in TESTED.values() if not any(f"def {name}(" in text for text in texts)] == []
