"""The model card of a run folder, from the model and what its training or fit measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resfit.measure.macs import macs, parameters
from resfit.reporting.content import CardContent
from resfit.reporting.model_card import model_card
from resfit.reporting.wording import percent, size
from resfit.storage import write_atomic

if TYPE_CHECKING:
    from resfit.data.preprocessing import Preprocessing
    from resfit.model.model import Model

CARD_NAME = "README.md"


def write_run_card(
    folder: str | Path, model: "Model", outcome: Mapping[str, Any], *, usage: tuple[str, ...] = ()
) -> Path:
    """Write FOLDER/README.md and return its path; `outcome` is what train or fit returns."""
    spec = model.spec
    name = Path(folder).name
    content = CardContent(
        name=f"{outcome['model']} on {Path(outcome['data']).name}",
        architecture=f"{sum(spec.depths)} {spec.block} blocks in {len(spec.depths)} stages, of "
        f"{', '.join(map(str, spec.widths))} channels",
        trained=model.provenance.trained,
        labels=model.labels,
        preprocessing=_preprocessing_words(model.preprocessing),
        facts=_facts(model, outcome),
        training={key: value for key, value in outcome["recipe"].items() if value is not None},
        data={role: f"{row['num_images']:,} images: {row['source']}" for role, row in outcome["roles"].items()},
        usage=usage or (f"resfit predict {name} PICTURE.jpg", f"resfit export {name} --out model.onnx"),
        notes=model.provenance.notes,
        created=model.provenance.created[:10],
        resfit_version=model.provenance.resfit_version,
    )
    path = Path(folder) / CARD_NAME
    write_atomic(path, model_card(content).encode("utf-8"))
    return path


def _facts(model: "Model", outcome: Mapping[str, Any]) -> dict[str, object]:
    low, high = outcome["accuracy_interval"]
    shape = model.preprocessing
    facts: dict[str, object] = {
        "accuracy": f"{percent(outcome['accuracy'])} ({percent(low)} to {percent(high)}) on "
        f"{outcome['num_images']:,} test images that served no choice",
        "parameters": f"{parameters(model.spec):,}",
        "multiply-accumulates": f"{macs(model.spec, shape.height, shape.width):,}",
    }
    if artifact := outcome.get("artifact"):
        facts["artifact"] = (
            f"{Path(artifact['path']).name}, {artifact['precision']}, {size(artifact['file_bytes'])}, "
            f"sha256 {artifact['sha256']}"
        )
    return {**facts, "weights sha256": outcome["weights_sha256"]}


def _preprocessing_words(preprocessing: "Preprocessing") -> str:
    colours = "grey" if preprocessing.channels == 1 else "RGB"
    means = ", ".join(f"{value:.4g}" for value in preprocessing.mean)
    deviations = ", ".join(f"{value:.4g}" for value in preprocessing.std)
    return (
        f"uint8 {colours} images of {preprocessing.height} x {preprocessing.width} pixels; the network "
        f"itself subtracts the mean ({means}) and divides by the deviation ({deviations}), fractions of 255."
    )
