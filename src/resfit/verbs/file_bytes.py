"""Where the bytes of a `.resfit` file go, by kind of tensor and by layer: what `resfit inspect` shows of one."""

from pathlib import Path
from typing import Any

FLOAT32_BYTES = 4


def bytes_of(path: Path, parameters: int) -> dict[str, Any]:
    """Sizes for JSON: file_bytes, overhead_bytes, codec, layers, kinds, and the ratio to float32 parameters.

    The bytes of layers, or of kinds, and of the overhead add up to the file's.
    """
    from resfit.model.container import container_sizes

    sizes = container_sizes(path)
    kinds: dict[str, dict[str, int]] = {}
    for layer in sizes["layers"]:
        kind = kinds.setdefault(layer["kind"], {"symbols": 0, "bytes": 0})
        kind["symbols"] += layer["symbols"]
        kind["bytes"] += layer["bytes"]
    return {**sizes, "kinds": kinds, "ratio": FLOAT32_BYTES * parameters / sizes["file_bytes"]}


def bytes_table(result: dict[str, Any]) -> list[str]:
    """What a person sees of it: lines of two tables."""
    total = result["file_bytes"]
    head = f"{total:,} bytes, {result['ratio']:.2f} times smaller than float32 parameters; codec {result['codec']}"
    kinds: list[tuple[str, ...]] = [("kind", "weights", "bytes", "share", "bits a weight")]
    kinds += [
        (name.replace("_", " "), f"{item['symbols']:,}", f"{item['bytes']:,}", f"{item['bytes'] / total:.1%}",
         f"{8 * item['bytes'] / item['symbols']:.2f}")
        for name, item in result["kinds"].items()
    ]  # fmt: skip
    overhead = result["overhead_bytes"]
    kinds.append(("overhead", "", f"{overhead:,}", f"{overhead / total:.1%}", ""))
    layers: list[tuple[str, ...]] = [("tensor", "stored as", "weights", "bytes", "bits a weight")]
    layers += [
        (item["name"], item["encoding"], f"{item['symbols']:,}", f"{item['bytes']:,}",
         f"{8 * item['bytes'] / item['symbols']:.2f}")
        for item in result["layers"]
    ]  # fmt: skip
    return [head, "", *_aligned(kinds, texts=1), "", *_aligned(layers, texts=2)]


def _aligned(rows: list[tuple[str, ...]], *, texts: int) -> list[str]:
    """Rows as lines: the first `texts` columns to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" if place < texts else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
