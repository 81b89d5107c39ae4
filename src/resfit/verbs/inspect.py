"""`resfit inspect`: what a network is and what it costs, without running it."""

import sys
from pathlib import Path
from typing import Annotated, Any

from resfit.verbs.arguments import check_counts
from resfit.verbs.coupled_channels import couplings_of, couplings_table
from resfit.verbs.file_bytes import bytes_of, bytes_table


def inspect(
    model: Annotated[str, "run, fit or model folder, .resfit file, artifact, checkpoint, hub name or a network's name"],
    *,
    img_size: Annotated[int | None, "square input size (default: the model's own)"] = None,
    couplings: Annotated[bool, "also which channels go together when the network is pruned"] = False,
) -> dict[str, Any]:
    """Show a network's stages, parameters and multiply-accumulates, and where the bytes of a .resfit file go."""
    from resfit.measure.macs import macs, parameters, stages
    from resfit.model.container_bytes import is_container
    from resfit.nn.architectures import architecture_name, summary

    check_counts(img_size=img_size)
    found = _find(model)
    preprocessing = found.pop("preprocessing")
    spec = found.pop("spec")
    height = img_size or preprocessing.height
    width = img_size or preprocessing.width
    for note in found["notes"]:
        print(f"note: {note}", file=sys.stderr)
    return {
        "model": model,
        **found,
        "architecture": architecture_name(spec) or summary(spec),
        "summary": summary(spec),
        "parameters": parameters(spec),
        "macs": macs(spec, height, width),
        "input": [height, width, spec.in_channels],
        "num_classes": spec.num_classes,
        **(bytes_of(Path(model), parameters(spec)) if is_container(model) else {}),
        "stages": stages(spec, height, width),
        **({"couplings": couplings_of(spec)} if couplings else {}),
        "spec": spec.to_dict(),
    }


def render(result: dict[str, Any]) -> str:
    """A table of stages, and their sum."""
    rows = [("part", "output", "parameters", "MACs")]
    rows += [
        (row["name"], "x".join(map(str, row["output_shape"])), f"{row['parameters']:,}", f"{row['macs']:,}")
        for row in result["stages"]
    ]
    rows.append(("total", "", f"{result['parameters']:,}", f"{result['macs']:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        f"{name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}  {cost:>{widths[3]}}"
        for name, shape, count, cost in rows
    ]
    height, width, channels = result["input"]
    weights = "trained" if result["trained"] else "untrained"
    head = f"{result['model']}: {height}x{width}x{channels} to {result['num_classes']} classes, {weights} weights"
    about = [f"network  {result['summary']}", f"source   {result['source']}"]
    stored = ["", *bytes_table(result)] if "codec" in result else []
    coupled = ["", *couplings_table(result["couplings"])] if "couplings" in result else []
    return "\n".join([head, *about, "", *table, *stored, *coupled])


def _find(model: str) -> dict[str, Any]:
    from resfit.data.preprocessing import Preprocessing
    from resfit.inference.opening import artifact_of

    artifact = artifact_of(model)
    if artifact is not None:
        from resfit.engines.artifact import describe

        about = describe(artifact)
        return {
            "spec": about.spec, "preprocessing": about.preprocessing, "labels": list(about.labels),
            "trained": about.trained, "source": str(artifact), "precision": about.precision,
            "file_bytes": artifact.stat().st_size, "notes": [],
        }  # fmt: skip
    from resfit.nn.architectures import architecture, is_architecture

    if not Path(model).exists() and is_architecture(model):
        spec = architecture(model)
        side = 32 if spec.stem == "cifar" else 224
        zeros, ones = (0.0,) * spec.in_channels, (1.0,) * spec.in_channels
        preprocessing = Preprocessing(height=side, width=side, channels=spec.in_channels, mean=zeros, std=ones)
        return {
            "spec": spec, "preprocessing": preprocessing, "trained": False, "source": "architecture", "notes": [],
        }  # fmt: skip
    from resfit.model.load import load

    loaded = load(model)
    return {
        "spec": loaded.spec, "preprocessing": loaded.preprocessing, "labels": list(loaded.labels),
        "trained": loaded.provenance.trained, "source": loaded.provenance.source,
        "notes": list(loaded.provenance.notes),
    }  # fmt: skip
