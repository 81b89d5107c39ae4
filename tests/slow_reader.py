"""A second reader of `.resfit` files, written from docs/container.md and docs/coding.md alone, in plain Python.

It imports nothing of resfit, cares for clearness only, and raises ValueError for whatever the documents rule out.
"""

import json
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slow_codecs import DECODERS, Bytes

MAGIC = bytes.fromhex("897265736669740a")
CODECS = ("raw", "huffman", "lzw", "zstd", "range")
FLOAT_TYPES = {0: "<f", 1: "<d", 2: "<e", 3: "bfloat16"}
FLOAT, INT64, GRID, CODEBOOK, FP16, BF16 = range(6)


def read(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], bytes]]]:
    """The description, and by name every tensor's shape and its bytes: in the file's float type, or int64."""
    data = path.read_bytes()
    file = Bytes(data)
    if file.take(8) != MAGIC or file.byte() != 1:
        raise ValueError("not a .resfit file of version 1")
    codec = CODECS[file.byte()]
    lengths = [file.varint() for _ in range(6)]
    if file.at + sum(lengths[1:]) + 4 != len(data) or lengths[0] > 2**24:
        raise ValueError("lengths that do not add up")
    if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise ValueError("another checksum")
    directory, kernels, vectors, scales, floats = (file.take(length) for length in lengths[1:])
    float_type, entries, exponent, description = read_directory(directory, lengths[0])
    matrices = [entry for entry in entries if entry["kind"] >= GRID and len(entry["shape"]) >= 2]
    rows = [entry for entry in entries if entry["kind"] >= GRID and len(entry["shape"]) < 2]
    sided = [entry for entry in entries if entry["kind"] in (GRID, CODEBOOK)]
    streams = (
        (matrices, kernels, [entry["shape"] for entry in matrices]),
        (rows, vectors, [entry["shape"] for entry in rows]),
        (sided, scales, [(entry["sides"],) for entry in sided]),
    )
    count = sum(math.prod(shape) for _, _, shapes in streams for shape in shapes)
    if count > max(2**27, 32 * sum(len(data) for _, data, _ in streams)):
        raise ValueError("more numbers than so few bytes hold")
    for own, data, shapes in streams:
        if sum(map(math.prod, shapes)) > 65_536 + 4_096 * len(data):
            raise ValueError("more numbers than so few bytes hold")
        if not shapes and data:
            raise ValueError("bytes that belong to no tensor")
        numbers = DECODERS[codec](data, shapes) if shapes else []
        for entry, found in zip(own, numbers, strict=True):
            entry["side numbers" if own is sided else "numbers"] = found
    return description, dict(tensors(entries, float_type, exponent, Bytes(floats)))


def read_directory(packed: bytes, size: int) -> tuple[int, list[dict[str, Any]], int, dict[str, Any]]:
    """Float type, an entry a tensor, scale exponent and description."""
    unpacker = zlib.decompressobj(-15, preset_dictionary())
    plain = Bytes(unpacker.decompress(packed, size + 1))
    if len(plain.data) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError("a directory of another size")
    float_type = plain.byte()
    entries: list[dict[str, Any]] = [{} for _ in range(plain.varint())]
    for entry in entries:
        end = plain.data.index(b"\n", plain.at)
        entry["name"] = plain.take(end - plain.at).decode("ascii")
        plain.take(1)
    for entry in entries:
        entry["shape"] = tuple(plain.varint() for _ in range(plain.byte()))
    for entry in entries:
        entry["kind"] = plain.byte()
    for entry in entries:
        if entry["kind"] == GRID:
            entry["bits"], axis = plain.byte(), plain.byte()
            entry["axis"] = None if axis == 255 else axis
            entry["sides"] = 1 if axis == 255 else entry["shape"][axis]
    for entry in entries:
        if entry["kind"] == CODEBOOK:
            entry["sides"] = plain.varint()
    for entry in entries:
        if "sides" in entry:
            entry["shift"] = plain.byte()
    exponent = plain.byte() if any(entry["kind"] == GRID for entry in entries) else 0
    return float_type, entries, exponent, json.loads(plain.data[plain.at :].decode())


def preset_dictionary() -> bytes:
    lines = []
    for stage in (4, 3, 2, 1):
        for block in range(9):
            names = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]
            if block == 0 and stage != 1:
                names += ["downsample.0.weight", "downsample.0.bias"]
            lines += [f"layer{stage}.{block}.{name}" for name in names]
    lines += ["fc.weight", "fc.bias", "conv1.weight", "conv1.bias"]
    document = (Path(__file__).resolve().parents[1] / "docs" / "container.md").read_text(encoding="utf-8")
    start = document.index('{"activation_ranges"')
    typical = document[start : document.index("```", start)].replace("\n", "")
    dictionary = ("\n".join(lines) + "\n" + typical).encode()
    assert (len(dictionary), zlib.crc32(dictionary)) == (3874, 0x60AAE704)
    return dictionary


def tensors(
    entries: list[dict[str, Any]], float_type: int, exponent: int, floats: Bytes
) -> Iterator[tuple[str, tuple[tuple[int, ...], bytes]]]:
    size = {0: 4, 1: 8, 2: 2, 3: 2}[float_type]
    for entry in entries:
        shape, kind = entry["shape"], entry["kind"]
        if kind == FLOAT:
            content = floats.take(size * math.prod(shape))
        elif kind == INT64:
            content = floats.take(8 * math.prod(shape))
        else:
            values = [value_of(entry, index, number, exponent) for index, number in enumerate(entry["numbers"])]
            content = b"".join(converted(value, float_type) for value in values)
        yield entry["name"], (shape, content)
    floats.finish()


def value_of(entry: dict[str, Any], index: int, number: int, exponent: int) -> float:
    """A weight in float32."""
    if entry["kind"] == GRID:
        if abs(number) > 2 ** (entry["bits"] - 1) - 1:
            raise ValueError("a number beyond its grid")
        place = 0
        if entry["axis"] is not None:
            inner = math.prod(entry["shape"][entry["axis"] + 1 :])
            place = index // inner % entry["shape"][entry["axis"]]
        scale = float_of(entry["side numbers"][place] * 2 ** entry["shift"] + exponent * 2**23)
        if scale <= 0:
            raise ValueError("a scale that is not above zero")
        return rounded(number * scale)  # exact in double precision, then rounded once
    if entry["kind"] == CODEBOOK:
        centers = [center_of(side, entry["shift"]) for side in entry["side numbers"]]
        if any(centers[place] >= centers[place + 1] for place in range(len(centers) - 1)):
            raise ValueError("centers that do not rise")
        place = number + sum(center < 0 for center in centers)
        if not 0 <= place < len(centers):
            raise ValueError("a number beyond its codebook")
        return centers[place]
    if not -32768 <= number <= 32767:
        raise ValueError("a number beyond 16 bits")
    bits = number if number >= 0 else (-1 - number) + 0x8000
    if entry["kind"] == BF16:
        return float_of((bits % 0x8000) << 16) * (-1 if bits >= 0x8000 else 1)
    return struct.unpack("<e", bits.to_bytes(2, "little"))[0]


def center_of(number: int, shift: int) -> float:
    return float_of(number << shift) if number >= 0 else -float_of((-1 - number) << shift)


def float_of(pattern: int) -> float:
    if not 0 <= pattern < 0x7F800000:
        raise ValueError("a pattern that is no finite float")
    return struct.unpack("<f", pattern.to_bytes(4, "little"))[0]


def rounded(value: float) -> float:
    return struct.unpack("<f", struct.pack("<f", value))[0]


def converted(value: float, float_type: int) -> bytes:
    """A float32 in the file's float type, to the nearest and ties to even."""
    if FLOAT_TYPES[float_type] != "bfloat16":
        return struct.pack(FLOAT_TYPES[float_type], value)
    pattern = int.from_bytes(struct.pack("<f", value), "little")
    half = pattern % 65536
    up = half > 32768 or (half == 32768 and (pattern >> 16) % 2)
    return ((pattern >> 16) + int(up)).to_bytes(2, "little")
