"""The directory of a `.resfit` file: which tensors it holds and how, and what is not numbers, as JSON.

It is packed by DEFLATE with a preset dictionary of the names that such networks have, so that a directory of
twenty layers takes a few hundred bytes. docs/container.md gives every byte.
"""

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from resfit.coding.codec import Reader, number_bytes
from resfit.errors import ModelError
from resfit.model.container_bytes import VARINT_BITS

FLOAT_TYPES = ("float32", "float64", "float16", "bfloat16")
KINDS = ("float", "int64", "grid", "codebook", "fp16", "bf16")
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 255
NO_AXIS = 255
MAX_CENTERS = 65_536
MAX_SHIFT = 23  # the mantissa bits of a float32
# A stream may name at most so many symbols, and all streams together so many: what a small file can make a reader
# allocate and decode is bounded. All networks of torchvision are below the free number in all, however sparse.
FREE_SYMBOLS, SYMBOLS_A_BYTE = 65_536, 4_096
FREE_IN_ALL, IN_ALL_A_BYTE = 2**27, 32

_TYPICAL = (
    '{"activation_ranges":{"input":[-2.1,2.6],"layer1.0":[0.0,"labels":["airplane","automobile","bird","cat","deer",'
    '"dog","frog","horse","ship","truck"],"preprocessing":{"channels":3,"fit":"crop","height":224,"mean":[0.485,0.456,'
    '0.406],"std":[0.229,0.224,0.225],"width":224},"provenance":{"created":"2026-01-01T00:00:00+00:00","data":{},'
    '"notes":[],"recipe":{},"resfit_version":"0.1.0","source":"resfit compress","trained":true},"spec":{"activation":'
    '"relu","bias":true,"block":"bottleneck","depths":[3,4,6,3],"norm":"none","num_classes":10,"order":"pre",'
    '"shortcut":"zero_pad","stem":"cifar","stem_width":16,"strides":[1,2,2],"widths":[16,32,64]}}'
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor: its name, shape and kind (KINDS); bits and axis of a grid, centers of a codebook.

    shift: low bits that all its scales or centers leave zero.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    bits: int = 0
    axis: int | None = None
    centers: int = 0
    shift: int = 0

    @property
    def elements(self) -> int:
        """How many numbers the tensor has."""
        return math.prod(self.shape)

    @property
    def stream(self) -> str:
        """The section that holds its symbols, or its numbers as they are."""
        if self.kind in ("float", "int64"):
            return "floats"
        return "kernels" if len(self.shape) >= 2 else "vectors"

    @property
    def side_numbers(self) -> int:
        """How many scales or centers belong to it."""
        if self.kind == "grid":
            return 1 if self.axis is None else self.shape[self.axis]
        return self.centers


@dataclass(frozen=True, kw_only=True)
class Directory:
    """All of a file but its numbers.

    float_type: of tensors of the kind "float", and of what encoded ones become.
    scale_exponent: that of the least scale, as its float has it: what all scales are counted from.
    description: spec, labels, preprocessing, provenance and activation ranges as plain data.
    """

    float_type: str
    entries: tuple[Entry, ...]
    scale_exponent: int = 0
    description: Mapping[str, Any] = field(default_factory=dict)


@cache
def preset_dictionary() -> bytes:
    """What DEFLATE may refer to before the first byte: tensor names, the last stage first, and typical JSON."""
    names = []
    for stage in (4, 3, 2, 1):
        for block in range(9):
            parts = [f"conv{number}.{part}" for number in (1, 2) for part in ("weight", "bias")]
            parts += ["downsample.0.weight", "downsample.0.bias"] if block == 0 and stage > 1 else []
            names += [f"layer{stage}.{block}.{part}" for part in parts]
    names += ["fc.weight", "fc.bias", "conv1.weight", "conv1.bias"]
    return ("".join(f"{name}\n" for name in names) + _TYPICAL).encode()


def pack(directory: Directory) -> tuple[bytes, int]:
    """The packed directory, and its size before packing."""
    plain = _plain(directory)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, preset_dictionary())
    return packer.compress(plain) + packer.flush(), len(plain)


def unpack(packed: bytes, plain_bytes: int) -> Directory:
    """The directory of `plain_bytes` bytes; anything else than what `pack` writes is a ModelError.

    No more than `plain_bytes` are ever unpacked.
    """
    unpacker = zlib.decompressobj(-15, preset_dictionary())
    try:
        plain = unpacker.decompress(packed, plain_bytes + 1)
    except zlib.error as error:
        raise ModelError(f"the directory cannot be unpacked ({error})") from error
    if len(plain) != plain_bytes or not unpacker.eof or unpacker.unused_data:
        raise ModelError(f"the directory does not unpack to the {plain_bytes:,} bytes that the header states")
    return _parsed(Reader(plain, "directory"))


def too_dense(symbols: Mapping[str, int], stream_bytes: Mapping[str, int]) -> str | None:
    """Which streams, given by name, hold more symbols than so many bytes may; None where no reader refuses them.

    No writer makes such a file: what could be coded so well is stored with the codec raw.
    """
    bounds = [(name, symbols[name], size, FREE_SYMBOLS + SYMBOLS_A_BYTE * size) for name, size in stream_bytes.items()]
    size = sum(stream_bytes.values())
    bounds.append(("streams", sum(symbols.values()), size, max(FREE_IN_ALL, IN_ALL_A_BYTE * size)))
    for name, count, size, most in bounds:
        if count > most:
            return f"its {name} are said to be {count:,} symbols in {size:,} bytes, expected at most {most:,}"
    return None


def _plain(directory: Directory) -> bytes:
    entries = directory.entries
    grids = [entry for entry in entries if entry.kind == "grid"]
    codebooks = [entry for entry in entries if entry.kind == "codebook"]
    parts = [bytes([FLOAT_TYPES.index(directory.float_type)]), number_bytes(len(entries))]
    parts += [entry.name.encode("ascii") + b"\n" for entry in entries]
    parts += [bytes([len(entry.shape)]) + b"".join(map(number_bytes, entry.shape)) for entry in entries]
    parts += [bytes([KINDS.index(entry.kind)]) for entry in entries]
    parts += [bytes([entry.bits, NO_AXIS if entry.axis is None else entry.axis]) for entry in grids]
    parts += [number_bytes(entry.centers) for entry in codebooks]
    parts += [bytes([entry.shift]) for entry in entries if entry.side_numbers]
    parts += [bytes([directory.scale_exponent])] if grids else []
    text = json.dumps(directory.description, separators=(",", ":"), sort_keys=True)
    return b"".join([*parts, text.encode()])


def _parsed(plain: Reader) -> Directory:
    float_type = _named(FLOAT_TYPES, plain.byte(), "float type")
    count = plain.number(bits=VARINT_BITS)
    if count > len(plain.data):
        raise ModelError(f"the directory is said to name {count:,} tensors, more than it has bytes")
    names = [_name(plain.line()) for _ in range(count)]
    if len(set(names)) != count:
        raise ModelError("the directory names a tensor twice")
    shapes = [_shape(name, plain) for name in names]
    kinds = [_named(KINDS, plain.byte(), f"kind of {name}") for name in names]
    entries = [Entry(name=name, shape=shape, kind=kind) for name, shape, kind in zip(names, shapes, kinds, strict=True)]
    entries = [_with_grid(entry, plain) if entry.kind == "grid" else entry for entry in entries]
    entries = [_with_centers(entry, plain) if entry.kind == "codebook" else entry for entry in entries]
    entries = [_with_shift(entry, plain) if entry.side_numbers else entry for entry in entries]
    scale_exponent = plain.byte() if any(entry.kind == "grid" for entry in entries) else 0
    return Directory(
        float_type=float_type, entries=tuple(entries), scale_exponent=scale_exponent,
        description=_description(plain.rest()),
    )  # fmt: skip


def _named(names: tuple[str, ...], number: int, what: str) -> str:
    if number >= len(names):
        raise ModelError(f"the directory gives the number {number} as the {what}, expected 0 to {len(names) - 1}")
    return names[number]


def _name(line: bytes) -> str:
    if not 1 <= len(line) <= MAX_NAME_BYTES or not all(0x21 <= byte <= 0x7E for byte in line):
        raise ModelError(f"the directory has a tensor name of {len(line)} bytes that no tensor has")
    return line.decode("ascii")


def _shape(name: str, plain: Reader) -> tuple[int, ...]:
    dimensions = plain.byte()
    if dimensions > MAX_DIMENSIONS:
        raise ModelError(f"{name} is said to have {dimensions} dimensions, at most {MAX_DIMENSIONS} allowed")
    return tuple(plain.number(bits=VARINT_BITS) for _ in range(dimensions))


def _with_grid(entry: Entry, plain: Reader) -> Entry:
    bits, axis = plain.byte(), plain.byte()
    if axis != NO_AXIS and axis >= len(entry.shape):
        raise ModelError(f"{entry.name} has its scales along axis {axis} of the shape {entry.shape}")
    if not 2 <= bits <= 16:
        raise ModelError(f"{entry.name} is said to have {bits} bits, expected 2 to 16")
    return dataclasses.replace(entry, bits=bits, axis=None if axis == NO_AXIS else axis)


def _with_centers(entry: Entry, plain: Reader) -> Entry:
    count = plain.number(bits=VARINT_BITS)
    if not 1 <= count <= MAX_CENTERS:
        raise ModelError(f"the codebook of {entry.name} is said to have {count:,} centers, expected 1 to 65,536")
    return dataclasses.replace(entry, centers=count)


def _with_shift(entry: Entry, plain: Reader) -> Entry:
    shift = plain.byte()
    if shift > MAX_SHIFT:
        raise ModelError(f"the scales of {entry.name} are shifted by {shift} bits, expected at most {MAX_SHIFT}")
    return dataclasses.replace(entry, shift=shift)


def _description(text: bytes) -> dict[str, Any]:
    try:
        description = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the description is not JSON ({error})") from error
    if not isinstance(description, dict):
        raise ModelError(f"the description is a {type(description).__name__}, expected an object")
    return description
