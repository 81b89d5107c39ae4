"""`resfit export`: a model in, the file that ships out, compared with the model on real images."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import BudgetNotMet, DataError, EngineError, UsageError
from resfit.verbs.arguments import check_counts
from resfit.verbs.exported import Exported, publish, write_exported

COMPARED_IMAGES = 512
CALIBRATION_IMAGES = 1024
FP32_TOLERANCE = 1e-3
DEFAULT_NAMES = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "torch": "model.safetensors",
    "safetensors": "model.safetensors",
    "timm": "model-timm",
    "huggingface": "model-huggingface",
}
FOLDERS = ("timm", "huggingface")


def export(
    model: Annotated[str, "run folder, .resfit file, checkpoint, name on the hub, or a network's name"],
    *,
    out: Annotated[str | None, "file to write, or folder for timm and huggingface (default: model.* here)"] = None,
    format: Annotated[
        Literal["onnx", "openvino", "torch", "safetensors", "timm", "huggingface"],
        "onnx, openvino: a graph; torch: for resfit's torch engine; others: weights for other programs",
    ] = "onnx",
    precision: Annotated[Literal["fp32", "int8"], "int8 calibrates on training images of --data"] = "fp32",
    preprocessing: Annotated[
        Literal["inside", "beside"],
        "inside: the graph takes uint8 NHWC pixels; beside: normalised float32 NCHW, and a JSON file says how",
    ] = "inside",
    output: Annotated[Literal["logits", "probabilities"], "what the graph gives"] = "logits",
    data: Annotated[str | None, "images to calibrate on and to compare on"] = None,
    max_drop: Annotated[
        float | None, "points of accuracy the file may lose on validation images of --data (default: not measured)"
    ] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    img_size: Annotated[int | None, "square input size (default: the model's own)"] = None,
    seed: Annotated[int, "seed of the choice of calibration images"] = 0,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Write a model for another runtime or another program, and prove that it answers as the model does.

    What was written is opened again and compared with the model: on validation images of --data, or on noise
    without it. A float32 file that disagrees is an error, one that loses more accuracy than --max-drop ends with
    exit code 3, and neither is left behind.
    """
    check_counts(img_size=img_size, threads=threads)
    _check_request(format, precision, preprocessing, output, data, max_drop)
    from resfit.model.load import load

    path = Path(out) if out is not None else Path(DEFAULT_NAMES[format])
    if path.is_dir() and format not in FOLDERS:
        raise UsageError(f"--out {path} is a folder", hint=f"name a file, for example {path / DEFAULT_NAMES[format]}")
    if format == "openvino" and path.suffix != ".xml":
        raise UsageError(f"--out {path} cannot be an openvino graph", hint=f"name it {path.with_suffix('.xml')}")
    loaded = load(model, mean=mean, std=std, img_size=img_size)
    for note in loaded.provenance.notes:
        print(f"note: {note}", file=sys.stderr)
    images, basis = _images(loaded, model, data, precision, seed)
    shipped = loaded if precision == "fp32" else _quantised(loaded, images.get("train"), seed)
    for note in shipped.provenance.notes[len(loaded.provenance.notes) :]:
        print(f"note: {note}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="resfit-export-") as folder:
        written = write_exported(
            shipped, Path(folder, path.name), format=format, precision=precision,
            input="pixels" if preprocessing == "inside" else "normalised", output=output, threads=threads,
        )  # fmt: skip
        compared = _compared(loaded, written, images["compare"], threads, output)
        _check_agreement(compared, precision)
        accuracy = {} if max_drop is None else _accuracy(loaded, written, images["validation"], max_drop, threads)
        artifact = publish(written, path)
    return {
        "model": model,
        "trained": loaded.provenance.trained,
        "artifact": artifact,
        "converted_layers": written.converted_layers,
        "float_layers": list(written.float_layers),
        **compared,
        "compared_on": basis,
        "reopened_with": written.opener,
        "threads": written.session.threads,
        **accuracy,
    }


def render(result: dict[str, Any]) -> str:
    """What a person sees of an export."""
    artifact = result["artifact"]
    lines = [
        f"wrote   {artifact['path']}, {artifact['file_bytes'] / 1000:,.1f} kB, {artifact['precision']}, "
        f"sha256 {artifact['sha256'][:12]}",
        f"agrees  on {result['top1_agreement']:.2%} of {result['compared_on']}; {artifact['output']} differ by at most "
        f"{result['max_abs_difference']:.3g}; opened by {result['reopened_with']}",
    ]
    if result["converted_layers"]:
        kept = f"; in float: {', '.join(result['float_layers'])}" if result["float_layers"] else ""
        lines.append(f"int8    {result['converted_layers']} layers{kept}")
    if "drop" in result:
        lines.append(f"loses   {result['drop']:.2f} points of {result['accuracy_before']:.2%} on validation images")
    return "\n".join(lines)


def _check_request(
    format: str, precision: str, preprocessing: str, output: str, data: str | None, max_drop: float | None
) -> None:
    """UsageError for flags that do not go together."""
    from resfit.engines.artifact import GRAPHS, PRECISIONS

    if precision not in PRECISIONS.get(format, ("fp32",)):
        raise UsageError(f"the {format} format holds float32 only", hint=f"use --format {' or '.join(GRAPHS)} for int8")
    for flag, value, default in (("--preprocessing", preprocessing, "inside"), ("--output", output, "logits")):
        if value != default and format not in GRAPHS:
            raise UsageError(
                f"{flag} {value} is a choice of graphs, and the {format} format holds weights",
                hint=f"leave it out, or use --format {' or '.join(GRAPHS)}",
            )
    if max_drop is not None and data is None:
        raise UsageError("--max-drop measures accuracy, which needs images", hint="name labelled images with --data")
    if max_drop is not None and not 0 <= max_drop <= 100:
        raise UsageError(f"--max-drop is {max_drop:g}, expected points of accuracy from 0 to 100")


def _quantised(loaded: Any, images: Any, seed: int) -> Any:
    """The model on its int8 grids, calibrated on the images unless it was before."""
    if loaded.activation_ranges:
        return loaded
    if images is None:
        raise UsageError("int8 needs images to calibrate on", hint="name the training data with --data")
    from resfit.compression.quantise import quantise

    return quantise(loaded, images, seed=seed)


def _images(loaded: Any, model: str, data: str | None, precision: str, seed: int) -> tuple[dict[str, Any], str]:
    """Images to calibrate on (train), to compare on, all for validation with labels; and a phrase for the second.

    They are cut as the model's training was, and as many may be unreadable.
    """
    import numpy as np

    from resfit.randomness import rng

    shape = loaded.preprocessing
    if data is None:
        size = (COMPARED_IMAGES // 8, shape.height, shape.width, shape.channels)
        noise = rng(seed, "comparison noise").integers(0, 256, size, dtype=np.uint8)
        return {"compare": noise}, f"{len(noise)} images of noise"
    from resfit.data.sources import open_data
    from resfit.verbs.model_and_data import own_max_unreadable, own_split_seed

    cut, share = own_split_seed(model, loaded) or 0, own_max_unreadable(model)
    opening: dict[str, Any] = {"preprocessing": shape, "split_seed": cut, "max_unreadable": share}
    try:
        splits = open_data(data, roles=("train", "validation") if precision == "int8" else ("validation",), **opening)
    except DataError:
        if not share:
            raise
        splits = open_data(data, **opening)  # the share is one of all images, and these roles may have more than theirs
    compare = splits.validation.images[:COMPARED_IMAGES]
    images = {"compare": compare, "validation": splits.validation}
    if precision == "int8":
        order = rng(seed, "calibration").permutation(len(splits.train))[:CALIBRATION_IMAGES]
        images["train"] = splits.train.images[order]
    return images, f"{len(compare)} validation images"


class _Probabilities:
    """A session's answers as probabilities: logits of two sessions may differ by a constant that means nothing."""

    def __init__(self, session: Any):
        self._session = session

    def run(self, images: Any) -> Any:
        from resfit.metrics.classification import softmax

        return softmax(self._session.run(images))


def _compared(loaded: Any, written: Exported, images: Any, threads: int | None, output: str) -> dict[str, Any]:
    """How far the reopened file and the model disagree; `scale` is the size of the model's answers."""
    import numpy as np

    from resfit.engines.compare import compare
    from resfit.engines.torch import model_session

    seen = _Probabilities if output == "probabilities" else lambda session: session
    reference = seen(model_session(loaded, threads=threads))
    scale = max(1.0, float(np.abs(reference.run(images[:64])).max()))
    return {**compare(reference, seen(written.session), images), "scale": scale}


def _check_agreement(compared: dict[str, Any], precision: str) -> None:
    """EngineError for a float32 file whose answers are not the model's; takes `scale` out of the comparison."""
    scale = compared.pop("scale")
    if precision == "fp32" and not compared["max_abs_difference"] <= FP32_TOLERANCE * scale:
        raise EngineError(
            f"the file disagrees with the model: its answers differ by up to {compared['max_abs_difference']:.3g}",
            hint="this is a fault in resfit; nothing was written",
        )


def _accuracy(
    loaded: Any, written: Exported, validation: Any, max_drop: float, threads: int | None
) -> dict[str, float | int]:
    """Accuracy of the model and of the file on all validation images; BudgetNotMet where the file's is too low."""
    from resfit.data.labels import match_labels
    from resfit.engines.torch import model_session
    from resfit.inference.predict import evaluate_session

    dataset = match_labels(validation, loaded.labels, num_classes=len(loaded.labels))
    right = []
    for session in (model_session(loaded, threads=threads), written.session):
        logits, targets = evaluate_session(session, dataset)
        right.append(int((logits.argmax(axis=1) == targets).sum()))
    before, after = (count / len(dataset) for count in right)
    drop = 100 * (right[0] - right[1]) / len(dataset)
    if drop > max_drop:
        raise BudgetNotMet(
            f"the file is right on {after:.2%} of {len(dataset):,} validation images and the model on {before:.2%}: "
            f"{drop:.2f} points less, more than the {max_drop:g} of --max-drop; nothing was written",
            hint="export with --precision fp32, or allow a larger --max-drop",
        )
    return {"accuracy_before": before, "accuracy": after, "drop": drop, "validation_images": len(dataset)}
