"""From the sections of a `.resfit` file to encodings and weights, checked before anything is decoded."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from resfit.coding.codecs import CODECS
from resfit.errors import ModelError
from resfit.model.container_bytes import Sections, read_sections
from resfit.model.container_description import spec_of
from resfit.model.container_directory import Directory, Entry, too_dense, unpack
from resfit.model.container_numbers import encoding_of, symbols_of
from resfit.model.encoding import Encoding
from resfit.model.state import check_state
from resfit.nn.spec import ResNetSpec

STREAMS = ("kernels", "vectors", "scales")
TYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}
COUNTER, COUNTER_BYTES = ".num_batches_tracked", 8
Numbers = Mapping[str, list[np.ndarray]]


def opened(path: Path) -> tuple[Sections, Directory, ResNetSpec]:
    """A file's sections and directory, and the spec whose tensors it says that it has: all that precedes decoding."""
    sections = read_sections(path)
    contents = sections.contents
    directory = unpack(contents["directory"], sections.directory_bytes)
    spec = spec_of(directory.description)
    check_state(spec, {entry.name: entry.shape for entry in directory.entries})
    for entry in directory.entries:
        if (entry.kind == "int64") != entry.name.endswith(COUNTER):
            raise ModelError(f"{entry.name} is said to be {entry.kind}, and only counters are int64")
    symbols = {name: sum(map(math.prod, shapes)) for name, shapes in stream_shapes(directory).items()}
    if wrong := too_dense(symbols, {name: len(contents[name]) for name in STREAMS}):
        raise ModelError(wrong, hint="no writer packs so many: it is damaged, or made to fill the memory")
    stored = sum(float_bytes(entry, directory) for entry in directory.entries if entry.stream == "floats")
    if stored != len(contents["floats"]):
        raise ModelError(f"its floats have {len(contents['floats']):,} bytes, expected {stored:,}")
    return sections, directory, spec


def stream_shapes(directory: Directory) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the arrays in each stream, in order."""
    entries = directory.entries
    shapes = {name: [entry.shape for entry in entries if entry.stream == name] for name in ("kernels", "vectors")}
    return {**shapes, "scales": [(entry.side_numbers,) for entry in entries if entry.side_numbers]}


def float_bytes(entry: Entry, directory: Directory) -> int:
    """The bytes of a tensor that is stored as it is."""
    return entry.elements * (COUNTER_BYTES if entry.kind == "int64" else TYPES[directory.float_type].itemsize)


def decoded(sections: Sections, directory: Directory) -> Numbers:
    """The whole numbers of every stream, decoded."""
    numbers = {}
    for name, shapes in stream_shapes(directory).items():
        data = sections.contents[name]
        if not shapes and data:
            raise ModelError(f"it has {len(data):,} bytes of {name} and no tensor that they belong to")
        symbols = sum(math.prod(shape) for shape in shapes)
        numbers[name] = CODECS[sections.codec].decode(data, shapes, max_symbols=symbols) if shapes else []
    return numbers


def encodings_of(directory: Directory, numbers: Numbers) -> dict[str, Encoding]:
    """The encoding of every tensor that has one."""
    sides = iter(numbers["scales"])
    encodings = {}
    for entry in directory.entries:
        if entry.stream != "floats":
            own = next(sides) if entry.side_numbers else np.zeros(0, np.int32)
            encodings[entry.name] = encoding_of(entry, own, exponent=directory.scale_exponent)
    return encodings


def weights_of(
    directory: Directory, encodings: Mapping[str, Encoding], numbers: Numbers, floats: bytes
) -> dict[str, Tensor]:
    """Every tensor of a file, in its order."""
    streams = {name: iter(numbers[name]) for name in ("kernels", "vectors")}
    stored = memoryview(floats)
    weights = {}
    for entry in directory.entries:
        if entry.stream == "floats":
            size = float_bytes(entry, directory)
            kind = torch.int64 if entry.kind == "int64" else TYPES[directory.float_type]
            weights[entry.name] = _tensor(bytearray(stored[:size]), kind).reshape(entry.shape)
            stored = stored[size:]
        else:
            encoding = encodings[entry.name]
            values = encoding.values(symbols_of(entry, encoding, next(streams[entry.stream])))
            weights[entry.name] = torch.from_numpy(values).to(TYPES[directory.float_type])
    return weights


def _tensor(data: bytearray, kind: torch.dtype) -> Tensor:
    return torch.frombuffer(data, dtype=kind) if data else torch.zeros(0, dtype=kind)
