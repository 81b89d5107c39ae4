"""`resfit train`: images in, a trained network and its run folder out."""

from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import UsageError
from resfit.nn.architectures import architecture as architecture_of
from resfit.storage import new_folder, prepare_folder
from resfit.verbs.arguments import check_counts
from resfit.verbs.request import read_request, write_request


def train(
    data: Annotated[str | None, "folder of class folders, Hugging Face parquet, or 'digits'"] = None,
    *,
    model: Annotated[str, "network to train, by name"] = "resnet18",
    out: Annotated[str | None, "run folder to write (default: runs/DATA-N)"] = None,
    epochs: Annotated[int | None, "passes over the training images (default: the recipe's)"] = None,
    time_minutes: Annotated[float | None, "plan the whole schedule into this time instead of --epochs"] = None,
    img_size: Annotated[int | None, "square input size (default: the images' own, or 224)"] = None,
    batch_size: Annotated[int | None, "images a step"] = None,
    lr: Annotated[float | None, "peak learning rate"] = None,
    weight_decay: Annotated[float | None, "L2 on weights of convolutions and the classifier"] = None,
    label_smoothing: Annotated[float | None, "cross-entropy smoothing, 0 to 1"] = None,
    activation: Annotated[str | None, "activation in place of the network's own"] = None,
    norm: Annotated[str | None, "norm in place of the network's own: batch, group, none"] = None,
    precision: Annotated[Literal["auto", "fp32", "bf16"], "auto measures which is faster here"] = "auto",
    recipe: Annotated[str | None, "JSON file, or run folder, whose recipe is followed"] = None,
    pretrained: Annotated[str | None, "checkpoint or run folder whose weights are the start"] = None,
    resume: Annotated[str | None, "run folder to go on with from its last checkpoint; nothing else is needed"] = None,
    seed: Annotated[int | None, "seed of every choice by chance (default: 0)"] = None,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Train a residual network on labelled images.

    `accuracy` is that of the final weights on the test images, measured once and used for no choice.
    """
    check_counts(epochs=epochs, img_size=img_size, batch_size=batch_size, threads=threads)
    if resume is not None:
        return _resume(Path(resume), threads)
    if data is None:
        raise UsageError("train needs DATA", hint="a folder of class folders, a parquet folder, or digits")
    if epochs is not None and time_minutes is not None:
        raise UsageError("--epochs and --time-minutes both say how long to train", hint="give one of them")
    if time_minutes is not None and not time_minutes > 0:
        raise UsageError(f"--time-minutes is {time_minutes:g}, expected more than 0")
    from resfit.data.sources import open_data

    changes = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay,
        "label_smoothing": label_smoothing, "seed": seed, "threads": threads,
    }  # fmt: skip
    chosen = _recipe(recipe, changes, precision)
    initial = _initial(pretrained)
    named = None if initial is not None else architecture_of(model)
    splits = open_data(data, img_size=img_size, channels=None if initial is None else initial.spec.in_channels)
    spec = _spec(initial.spec if named is None else named, splits, {"activation": activation, "norm": norm})
    folder = prepare_folder(out) if out is not None else new_folder("runs", data)
    seconds = None if time_minutes is None else time_minutes * 60
    write_request(folder, spec, model=model, data=data, img_size=img_size, max_seconds=seconds)
    weights = None if initial is None else _transferred(initial, spec)
    result = _run(spec, splits, chosen, folder, init_weights=weights, max_seconds=seconds)
    return _finish(result, splits, folder, model=model, data=data)


def render(result: dict[str, Any]) -> str:
    """What a person sees at the end of a training."""
    low, high = result["accuracy_interval"]
    return "\n".join(
        [
            f"accuracy  {result['accuracy']:.2%} ({low:.1%} to {high:.1%}) on {result['num_images']:,} test images",
            f"trained   {result['model']}, {result['epochs']:g} epochs in {result['elapsed_seconds']:.0f} s, "
            f"{result['images_per_second']:.0f} images/s, {result['precision']}",
            f"run       {result['out']}  weights sha256 {result['weights_sha256'][:12]}",
        ]
    )


def _recipe(source: str | None, changes: dict[str, Any], precision: str) -> Any:
    import dataclasses
    import json

    from resfit.measure.machine import usable_cores
    from resfit.training.recipe import Recipe

    values = {name: value for name, value in changes.items() if value is not None}
    if source is None:
        recipe = Recipe()
    else:
        path = Path(source) / "recipe.json" if Path(source).is_dir() else Path(source)
        try:
            recipe = Recipe.from_dict(json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError) as error:
            raise UsageError(f"{path} is not a recipe: {error}", hint="give a run folder or its recipe.json") from error
    if precision != "auto":
        values["precision"] = precision
    if recipe.threads is None and "threads" not in values:
        values["threads"] = usable_cores()
    if "epochs" in values:
        values["steps"] = None
    return dataclasses.replace(recipe, **values)


def _initial(pretrained: str | None) -> Any:
    if pretrained is None:
        return None
    from resfit.model.load import load

    initial = load(pretrained)
    if not initial.provenance.trained:
        raise UsageError(f"{pretrained} is a network's name, not weights", hint="give a run folder or a checkpoint")
    return initial


def _spec(spec: Any, splits: Any, changes: dict[str, str | None]) -> Any:
    import dataclasses

    values: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    return dataclasses.replace(
        spec, num_classes=len(splits.labels), in_channels=splits.preprocessing.channels, **values
    )


def _transferred(initial: Any, spec: Any) -> dict[str, Any]:
    """The weights that fit the new network; the classifier starts anew where the classes differ."""
    import torch

    from resfit.nn.resnet import ResNet
    from resfit.randomness import derived_seed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(0, "new classifier"))
        fresh = ResNet(spec).state_dict()
    return {
        name: initial.weights[name] if name in initial.weights and initial.weights[name].shape == value.shape else value
        for name, value in fresh.items()
    }


def _resume(folder: Path, threads: int | None) -> dict[str, Any]:
    from resfit.data.sources import open_data

    if threads is not None:
        raise UsageError("--threads cannot change on resume", hint="leave it out: the recipe of the run is followed")
    spec, request = read_request(folder)
    splits = open_data(request["data"], img_size=request["img_size"], channels=spec.in_channels)
    result = _run(spec, splits, None, folder, resume=True, max_seconds=request["max_seconds"])
    return _finish(result, splits, folder, model=request["model"], data=request["data"])


def _run(spec: Any, splits: Any, recipe: Any, folder: Path, **options: Any) -> Any:
    from resfit.training.loop import train as run_training
    from resfit.training.progress import ProgressPrinter

    return run_training(spec, splits, recipe, folder=folder, on_event=ProgressPrinter(), **options)


def _finish(result: Any, splits: Any, folder: Path, *, model: str, data: str) -> dict[str, Any]:
    """Publish the model, then measure it once on the test images."""
    from resfit.inference.opening import session_of
    from resfit.inference.predict import evaluate_session
    from resfit.metrics.classification import wilson_interval
    from resfit.model.model import weights_sha256
    from resfit.model.run_folder import save
    from resfit.reporting.run_card import write_run_card

    with session_of(result.model, threads=result.recipe.threads) as session:
        logits, targets = evaluate_session(session, splits.test, batch_size=128)
    correct = int((logits.argmax(1) == targets).sum())
    outcome = {
        "model": model,
        "data": data,
        "accuracy": correct / len(targets),
        "accuracy_interval": list(wilson_interval(correct, len(targets))),
        "num_images": len(targets),
        "validation_accuracy": result.history[-1]["validation_accuracy"],
        "roles": splits.roles(),
        "epochs": result.epochs,
        "steps": result.steps,
        "images_per_second": result.images_per_second,
        "elapsed_seconds": result.elapsed_seconds,
        "precision": result.recipe.precision,
        "weights_sha256": weights_sha256(result.model),
        "recipe": result.recipe.to_dict(),
        "seed": result.recipe.seed,
        "out": str(folder),
    }
    write_run_card(folder, result.model, outcome)
    save(result.model, folder)
    return outcome
