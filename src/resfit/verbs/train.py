"""`resfit train`: images in, a trained network and its run folder out."""

from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import ResfitError, UsageError
from resfit.storage import new_folder, prepare_folder
from resfit.verbs.arguments import check_counts
from resfit.verbs.opening import open_as, opening_of
from resfit.verbs.request import path_of, read_request, write_request
from resfit.verbs.training_choices import (
    chosen_network,
    chosen_recipe,
    chosen_teacher,
    refuse_beside_resume,
    refuse_unfit,
)

TEST_BATCH = 128
BUDGET_BROKEN = 3


def train(
    data: Annotated[str | None, "folder of class folders, table, archives, parquet, arrays, or 'digits'"] = None,
    *,
    model: Annotated[str | None, "network to train, by name (default: resnet18)"] = None,
    out: Annotated[str | None, "run folder to write (default: runs/DATA-N)"] = None,
    recipe: Annotated[str | None, "paper, fast (the default), strong, or a JSON file or run to follow"] = None,
    resume: Annotated[str | None, "run folder to go on with; --epochs may give it more, nothing else is needed"] = None,
    pretrained: Annotated[str | None, "checkpoint or run folder whose weights are the start"] = None,
    epochs: Annotated[int | None, "passes over the training images (default: the recipe's)"] = None,
    steps: Annotated[int | None, "updates, in place of --epochs"] = None,
    time_minutes: Annotated[float | None, "plan the whole schedule into this time instead of --epochs"] = None,
    patience: Annotated[
        int | None, "stop after so many epochs without a smaller validation loss, and publish the best epoch"
    ] = None,
    img_size: Annotated[int | None, "square input size (default: the images' own, or 224)"] = None,
    fit: Annotated[Literal["crop", "letterbox", "squash"], "how images of another shape come to that size"] = "crop",
    normalize: Annotated[
        Literal["standardize", "minmax", "none"], "what pixels are scaled by: deviation, range, or nothing"
    ] = "standardize",
    max_unreadable: Annotated[float, "share of images, 0 to 1, that may be left out as unreadable"] = 0.01,
    split_seed: Annotated[int, "seed of the cut of data without splits"] = 0,
    cache: Annotated[str | None, "folder for decoded images (default: resfit in the user's cache folder)"] = None,
    cache_gb: Annotated[float | None, "most that the folder may hold, in 10^9 bytes (default: 20)"] = None,
    balance: Annotated[
        Literal["none", "weights", "sampling"] | None, "unequal classes: weights in the loss, or sampled evenly"
    ] = None,
    activation: Annotated[str | None, "activation in place of the network's own"] = None,
    norm: Annotated[str | None, "norm in place of the network's own: batch, group, none"] = None,
    dropout: Annotated[float | None, "share of the classifier's inputs dropped in training"] = None,
    drop_path: Annotated[float | None, "rate at which the last block's branch is dropped; earlier ones less"] = None,
    batch_size: Annotated[int | None, "images an update"] = None,
    accumulate: Annotated[int | None, "parts a batch is split into; batch norm sees each part alone"] = None,
    micro_batch: Annotated[int | None, "most images in memory at once, in place of --accumulate"] = None,
    optimizer: Annotated[Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"] | None, "(default: sgd)"] = None,
    lr: Annotated[float | None, "peak learning rate"] = None,
    momentum: Annotated[float | None, "momentum; of adam and adamw the first decay rate (default: 0.9)"] = None,
    nesterov: Annotated[bool | None, "Nesterov's form of SGD's momentum (default: yes)"] = None,
    weight_decay: Annotated[float | None, "L2 on weights of convolutions and the classifier"] = None,
    decay_norms: Annotated[bool | None, "L2 on norms and biases too (default: no)"] = None,
    l1: Annotated[float | None, "L1 on weights of convolutions and the classifier"] = None,
    schedule: Annotated[
        Literal["cosine", "linear", "one_cycle", "step"] | None, "how the rate falls (default: cosine)"
    ] = None,
    warmup_fraction: Annotated[float | None, "part of the schedule in which the rate rises (default: 0.1)"] = None,
    milestones: Annotated[
        tuple[float, ...] | None, "of the step schedule: fractions of it, or steps (default: 0.5 0.75)"
    ] = None,
    milestone_decay: Annotated[float | None, "what the rate is multiplied by at each (default: 0.1)"] = None,
    loss: Annotated[Literal["cross_entropy", "bce", "mse"] | None, "(default: cross_entropy)"] = None,
    label_smoothing: Annotated[float | None, "part of each target that goes to all classes alike, 0 to 1"] = None,
    ema_decay: Annotated[float | None, "publish this running average of the weights, such as 0.999"] = None,
    clip_norm: Annotated[float | None, "largest norm of the whole gradient"] = None,
    clip_value: Annotated[float | None, "largest absolute value in the gradient"] = None,
    clip_weights: Annotated[float | None, "largest absolute weight, kept after each update"] = None,
    max_norm: Annotated[float | None, "largest norm of an output's weights, kept after each update"] = None,
    crop_padding: Annotated[int | None, "pixels a random crop may shift by (default: an eighth of the side)"] = None,
    uncropped_fraction: Annotated[float | None, "last part of the schedule without random crops"] = None,
    flip: Annotated[bool | None, "mirror images at random (default: colour yes, grey no)"] = None,
    rotate_degrees: Annotated[float | None, "rotate by up to so many degrees either way"] = None,
    color: Annotated[float | None, "vary brightness, contrast and saturation by up to this share"] = None,
    cutout: Annotated[int | None, "side of a square that is covered, in pixels"] = None,
    mixup: Annotated[float | None, "blend pairs of images; alpha of the Beta distribution"] = None,
    cutmix: Annotated[float | None, "paste a part of another image; alpha of the Beta distribution"] = None,
    trivial: Annotated[bool | None, "one random operation of random strength an image (TrivialAugment)"] = None,
    teacher: Annotated[str | None, "run folder or checkpoint whose answers are learned too"] = None,
    distill_weight: Annotated[float | None, "the teacher's share of the loss (default: 0.5)"] = None,
    distill_temperature: Annotated[float | None, "how far answers are softened for it (default: 4)"] = None,
    precision: Annotated[
        Literal["auto", "fp64", "fp32", "bf16", "fp16"] | None, "auto measures which of fp32 and bf16 is faster here"
    ] = None,
    memory_format: Annotated[Literal["auto", "contiguous", "channels_last"] | None, "auto measures"] = None,
    compile: Annotated[
        Literal["auto", "eager", "compiled"] | None, "auto compiles where a long training repays it"
    ] = None,
    activation_checkpointing: Annotated[
        bool | None, "compute activations again instead of keeping them: slower, less memory"
    ] = None,
    train_memory_mb: Annotated[
        float | None, "most memory of this process, in 10^6 bytes; batches are split to keep to it"
    ] = None,
    tensorboard: Annotated[bool, "write TensorBoard event files into the run folder"] = False,
    seed: Annotated[int | None, "seed of every choice by chance (default: 0)"] = None,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Train a residual network on labelled images.

    `accuracy` is that of the final weights on the test images, measured once and used for no choice. Flags
    change single values of the recipe, which is written into the run folder with all that was decided.
    """
    given = dict(locals())
    check_counts(epochs=epochs, steps=steps, img_size=img_size, batch_size=batch_size, threads=threads)
    if resume is not None:
        refuse_beside_resume(given)
        return _resume(Path(resume), data, epochs)
    if data is None:
        raise UsageError("train needs DATA", hint="a folder of class folders, a parquet folder, or digits")
    seconds = _seconds(time_minutes, epochs, steps)
    opening = opening_of(
        img_size=img_size, fit=fit, normalize=normalize, max_unreadable=max_unreadable, split_seed=split_seed,
        cache=cache, cache_gb=cache_gb, train_memory_mb=train_memory_mb,
    )  # fmt: skip
    if tensorboard:
        from resfit.training.tensorboard import require_tensorboard

        require_tensorboard()
    followed = chosen_recipe(recipe, given)
    network = chosen_network(model, pretrained, activation=activation, norm=norm, dropout=dropout, drop_path=drop_path)
    taught_by = chosen_teacher(teacher, followed)
    splits = open_as(data, opening, channels=network.channels)
    spec = network.spec_for(splits)
    instructor = taught_by.for_data(splits)
    refuse_unfit(followed, splits)
    folder = prepare_folder(out) if out is not None else new_folder("runs", data)
    write_request(
        folder, spec, model=network.name, data=data, opening=opening, max_seconds=seconds, teacher=teacher,
        tensorboard=tensorboard,
    )  # fmt: skip
    result = _run(
        spec, splits, followed, folder, tensorboard=tensorboard, teacher=instructor,
        init_weights=network.weights_for(spec), max_seconds=seconds,
    )  # fmt: skip
    return _finish(result, splits, folder, model=network.name, data=data)


def render(result: dict[str, Any]) -> str:
    """What a person sees at the end of a training."""
    low, high = result["accuracy_interval"]
    return "\n".join(
        [
            f"accuracy  {result['accuracy']:.2%} ({low:.1%} to {high:.1%}) on {result['num_images']:,} test images",
            f"trained   {result['model']}, {result['epochs']:g} epochs in {result['elapsed_seconds']:.0f} s, "
            f"{result['images_per_second']:.0f} images/s, {result['precision']}",
            *_memory_line(result),
            f"run       {result['out']}  weights sha256 {result['weights_sha256'][:12]}",
            f"report    {result['report']}",
        ]
    )


def _memory_line(result: dict[str, Any]) -> list[str]:
    limit, peak = result["recipe"]["train_memory_mb"], result["peak_memory_bytes"]
    if limit is None or peak is None:
        return []
    kept = "kept" if peak <= limit * 1e6 else "NOT KEPT"
    return [f"memory    {peak / 1e6:,.0f} MB at most, limit {limit:,.0f} MB: {kept}"]


def _seconds(time_minutes: float | None, epochs: int | None, steps: int | None) -> float | None:
    if time_minutes is None:
        return None
    if epochs is not None or steps is not None:
        unit = "epochs" if epochs is not None else "steps"
        raise UsageError(f"--{unit} and --time-minutes both say how long to train", hint="give one of them")
    if not 0 < time_minutes < 60 * 24 * 365:
        raise UsageError(f"--time-minutes is {time_minutes:g}, expected more than 0")
    return time_minutes * 60


def _resume(folder: Path, data: str | None, epochs: int | None) -> dict[str, Any]:
    spec, request = read_request(folder)
    data = path_of(request, request["data"]) if data is None else data
    splits = open_as(data, request["opening"], channels=spec.in_channels)
    teacher = request.get("teacher")
    instructor = chosen_teacher(None if teacher is None else path_of(request, teacher), None).for_data(splits)
    result = _run(
        spec, splits, None, folder, tensorboard=bool(request.get("tensorboard")), teacher=instructor,
        resume=True, epochs=epochs, max_seconds=request["max_seconds"],
    )  # fmt: skip
    return _finish(result, splits, folder, model=request["model"], data=data)


def _run(spec: Any, splits: Any, recipe: Any, folder: Path, *, tensorboard: bool, **options: Any) -> Any:
    from contextlib import ExitStack, closing

    from resfit.training.events import Event
    from resfit.training.loop import train as run_training
    from resfit.training.progress import ProgressPrinter

    with ExitStack() as stack:
        subscribers: list[Any] = [ProgressPrinter()]
        if tensorboard:
            from resfit.training.tensorboard import TensorboardWriter

            subscribers.append(stack.enter_context(closing(TensorboardWriter(folder))))

        def tell(event: Event) -> None:
            for subscriber in subscribers:
                subscriber(event)

        return run_training(spec, splits, recipe, folder=folder, on_event=tell, **options)


def _finish(result: Any, splits: Any, folder: Path, *, model: str, data: str) -> dict[str, Any]:
    """Publish the model, measure it once on the test images, write what a person reads; a full disk loses nothing."""
    try:
        return _published(result, splits, folder, model=model, data=data)
    except OSError as error:
        raise ResfitError(
            f"{error.filename or folder} could not be written: {error.strerror or error}",
            hint=f"make room, and `resfit train --resume {folder}` writes it; nothing is trained again",
        ) from error


def _published(result: Any, splits: Any, folder: Path, *, model: str, data: str) -> dict[str, Any]:
    from resfit.inference.opening import session_of
    from resfit.inference.predict import evaluation
    from resfit.model.run_folder import save
    from resfit.reporting.run_card import write_run_card
    from resfit.verbs.report import write

    recipe = result.recipe
    save(result.model, folder)
    batch_size = min(recipe.micro_batch or TEST_BATCH, TEST_BATCH)
    with session_of(result.model, threads=recipe.threads) as session:
        answers = evaluation(session, splits.role("test"), batch_size=batch_size)
    outcome = {
        "model": model,
        "data": data,
        **{name: answers[name] for name in ("accuracy", "accuracy_interval", "top5_accuracy", "loss", "ece")},
        "num_images": answers["num_images"],
        **_trained(result),
        "roles": splits.roles(),
        "skipped": [[image.name, image.reason] for image in splits.skipped],
        "out": str(folder),
    }
    write_run_card(folder, result.model, outcome)
    outcome["peak_memory_bytes"] = _peak_memory_bytes()
    outcome["report"] = str(write(folder, result.model, splits, outcome, answers))
    outcome["peak_memory_bytes"] = _peak_memory_bytes()
    outcome["exit_code"] = BUDGET_BROKEN if _over_limit(outcome) else 0
    return outcome


def _trained(result: Any) -> dict[str, Any]:
    """How the training went."""
    from resfit.model.model import weights_sha256

    published = next((row for row in result.history if row["epoch"] == result.published_epoch), result.history[-1])
    return {
        "validation_accuracy": published["validation_accuracy"],
        "epochs": result.epochs,
        "steps": result.steps,
        "published_epoch": result.published_epoch,
        "stopped_early": result.stopped_early,
        "images_per_second": result.images_per_second,
        "elapsed_seconds": result.elapsed_seconds,
        "precision": result.recipe.precision,
        "weights_sha256": weights_sha256(result.model),
        "recipe": result.recipe.to_dict(),
        "seed": result.recipe.seed,
    }


def _peak_memory_bytes() -> int | None:
    """The most memory this process has held; None where the system does not tell."""
    from resfit.errors import EngineError
    from resfit.measure.memory import peak_memory_bytes

    try:
        return peak_memory_bytes()
    except EngineError:
        return None


def _over_limit(outcome: dict[str, Any]) -> bool:
    limit, peak = outcome["recipe"]["train_memory_mb"], outcome["peak_memory_bytes"]
    return limit is not None and peak is not None and peak > limit * 1e6
