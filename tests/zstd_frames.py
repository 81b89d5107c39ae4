"""Files whose one vector is a Zstandard frame: written, read by docs/unpack.c and by resfit; frames made by hand."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import zstandard
from c_reader import c_tensors, run
from container_files import encoded
from small_models import small_model, small_spec

from resfit.errors import ModelError
from resfit.model.container import load_container, save_container
from resfit.model.container_bytes import Sections, read_sections, write_sections
from resfit.model.encoding import Grid

MAGIC = (0xFD2FB528).to_bytes(4, "little")
RAW, RUN, PACKED = range(3)


@functools.cache
def sections_for(count: int, folder: Path) -> Sections:
    """A file with one encoded tensor, a vector of so many numbers whose weights are the numbers themselves."""
    model = small_model(
        small_spec(depths=(1,), widths=(1,), strides=(1,), stem_width=1, norm="none", num_classes=count)
    )
    grid = Grid(bits=16, axis=None, scales=np.ones(1))
    model.weights["fc.bias"].copy_(torch.randint(-50, 50, (count,)))  # plain ones would be taken for a trap
    save_container(encoded(model, {"fc.bias": grid}), folder / "template.resfit", codec="zstd")
    return read_sections(folder / "template.resfit")


def write(folder: Path, frame: bytes, count: int, *, width: int = 1) -> Path:
    """A file whose vector is so many numbers in a frame."""
    sections = sections_for(count, folder)
    contents = {**sections.contents, "vectors": bytes([width]) + frame}
    changed = Sections(codec="zstd", contents=contents, directory_bytes=sections.directory_bytes)
    write_sections(folder / "c.resfit", changed)
    return folder / "c.resfit"


def read_in_c(unpack: Path, path: Path) -> tuple[bytes | None, str]:
    """The bytes of the vector's weights or None, and what the program says; it never crashes."""
    weights = path.with_name("weights")
    weights.unlink(missing_ok=True)
    done = run(unpack, path, weights)
    if done.returncode:
        assert done.returncode == 1, done.stderr
        assert done.stderr.startswith("unpack: ")
        assert not weights.exists()
        return None, done.stderr
    return c_tensors(done.stdout, weights.read_bytes())["fc.bias"][2], done.stderr


def read_in_python(path: Path) -> bytes | None:
    try:
        return load_container(path).weights["fc.bias"].numpy().tobytes()
    except ModelError:
        return None


def assert_read(unpack: Path, frame: bytes, content: bytes, *, width: int = 1) -> None:
    """That both readers find the content in a frame."""
    path = write(unpack.parent, frame, len(content) // width, width=width)
    expected = np.frombuffer(content, f"<i{width}").astype(np.float32).tobytes()
    assert read_in_python(path) == expected
    assert read_in_c(unpack, path) == (expected, "")


def assert_refused(unpack: Path, frame: bytes, count: int, why: str) -> None:
    path = write(unpack.parent, frame, count)
    found, said = read_in_c(unpack, path)
    assert found is None
    assert why in said
    assert read_in_python(path) is None


@functools.cache
def compressed(content: bytes, level: int, *, window_log: int = 0, checksum: bool = False) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=window_log, write_checksum=checksum, write_content_size=True
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


def contents() -> dict[str, bytes]:
    """Bytes of many kinds, by name."""
    generator = np.random.default_rng(3)
    words = [generator.bytes(int(length)) for length in generator.integers(3, 30, 40)]

    def chosen(alphabet: int, steepness: float, count: int) -> bytes:
        shares = np.arange(1, alphabet + 1) ** -steepness
        return generator.choice(alphabet, count, p=shares / shares.sum()).astype(np.uint8).tobytes()

    found = {
        "one byte": b"\x85",
        "six bytes": b"resfit",
        "a run": bytes(12_000),
        "random": generator.bytes(3_000),
        "two in turns": b"ab" * 4_000,
        "three letters": chosen(3, 3.0, 3_000),
        "few of many": chosen(59, 2.0, 900),
        "bell": np.clip(np.rint(generator.normal(0, 9, 9_000)), -127, 127).astype(np.int8).tobytes(),
        "runs": b"".join(bytes([int(generator.integers(4))]) * int(generator.integers(1, 300)) for _ in range(80)),
        "same lengths": b"".join(generator.bytes(4) + b"resfit container" for _ in range(800)),
        "words": b"".join(words[index] for index in generator.integers(0, 40, 1_200)),
    }
    return {**found, "all": b"".join([chosen(59, 1.3, 55_000), *found.values(), chosen(59, 1.3, 15_000)])}


CONTENTS = contents()


def features(frame: bytes) -> set[str]:
    """What the blocks of a frame are made of."""
    at = 5 + (not frame[4] >> 5 & 1) + (frame[4] >> 5 & 1, 2, 4, 8)[frame[4] >> 6]
    found: set[str] = set()
    while "last" not in found:
        header = int.from_bytes(frame[at : at + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        found |= {"last"} if header & 1 else set()
        found.add(("raw block", "run block", "packed block")[kind])
        if kind == PACKED:
            found |= set(block_features(frame[at + 3 : at + 3 + size]))
        at += 3 + (1 if kind == RUN else size)
    return found


def block_features(block: bytes) -> Iterator[str]:
    kind, form = block[0] & 3, block[0] >> 2 & 3
    if kind < 2:
        size = (1, 2, 1, 3)[form]
        at = size + (1 if kind else int.from_bytes(block[:size], "little") >> (4 if form & 1 else 3))
        yield ("raw literals", "run literals")[kind]
    else:
        size, width = (3, 3, 4, 5)[form], (10, 10, 14, 18)[form]
        at = size + (int.from_bytes(block[:size], "little") >> (4 + width))
        yield f"{('huffman', 'treeless')[kind - 2]} literals in {4 if form else 1}"
        if kind == 2:
            yield "direct weights" if block[size] > 127 else "coded weights"
    count = block[at]
    if not count:
        yield "no sequences"
        return
    at += 1 if count < 128 else 2 if count < 255 else 3
    yield f"count below {128 if count < 128 else 0x7F00 if count < 255 else 1 << 17}"
    for place, name in enumerate(("literal lengths", "offsets", "match lengths")):
        yield f"{name} {('predefined', 'of one', 'described', 'as before')[block[at] >> (6 - 2 * place) & 3]}"


def block(kind: int, content: bytes, size: int | None = None, *, last: bool = False) -> bytes:
    size = len(content) if size is None else size
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + content


def frame_of(size: int, *blocks: bytes, descriptor: int = 0xA0, extra: bytes = b"") -> bytes:
    """A single segment whose size has 4 bytes, as long as the descriptor does not say otherwise."""
    return MAGIC + bytes([descriptor]) + extra + size.to_bytes(4, "little") + b"".join(blocks)


LAST = block(RAW, b"hello", last=True)


def packed(content: bytes) -> bytes:
    """A frame that holds 5 bytes and reaches 1 KiB back, with one packed block."""
    return frame_of(5, block(PACKED, content, last=True), descriptor=0x80, extra=b"\0")


def one_sequence(literals: bytes, *, codes: tuple[int, int, int], bits: int, modes: int = 0b01010100) -> bytes:
    """Literals and one sequence with tables of one code each: of the literals, the offset and the match."""
    return packed(bytes([len(literals) << 3]) + literals + bytes([1, modes, *codes, bits]))
