"""Models with every kind of encoding, and `.resfit` files taken apart, changed and put together again."""

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from small_models import small_model, small_spec

from resfit.model.container_bytes import CHECKSUM_BYTES, Sections, read_sections, write_sections
from resfit.model.container_directory import preset_dictionary
from resfit.model.encoding import Codebook, Encoding, Float, Grid
from resfit.model.model import Model, Provenance, Range, weights_sha256


def short_floats(values: np.ndarray, mantissa_bits: int = 3) -> np.ndarray:
    """Positive floats cut to a few mantissa bits, as a compression chooses scales."""
    patterns = np.asarray(values, np.float32).view(np.uint32)
    return (patterns >> (23 - mantissa_bits) << (23 - mantissa_bits)).view(np.float32)


def grid(values: np.ndarray, *, bits: int, axis: int | None, scales: np.ndarray | None = None) -> Grid:
    """A grid that covers a tensor's values."""
    others = tuple(index for index in range(values.ndim) if index != axis) if axis is not None else None
    least = np.maximum(np.abs(values).max(axis=others), 1e-6) / (2 ** (bits - 1) - 1)
    return Grid(bits=bits, axis=axis, scales=short_floats(least) * 2 if scales is None else scales)


def encoded(model: Model, encodings: Mapping[str, Encoding]) -> Model:
    """The model with some tensors moved to the values of their encodings."""
    values = {}
    for name, encoding in encodings.items():
        tensor = model.weights[name]
        values[name] = torch.from_numpy(encoding.values(encoding.symbols(tensor.float().numpy()))).to(tensor.dtype)
    return dataclasses.replace(model, weights={**model.weights, **values}, encodings=dict(encodings))


def varied_model(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
    """A model with tensors of every kind: grids along both axes and none, a codebook, half floats, plain floats."""
    model = small_model(small_spec(order="pre", bias=True, widths=(8, 12)), seed=seed, dtype=dtype)
    arrays = {name: tensor.float().numpy() for name, tensor in model.weights.items()}
    encodings = {
        "conv1.weight": grid(arrays["conv1.weight"], bits=4, axis=0),
        "conv1.bias": grid(arrays["conv1.bias"], bits=8, axis=None),
        "layer1.0.conv1.weight": grid(arrays["layer1.0.conv1.weight"], bits=3, axis=1),
        "layer1.0.conv2.weight": Codebook(centers=np.array([-0.11, -0.03, 0.0, 0.05, 0.125])),
        "layer2.0.conv1.weight": Float(kind="fp16"),
        "layer2.0.conv1.bias": Float(kind="bf16"),
        "layer2.0.conv2.weight": grid(arrays["layer2.0.conv2.weight"], bits=2, axis=None),
        "layer2.1.conv1.bias": Codebook(centers=np.array([-1e-30, 0.3])),
        "fc.weight": grid(arrays["fc.weight"], bits=16, axis=0),
    }
    ranges = {"input": Range(low=-2.1, high=2.6), "layer1.0": Range(low=0.0, high=1 / 3)}
    provenance = Provenance(
        trained=True, source="test", recipe={"lr": 0.1}, data={"n": 3}, resfit_version="1", notes=("one",),
        created="2026-11-24T00:00:00+00:00",
    )  # fmt: skip
    named = dataclasses.replace(
        model, labels=("café", "</script>", "日本"), activation_ranges=ranges, provenance=provenance
    )
    return encoded(named, encodings)


def assert_equal(left: Model, right: Model) -> None:
    """That two models agree in every bit and word."""
    assert weights_sha256(left) == weights_sha256(right)
    for name in ("spec", "preprocessing", "labels", "provenance", "encodings", "activation_ranges"):
        assert getattr(left, name) == getattr(right, name), name


def with_checksum(data: bytes) -> bytes:
    """A file's bytes whose checksum is that of what precedes it."""
    body = data[:-CHECKSUM_BYTES]
    return body + zlib.crc32(body).to_bytes(CHECKSUM_BYTES, "little")


def rewrite(path: Path, **changes: Callable[[bytes], bytes]) -> None:
    """Change sections of a file, lengths and checksum made anew; "plain" is the directory as it is unpacked."""
    sections = read_sections(path)
    contents = dict(sections.contents)
    size = sections.directory_bytes
    for name, change in changes.items():
        if name == "plain":
            plain = change(zlib.decompressobj(-15, preset_dictionary()).decompress(contents["directory"]))
            packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, preset_dictionary())
            contents["directory"], size = packer.compress(plain) + packer.flush(), len(plain)
        else:
            contents[name] = change(contents[name])
    write_sections(path, Sections(codec=sections.codec, contents=contents, directory_bytes=size))


def at_kinds(plain: bytes, count: int) -> int:
    """Where the kinds begin in an unpacked directory."""
    at = 2
    for _ in range(count):
        at = plain.index(b"\n", at) + 1
    for _ in range(count):
        dimensions, at = plain[at], at + 1
        for _ in range(dimensions):
            while plain[at] >= 0x80:
                at += 1
            at += 1
    return at
