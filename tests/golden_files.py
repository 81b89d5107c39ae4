"""Writes the golden files of a new version or codec; those that are there are never written again.

python tests/golden_files.py
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from container_files import encoded, grid, short_floats, varied_model
from small_models import small_model, small_spec

from resfit.model.container import save_container
from resfit.model.encoding import Encoding, Grid
from resfit.model.fold import fold
from resfit.model.model import Model, weights_sha256
from resfit.storage import sha256_file

GOLDEN = Path(__file__).resolve().parent / "golden"
EXPECTED = GOLDEN / "expected.json"


def folded_model() -> Model:
    """A folded network all of whose tensors are symbols, as a compression leaves it; its classes are numbered."""
    model = fold(
        small_model(small_spec(shortcut="zero_pad", se_ratio=0.25, activation="prelu", widths=(8, 16)), seed=3)
    )
    generator = np.random.default_rng(3)
    weights = {}
    chosen: dict[str, Encoding] = {}
    for name, tensor in model.weights.items():
        noise = generator.standard_t(3, tensor.shape).astype(np.float32)
        weights[name] = torch.from_numpy(noise * 0.05)
        if noise.ndim >= 2:
            spread = np.abs(noise * 0.05).reshape(len(noise), -1).mean(axis=1) * generator.uniform(0.7, 1.4, len(noise))
            chosen[name] = Grid(bits=6, axis=0, scales=short_floats(spread))
        else:
            chosen[name] = grid(noise * 0.05, bits=8, axis=None)
    numbered = dataclasses.replace(model, weights=weights, labels=("0", "1", "2"), provenance=varied_model().provenance)
    return encoded(numbered, chosen)


FILES = {
    **{f"varied-{codec}": (varied_model, codec) for codec in ("raw", "huffman", "lzw", "zstd", "range")},
    "folded-range": (folded_model, "range"),
    "folded-huffman": (folded_model, "huffman"),
    "half-range": (lambda: varied_model(seed=1, dtype=torch.float16), "range"),
    "bfloat-lzw": (lambda: varied_model(seed=2, dtype=torch.bfloat16), "lzw"),
    "double-raw": (lambda: varied_model(seed=3, dtype=torch.float64), "raw"),
}


def main() -> None:
    """Write what is missing, and what it holds into expected.json."""
    GOLDEN.mkdir(exist_ok=True)
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    for name, (make, codec) in FILES.items():
        path = GOLDEN / f"{name}.resfit"
        if path.exists():
            continue
        model = make()
        save_container(model, path, codec=codec)
        expected[path.name] = {
            "sha256": sha256_file(path), "weights_sha256": weights_sha256(model), "codec": codec,
            "labels": list(model.labels), "encodings": sorted(model.encodings),
        }  # fmt: skip
    EXPECTED.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
