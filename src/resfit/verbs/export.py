"""`resfit export`: a model in, the file that ships out, compared with the model on real images."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from resfit.errors import EngineError, UsageError
from resfit.storage import keep_earlier
from resfit.verbs.arguments import check_counts

COMPARED_IMAGES = 512
CALIBRATION_IMAGES = 1024
FP32_TOLERANCE = 1e-3
SUFFIXES = {"onnx": ".onnx", "torch": ".safetensors"}


def export(
    model: Annotated[str, "run folder, checkpoint, or a network's name"],
    *,
    out: Annotated[str | None, "file to write (default: model.onnx or model.safetensors here)"] = None,
    format: Annotated[Literal["onnx", "torch"], "format of the file"] = "onnx",
    precision: Annotated[Literal["fp32", "int8"], "int8 calibrates on training images of --data"] = "fp32",
    data: Annotated[str | None, "images to calibrate on and to compare on"] = None,
    mean: Annotated[tuple[float, ...] | None, "means a checkpoint was trained with, as fractions of 255"] = None,
    std: Annotated[tuple[float, ...] | None, "deviations a checkpoint was trained with"] = None,
    img_size: Annotated[int | None, "square input size (default: the model's own)"] = None,
    seed: Annotated[int, "seed of the choice of calibration images"] = 0,
    threads: Annotated[int | None, "processor threads (default: all usable cores)"] = None,
) -> dict[str, Any]:
    """Write the file that runs without resfit, and prove that it answers as the model does.

    The written file is opened again and compared with the model: on validation images of --data, or on noise
    without it. A float32 file that disagrees is an error and is not left behind.
    """
    from resfit.engines.artifact import build
    from resfit.model.load import load

    check_counts(img_size=img_size, threads=threads)
    path = Path(out) if out is not None else Path("model" + SUFFIXES[format])
    if path.is_dir():
        raise UsageError(
            f"--out {path} is a folder", hint=f"name a file, for example {path / 'model'}{SUFFIXES[format]}"
        )
    loaded = load(model, mean=mean, std=std, img_size=img_size)
    for note in loaded.provenance.notes:
        print(f"note: {note}", file=sys.stderr)
    images, basis = _images(loaded, data, precision, seed)
    shipped = loaded if precision == "fp32" else _quantised(loaded, images.get("train"), format, seed)
    with tempfile.TemporaryDirectory(prefix="resfit-export-") as folder:
        built = build(shipped, Path(folder, path.name), format=format, precision=precision)
        compared = _compare(loaded, built, images["compare"], threads)
    scale = compared.pop("scale")
    if precision == "fp32" and not compared["max_abs_difference"] <= FP32_TOLERANCE * scale:
        raise EngineError(
            f"the file disagrees with the model: logits differ by up to {compared['max_abs_difference']:.3g}",
            hint="this is a fault in resfit; nothing was written",
        )
    keep_earlier(path)
    artifact = build(shipped, path, format=format, precision=precision)
    return {
        "model": model,
        "trained": loaded.provenance.trained,
        "artifact": {
            "path": str(artifact.path), "sha256": artifact.sha256, "file_bytes": artifact.file_bytes,
            "format": artifact.format, "precision": artifact.precision,
        },
        **compared,
        "compared_on": basis,
        "converted_layers": artifact.converted_layers,
    }  # fmt: skip


def render(result: dict[str, Any]) -> str:
    """What a person sees of an export."""
    artifact = result["artifact"]
    return "\n".join(
        [
            f"wrote   {artifact['path']}, {artifact['file_bytes'] / 1000:,.1f} kB, {artifact['precision']}, "
            f"sha256 {artifact['sha256'][:12]}",
            f"agrees  on {result['top1_agreement']:.2%} of {result['compared_on']}; logits differ by at most "
            f"{result['max_abs_difference']:.3g}",
        ]
        + ([f"int8    {result['converted_layers']} layers"] if result["converted_layers"] else [])
    )


def _quantised(loaded: Any, images: Any, format: str, seed: int) -> Any:
    """The model on its int8 grids, calibrated on the images unless it was before."""
    if format != "onnx":
        raise UsageError("the torch format holds float32 only", hint="use --format onnx for int8")
    if loaded.activation_ranges:
        return loaded
    if images is None:
        raise UsageError("int8 needs images to calibrate on", hint="name the training data with --data")
    from resfit.compression.quantise import quantise

    return quantise(loaded, images, seed=seed)


def _images(loaded: Any, data: str | None, precision: str, seed: int) -> tuple[dict[str, Any], str]:
    """Images to calibrate on (train) and to compare on, and a phrase that names the latter."""
    import numpy as np

    from resfit.randomness import rng

    shape = loaded.preprocessing
    if data is None:
        size = (COMPARED_IMAGES // 8, shape.height, shape.width, shape.channels)
        noise = rng(seed, "comparison noise").integers(0, 256, size, dtype=np.uint8)
        return {"compare": noise}, f"{len(noise)} images of noise"
    from resfit.data.sources import open_data

    roles = ("train", "validation") if precision == "int8" else ("validation",)
    splits = open_data(data, preprocessing=shape, roles=roles)
    compare = splits.validation.images[:COMPARED_IMAGES]
    images = {"compare": compare}
    if precision == "int8":
        order = rng(seed, "calibration").permutation(len(splits.train))[:CALIBRATION_IMAGES]
        images["train"] = splits.train.images[order]
    return images, f"{len(compare)} validation images"


def _compare(loaded: Any, artifact: Any, images: Any, threads: int | None) -> dict[str, Any]:
    import numpy as np

    from resfit.engines.artifact import open_session
    from resfit.engines.compare import compare
    from resfit.engines.torch import model_session

    reference = model_session(loaded, threads=threads)
    scale = max(1.0, float(np.abs(reference.run(images[:64])).max()))
    return {**compare(reference, open_session(artifact, threads=threads), images), "scale": scale}
