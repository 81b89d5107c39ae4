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
    refuse_without_weights,
)
from resfit.verbs.training_outcome import publish


def train(
    data: Annotated[str | None, "folder of class folders, table, archives, parquet, arrays, or 'digits'"] = None,
    *,
    model: Annotated[str | None, "network to train, by name (default: resnet18)"] = None,
    out: Annotated[str | None, "run folder to write (default: runs/DATA-N)"] = None,
    recipe: Annotated[str | None, "paper, fast (the default), strong, or a JSON file or run to follow"] = None,
    resume: Annotated[str | None, "run folder to go on with; --epochs may give it more, nothing else is needed"] = None,
    pretrained: Annotated[
        str | None, "weights to start from: a run, checkpoint, model folder, cached name, or hf-hub:ORG/NAME"
    ] = None,
    freeze_epochs: Annotated[int | None, "first epochs in which the classifier alone learns (default: 0)"] = None,
    layer_decay: Annotated[
        float | None, "rate of each residual block over that of the next one, such as 0.8 (default: 1)"
    ] = None,
    epochs: Annotated[int | None, "passes over the training images (default: the recipe's)"] = None,
    steps: Annotated[int | None, "updates, in place of --epochs"] = None,
    time_minutes: Annotated[float | None, "plan the whole schedule into this time instead of --epochs"] = None,
    patience: Annotated[
        int | None, "stop after so many epochs without a smaller validation loss, and publish the best epoch"
    ] = None,
    img_size: Annotated[
        int | None, "square input size (default: that of --pretrained, else the images' own, or 224)"
    ] = None,
    fit: Annotated[
        Literal["crop", "letterbox", "squash"] | None,
        "how images of another shape come to that size (default: that of --pretrained, else crop)",
    ] = None,
    normalize: Annotated[
        Literal["standardize", "minmax", "none"] | None,
        "what pixels are scaled by: deviation, range, or nothing (default: as --pretrained, else standardize)",
    ] = None,
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
    optimizer: Annotated[Literal["sgd", "adam", "adamw", "rmsprop", "adagrad", "muon"] | None, "(default: sgd)"] = None,
    lr: Annotated[float | None, "peak learning rate"] = None,
    momentum: Annotated[float | None, "momentum; of adam and adamw the first decay rate (default: 0.9)"] = None,
    nesterov: Annotated[bool | None, "Nesterov's form of SGD's and Muon's momentum (default: yes)"] = None,
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
    distill_mirrored: Annotated[
        bool | None, "its answers are the mean of those to an image and to its mirror image (default: no)"
    ] = None,
    hint_weight: Annotated[
        float | None, "also follow the teacher's stages, where they have its shape, with this weight (default: 0)"
    ] = None,
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
    if tensorboard:
        from resfit.training.tensorboard import require_tensorboard

        require_tensorboard()
    followed = chosen_recipe(recipe, given)
    network = chosen_network(model, pretrained, activation=activation, norm=norm, dropout=dropout, drop_path=drop_path)
    refuse_without_weights(pretrained, followed)
    opening = opening_of(
        img_size=img_size, fit=fit, normalize=normalize, max_unreadable=max_unreadable, split_seed=split_seed,
        cache=cache, cache_gb=cache_gb, train_memory_mb=train_memory_mb, source=network.preprocessing,
    )  # fmt: skip
    taught_by = chosen_teacher(teacher, followed)
    splits = open_as(data, opening, channels=network.channels)
    spec = network.spec_for(splits)
    instructor = taught_by.for_data(splits)
    refuse_unfit(followed, splits, spec, instructor)
    folder = prepare_folder(out) if out is not None else new_folder("runs", data)
    write_request(
        folder, spec, model=network.name, data=data, opening=opening, max_seconds=seconds, teacher=teacher,
        tensorboard=tensorboard, pretrained=network.source,
    )  # fmt: skip
    result = _run(
        spec, splits, followed, folder, tensorboard=tensorboard, teacher=instructor,
        init_weights=network.weights_for(spec, labels=splits.labels, seed=followed.seed), max_seconds=seconds,
    )  # fmt: skip
    return _finish(result, splits, folder, model=network.name, data=data, pretrained=network.source)


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
    return _finish(result, splits, folder, model=request["model"], data=data, pretrained=request.get("pretrained"))


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


def _finish(result: Any, splits: Any, folder: Path, *, model: str, data: str, pretrained: str | None) -> dict[str, Any]:
    """Publish the model, measure it once on the test images, write what a person reads; a full disk loses nothing."""
    try:
        return publish(result, splits, folder, model=model, data=data, pretrained=pretrained)
    except OSError as error:
        raise ResfitError(
            f"{error.filename or folder} could not be written: {error.strerror or error}",
            hint=f"make room, and `resfit train --resume {folder}` writes it; nothing is trained again",
        ) from error
