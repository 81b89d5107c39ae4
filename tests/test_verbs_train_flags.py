"""Each flag of `train` changes something that can be seen, and what cannot stand together is refused."""

import inspect
import json
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import resfit.verbs.train as verb
from resfit.cli import main
from resfit.errors import ResfitError, UsageError
from resfit.model.model import weights_sha256
from resfit.verbs.opening import open_as, opening_of

FAST: dict[str, Any] = {
    "model": "resnet8", "epochs": 1, "precision": "fp32", "memory_format": "contiguous", "threads": 1,
    "batch_size": 8,
}  # fmt: skip
STEPS = {"schedule": "step", "milestones": (0.5,), "milestone_decay": 0.5}


@pytest.fixture(scope="module")
def unequal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 40 red and 12 blue pictures, 14 x 10 pixels: classes and sides of unequal size."""
    folder = tmp_path_factory.mktemp("data") / "unequal"
    generator = np.random.default_rng(0)
    for channel, (label, count) in enumerate((("red", 40), ("blue", 12))):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 120, (10, 14, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


class Trained:
    """What a flag is judged by."""

    def __init__(self, result: Any, splits: Any, folder: Path):
        self.weights = weights_sha256(result.model)
        self.recipe, self.history, self.spec = result.recipe, result.history, result.model.spec
        self.splits, self.folder, self.result = splits, folder, result


@pytest.fixture(scope="module")
def run(unequal_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> typing.Callable[..., Trained]:
    """Trains with flags, without what follows the training; equal flags train once."""
    known: dict[str, Trained] = {}

    def trained(**flags: Any) -> Trained:
        key = repr(sorted(flags.items()))
        if key not in known:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    verb, "_finish", lambda result, splits, folder, **_: {"trained": Trained(result, splits, folder)}
                )
                data = flags.pop("data", str(unequal_folder))
                out = tmp_path_factory.mktemp("runs") / "r"
                known[key] = verb.train(data, **{**FAST, "img_size": 12, "out": str(out), **flags})["trained"]
        return known[key]

    return trained


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"steps": 3, "epochs": None}),
    ({}, {"recipe": "paper", "epochs": 1}),
    ({}, {"recipe": "strong"}),
    ({}, {"seed": 1}),
    ({}, {"img_size": 8}),
    *[({}, {"fit": name}) for name in ("letterbox", "squash")],
    *[({}, {"normalize": name}) for name in ("minmax", "none")],
    ({}, {"split_seed": 1}),
    *[({}, {"balance": name}) for name in ("weights", "sampling")],
    ({}, {"model": "resnet14"}),
    ({}, {"activation": "silu"}),
    ({}, {"norm": "group"}),
    ({}, {"dropout": 0.5}),
    ({}, {"drop_path": 0.5}),
    ({}, {"batch_size": 12}),
    ({}, {"accumulate": 2}),
    ({}, {"micro_batch": 3}),
    *[({}, {"optimizer": name}) for name in ("adam", "adamw", "rmsprop", "adagrad", "muon")],
    ({}, {"lr": 0.01}),
    ({}, {"momentum": 0.5}),
    ({}, {"nesterov": False}),
    ({}, {"weight_decay": 0.1}),
    ({}, {"decay_norms": True}),
    ({}, {"l1": 0.01}),
    *[({}, {"schedule": name}) for name in ("linear", "one_cycle", "step")],
    ({}, {"warmup_fraction": 0.5}),
    (STEPS, {**STEPS, "milestones": (1,)}),
    (STEPS, {**STEPS, "milestone_decay": 0.2}),
    *[({}, {"loss": name}) for name in ("bce", "mse")],
    ({}, {"label_smoothing": 0.3}),
    ({}, {"ema_decay": 0.9}),
    ({}, {"clip_norm": 0.1}),
    ({}, {"clip_value": 0.001}),
    ({}, {"clip_weights": 0.05}),
    ({}, {"max_norm": 0.5}),
    ({}, {"crop_padding": 3}),
    ({"epochs": 2}, {"epochs": 2, "uncropped_fraction": 0.6}),
    ({}, {"flip": False}),
    ({}, {"rotate_degrees": 30.0}),
    ({}, {"color": 0.5}),
    ({}, {"cutout": 5}),
    *[({}, {name: 1.0}) for name in ("mixup", "cutmix")],
    ({}, {"trivial": True}),
    *[({}, {"precision": name}) for name in ("bf16", "fp16", "fp64")],
]  # fmt: skip
BY_OTHER_TESTS = {
    "out", "resume", "pretrained", "freeze_epochs", "layer_decay", "epochs", "time_minutes", "patience",
    "max_unreadable", "cache", "cache_gb",
    "teacher", "distill_weight", "distill_temperature", "distill_mirrored", "hint_weight", "memory_format", "compile",
    "activation_checkpointing", "train_memory_mb", "tensorboard", "threads",
}  # fmt: skip


@pytest.mark.parametrize(("base", "change"), CHANGES, ids=lambda flags: ",".join(map(str, flags)) or "base")
def test_a_choice_changes_the_weights(run: Any, base: dict[str, Any], change: dict[str, Any]) -> None:
    assert run(**change).weights != run(**base).weights


def test_every_flag_has_a_test() -> None:
    tested = {name for _, change in CHANGES for name in change} | BY_OTHER_TESTS
    flags = {p.name for p in inspect.signature(verb.train).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert flags == tested


def test_what_runs_the_same_arithmetic_otherwise_is_written_down(run: Any) -> None:
    plain = run()
    layout = run(memory_format="channels_last")
    assert layout.recipe.memory_format == "channels_last"
    recomputing = run(activation_checkpointing=True)
    assert recomputing.recipe.activation_checkpointing
    assert recomputing.weights == plain.weights
    assert run(compile="eager").weights == plain.weights
    assert run(threads=2).recipe.threads == 2
    assert plain.recipe.threads == 1
    assert plain.recipe.compile == "eager"  # a short training is never compiled


def test_patience_stops_early(run: Any) -> None:
    stopped = run(patience=1, epochs=30, lr=1e-9)
    assert stopped.result.stopped_early
    assert stopped.result.epochs < 30


def test_time_plans_the_steps(run: Any) -> None:
    assert run(time_minutes=0.02, epochs=None).recipe.steps is not None


def test_unreadable_images_are_left_out_up_to_the_share(run: Any, unequal_folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = shutil.copytree(unequal_folder, tmp_path / "broken")
    (broken / "red" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ResfitError, match=r"0\.png"):
        run(data=str(broken), max_unreadable=0.0)
    skipped = run(data=str(broken), max_unreadable=0.1).splits.skipped
    assert [Path(image.name).name for image in skipped] == ["0.png"]


@pytest.mark.parametrize(("cache_gb", "kept"), [(1.0, True), (0.0, False)])
def test_decoded_images_go_where_they_are_told(
    unequal_folder: Path, tmp_path: Path, cache_gb: float, kept: bool
) -> None:
    folder = tmp_path / "decoded"
    opening = opening_of(
        img_size=12, fit="crop", normalize="standardize", max_unreadable=0.0, split_seed=0, cache=str(folder),
        cache_gb=cache_gb, train_memory_mb=None,
    )  # fmt: skip
    opening["cache"]["memory_bytes"] = 0  # so few images would stay in memory
    open_as(str(unequal_folder), json.loads(json.dumps(opening)), channels=None)
    assert any(path.stat().st_size > 1000 for path in folder.rglob("*")) == kept


def test_the_cache_s_flags_are_written_down(run: Any) -> None:
    request = json.loads((run(cache="elsewhere", cache_gb=1.5).folder / "request.json").read_text())
    assert request["opening"]["cache"] == {"folder": "elsewhere", "max_bytes": 1_500_000_000}
    with pytest.raises(UsageError, match="--cache-gb is -1"):
        run(cache_gb=-1.0)


def test_an_impossible_memory_limit_is_refused(run: Any) -> None:
    with pytest.raises(ResfitError, match="cannot keep to 10 MB") as refused:
        run(train_memory_mb=10.0)
    assert refused.value.exit_code == 3


@pytest.fixture(scope="module")
def teacher(run: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    from resfit.model.run_folder import save

    folder = tmp_path_factory.mktemp("teacher")
    save(run(epochs=3).result.model, folder)
    return str(folder)


def test_a_teacher_is_followed_and_named_in_the_recipe(run: Any, teacher: str) -> None:
    taught = run(teacher=teacher)
    assert taught.recipe.distill_weight == 0.5
    assert taught.recipe.distill_temperature == 4.0
    assert taught.recipe.teacher == run(epochs=3).weights
    weights = {
        run().weights, taught.weights, run(teacher=teacher, distill_weight=0.9).weights,
        run(teacher=teacher, distill_temperature=1.0).weights,
    }  # fmt: skip
    assert len(weights) == 4
    assert run(teacher=teacher, hint_weight=2.0).weights not in weights
    assert run(teacher=teacher, distill_mirrored=True).weights not in weights
    unmirrored = run(teacher=teacher, flip=False)
    assert run(teacher=teacher, flip=False, distill_mirrored=True).weights == unmirrored.weights
    assert run(recipe=str(taught.folder), teacher=teacher).weights == taught.weights
    assert run(recipe=str(taught.folder), distill_weight=0.0).weights == run().weights
    with pytest.raises(UsageError, match="there is none"):
        run(recipe=str(taught.folder))
    with pytest.raises(UsageError, match="is not the teacher of that recipe"):
        run(recipe=str(taught.folder), teacher="resnet8")
    with pytest.raises(UsageError, match="no stage has maps of the shape") as caught:
        run(teacher=teacher, hint_weight=1.0, model="resnet18")
    assert "--hint-weight 0" in caught.value.hint
    with pytest.raises(UsageError, match="the teacher reads images of height 12"):
        run(teacher=teacher, img_size=16)


def test_a_recipe_is_followed_but_for_what_is_given(run: Any) -> None:
    first = run(optimizer="sgd", lr=0.3, accumulate=2)
    changed = run(recipe=str(first.folder), optimizer="adamw", accumulate=4)
    assert (changed.recipe.optimizer, changed.recipe.micro_batch) == ("adamw", 2)
    assert changed.recipe.lr < 0.01  # not that of another optimiser
    assert run(recipe="strong", trivial=False).recipe.trivial is False
    longer = run(recipe=str(run(steps=2, epochs=None).folder), epochs=2)
    assert (longer.recipe.steps, longer.recipe.epochs, longer.result.epochs) == (None, 2, 2)
    timed = run(time_minutes=0.02, epochs=None)
    assert run(recipe=str(timed.folder), epochs=1).result.epochs == 1


def test_the_network_is_that_of_the_weights(run: Any, teacher: str) -> None:
    started = run(pretrained=teacher, model=None)
    assert started.spec == run().spec
    assert started.weights != run().weights
    assert run(pretrained=teacher, model="resnet8").weights == started.weights
    with pytest.raises(UsageError, match=r"--model is resnet14, and .* another network"):
        run(pretrained=teacher, model="resnet14")
    with pytest.raises(UsageError, match="not weights"):
        run(pretrained="resnet8", model=None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "2", "--time-minutes", "1"], "--epochs and --time-minutes both"),
        (["--steps", "2", "--time-minutes", "1"], "--steps and --time-minutes both"),
        (["--epochs", "2", "--steps", "3"], "both say how long"),
        (["--time-minutes", "0"], "--time-minutes is 0"),
        (["--time-minutes", "1", "--schedule", "step", "--milestones", "100"], "does not know how many"),
        (["--steps", "0"], "--steps is 0"),
        (["--optimizer", "lion"], "lion"),
        (["--nesterov", "--optimizer", "adam"], "nesterov needs sgd"),
        (["--milestones", "0.5"], "of the step schedule"),
        (["--distill-weight", "0.5"], "--teacher"),
        (["--distill-temperature", "2"], "distill_weight is 0"),
        (["--hint-weight", "2"], "hints are a teacher's"),
        (["--teacher", "r", "--distill-weight", "0"], "--teacher names a teacher"),
        (["--batch-size", "5000"], "fewer than one batch of 5000"),
        (["--compile", "compiled", "--precision", "fp16"], "for correctness"),
        (["--accumulate", "2", "--micro-batch", "4"], "both split the batch"),
        (["--batch-size", "6", "--accumulate", "4"], "parts of a single image"),
        (["--max-unreadable", "2"], "a share from 0 to 1"),
        (["--recipe", "papr"], "did you mean paper"),
        (["--resume", "r", "--lr", "0.1"], "--lr cannot change on resume"),
        (["--resume", "r", "--no-flip"], "--flip cannot change on resume"),
        (["--resume", "r", "--threads", "2"], "--threads cannot change on resume"),
        (["--mixup", "-1"], "mixup"),
        (["--dropout", "1"], "dropout is 1.0"),
        (["--patience", "0"], "patience is 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_clear_error(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = [] if "--resume" in flags else ["--model", "resnet8"]
    assert main(["train", "digits", *network, *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_switches_say_yes_and_no(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(verb, "chosen_recipe", lambda _source, flags: given.append(flags) or _stop())
    for flag in (["--flip"], ["--no-flip"], [], ["--no-nesterov"], ["--trivial"]):
        assert main(["train", "digits", *flag]) == 2
    assert [flags["flip"] for flags in given] == [True, False, None, None, None]
    assert given[3]["nesterov"] is False
    assert given[4]["trivial"] is True
    assert "stopped here" in capsys.readouterr().err


def _stop() -> None:
    raise UsageError("stopped here")
