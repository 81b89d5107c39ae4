"""docs/unpack.c reads Zstandard without a library: what resfit reads, with the same weights, and nothing else."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from c_reader import built, c_tensors, run
from container_files import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import small_model, small_spec

from resfit.errors import ModelError
from resfit.model.container import load_container, save_container
from resfit.model.container_bytes import Sections, read_sections, write_sections
from resfit.model.encoding import Grid

MAGIC = (0xFD2FB528).to_bytes(4, "little")
RAW, RUN, PACKED = range(3)
LEVELS = range(1, zstandard.MAX_COMPRESSION_LEVEL + 1)


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("zstd")


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


def assert_read(unpack: Path, folder: Path, frame: bytes, content: bytes, *, width: int = 1) -> None:
    """That both readers find the content in a frame."""
    path = write(folder, frame, len(content) // width, width=width)
    expected = np.frombuffer(content, f"<i{width}").astype(np.float32).tobytes()
    assert read_in_python(path) == expected
    assert read_in_c(unpack, path) == (expected, "")


def assert_refused(unpack: Path, folder: Path, frame: bytes, count: int, why: str) -> None:
    path = write(folder, frame, count)
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


def compressed_contents() -> Iterator[tuple[str, int, int]]:
    """Contents, levels and windows: all levels, everything by each strategy, in blocks of 128 KiB and of 1 KiB."""
    yield from (("all", level, 10 if level in (6, 13, 22) else 0) for level in (1, 3, 5, 6, 8, 13, 16, 18, 21, 22))
    for place, name in enumerate(CONTENTS):
        yield from (
            (name, level, 10 * (level > 9)) for level in (1 + place % 5, 6 + place % 4, 10 + place) if name != "all"
        )


@pytest.mark.parametrize(("name", "level", "window_log"), list(compressed_contents()))
def test_what_zstandard_compresses_is_read(unpack: Path, folder: Path, name: str, level: int, window_log: int) -> None:
    frame = compressed(CONTENTS[name], level, window_log=window_log, checksum=level % 2 == 0)
    assert_read(unpack, folder, frame, CONTENTS[name])


def test_what_zstandard_compresses_has_blocks_of_all_kinds() -> None:
    frames = (compressed(CONTENTS[name], level, window_log=log) for name, level, log in compressed_contents())
    modes = ("predefined", "of one", "described", "as before")
    kinds = ("literal lengths", "offsets", "match lengths")
    expected = {f"{kind} {mode}" for kind in kinds for mode in modes}
    expected |= {"raw block", "run block", "packed block", "last", "raw literals", "huffman literals in 1"}
    expected |= {"huffman literals in 4", "treeless literals in 1", "treeless literals in 4", "direct weights"}
    expected |= {"coded weights", "no sequences", "count below 128", f"count below {0x7F00}"}
    assert set().union(*map(features, frames)) >= expected
    assert {level for _, level, _ in compressed_contents()} == set(LEVELS)


@pytest.mark.parametrize("width", [2, 4])
def test_wider_symbols_keep_their_sign(unpack: Path, folder: Path, width: int) -> None:
    symbols = np.random.default_rng(width).integers(-32767, 32768, 500).astype(f"<i{width}").tobytes()
    assert_read(unpack, folder, compressed(symbols, 3), symbols, width=width)


@settings(max_examples=15, deadline=None)
@given(
    parts=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), min_size=1, max_size=8),
    level=st.sampled_from(LEVELS),
    checksum=st.booleans(),
)
def test_any_content_is_read(
    unpack: Path, folder: Path, parts: list[tuple[bytes, int]], level: int, checksum: bool
) -> None:
    content = b"".join(part * count for part, count in parts)
    assert_read(unpack, folder, compressed(content, level, checksum=checksum), content)


# -- Frames written by hand: what the library does not write, and what nobody may ------------------------------------


def block(kind: int, content: bytes, size: int | None = None, *, last: bool = False) -> bytes:
    size = len(content) if size is None else size
    return (last | kind << 1 | size << 3).to_bytes(3, "little") + content


def frame_of(size: int, *blocks: bytes, descriptor: int = 0xA0, extra: bytes = b"") -> bytes:
    """A single segment whose size has 4 bytes, as long as the descriptor does not say otherwise."""
    return MAGIC + bytes([descriptor]) + extra + size.to_bytes(4, "little") + b"".join(blocks)


LAST = block(RAW, b"hello", last=True)
LAST_NOTHING = block(RAW, b"", last=True)
HELLO = frame_of(5, LAST)
SKIPPABLE = (0x184D2A50).to_bytes(4, "little")


def test_blocks_that_the_library_does_not_write_are_read(unpack: Path, folder: Path) -> None:
    run_of_literals = bytes([1 | 7 << 3]) + b"x" + bytes([0])
    assert_read(unpack, folder, frame_of(7, block(PACKED, run_of_literals, last=True)), b"xxxxxxx")
    with_window = frame_of(5, LAST, descriptor=0x80, extra=bytes([0x0B]))
    assert_read(unpack, folder, with_window, b"hello")
    unused_bit = frame_of(5, block(RAW, b""), block(RUN, b"h", 4), block(RAW, b"o", last=True), descriptor=0xB0)
    assert_read(unpack, folder, unused_bit, b"hhhho")
    no_dictionary = frame_of(5, LAST, descriptor=0xA2, extra=bytes(2))
    assert_read(unpack, folder, no_dictionary, b"hello")


def test_forty_thousand_sequences_of_no_bits_are_read(unpack: Path, folder: Path) -> None:
    """Without literals the offset 1 names the second of the last three, so 4 and 1 take turns; a match has 3 bytes."""
    content = bytearray(b"abcdefgh")
    for turn in range(40_000):
        for _ in range(3):
            content.append(content[-1 if turn % 2 else -4])
    sequences = bytes([0, 255]) + (40_000 - 0x7F00).to_bytes(2, "little") + bytes([0b01010100, 0, 0, 0, 1])
    frame = frame_of(len(content), block(RAW, bytes(content[:8])), block(PACKED, sequences, last=True))
    assert_read(unpack, folder, frame, bytes(content))


def packed(content: bytes) -> bytes:
    """A frame that holds 5 bytes and reaches 1 KiB back, with one packed block."""
    return frame_of(5, block(PACKED, content, last=True), descriptor=0x80, extra=b"\0")


def one_sequence(literals: bytes, *, codes: tuple[int, int, int], bits: int, modes: int = 0b01010100) -> bytes:
    """Literals and one sequence with tables of one code each: of the literals, the offset and the match."""
    return packed(bytes([len(literals) << 3]) + literals + bytes([1, modes, *codes, bits]))


def test_a_lone_sequence_is_read(unpack: Path, folder: Path) -> None:
    assert_read(unpack, folder, one_sequence(b"he", codes=(2, 0, 0), bits=1), b"heeee")
    assert_read(unpack, folder, one_sequence(b"he", codes=(2, 2, 0), bits=5), b"heheh")


HOSTILE = {
    "no Zstandard frame": (b"\x29" + HELLO[1:], "no Zstandard frame"),
    "a skippable frame first": (SKIPPABLE + (5).to_bytes(4, "little") + b"hello", "no Zstandard frame"),
    "a skippable frame after": (HELLO + SKIPPABLE + bytes(4), "bytes follow"),
    "two frames": (HELLO + HELLO, "bytes follow"),
    "a dictionary": (frame_of(5, LAST, descriptor=0xA1, extra=b"\1"), "needs a dictionary"),
    "a reserved bit": (frame_of(5, LAST, descriptor=0xA8), "an unknown kind"),
    "no stated size": (MAGIC + bytes([0, 0]) + LAST, "does not state its size"),
    "a window of 4 GiB": (frame_of(5, LAST, descriptor=0x80, extra=bytes([22 << 3])), "further back than any"),
    "less than stated": (frame_of(5, block(RAW, b"hell", last=True)), "less than it says"),
    "more than stated": (frame_of(5, block(RAW, b"hell"), block(RAW, b"ooo", last=True)), "more than it may"),
    "no last block": (frame_of(5, block(RAW, b"hello")), "ends before"),
    "a block of no kind": (frame_of(5, block(RAW, b"hell"), block(3, b"o", last=True)), "an unknown kind"),
    "a block of nothing": (packed(b""), "ends before"),
    "a block beyond the window": (packed(bytes(1025)), "larger than it may be"),
    "literals beyond the window": (packed(bytes([1 | 1 << 2 | (1025 & 15) << 4, 1025 >> 4]) + b"h\0"), "more literals"),
    "literals that end early": (packed(bytes([5 << 3]) + b"hel"), "ends before"),
    "no tree before": (packed(bytes([3, 0, 0, 0])), "a tree is referred to"),
    "literals too few for four": (packed(bytes([2 | 4 | 5 << 4, 0, 3, 129, 0x11] + [1] * 10)), "too few"),
    "a tree of no weights": (packed(bytes([2 | 5 << 4, 0, 1, 129, 0, 1, 0])), "no codes"),
    "a tree of too long codes": (packed(bytes([2 | 5 << 4, 0, 1, 129, 0xBB, 1, 0])), "no codes or longer"),
    "a weight beyond any": (packed(bytes([2 | 5 << 4, 0, 1, 129, 0xCC, 1, 0])), "longer code than any"),
    "weights that do not add up": (packed(bytes([2 | 5 << 4, 0, 1, 130, 0x41, 0x10, 1, 0])), "do not fit together"),
    "a tree without leaves": (packed(bytes([2 | 5 << 4, 0, 1, 128, 0x20, 1, 0])), "its greatest length"),
    "a tree without its end": (packed(bytes([2 | 5 << 4, 0x40, 0, 20])), "ends before"),
    "more after no sequences": (packed(bytes([5 << 3]) + b"hello\0\0"), "bytes follow"),
    "no tables before": (packed(bytes([2 << 3]) + b"he" + bytes([1, 0b11111100, 1])), "a table is referred to"),
    "a table of too many states": (packed(bytes([2 << 3]) + b"he" + bytes([1, 0b10010100, 15, 0, 1])), "more states"),
    "tables of no kind": (one_sequence(b"he", codes=(2, 0, 0), bits=1, modes=0b01010101), "an unknown kind"),
    "an unknown literal length": (one_sequence(b"he", codes=(36, 0, 0), bits=1), "a code that there is not"),
    "an unknown offset": (one_sequence(b"he", codes=(2, 32, 0), bits=1), "a code that there is not"),
    "an unknown match length": (one_sequence(b"he", codes=(2, 0, 53), bits=1), "a code that there is not"),
    "a match before the start": (one_sequence(b"he", codes=(2, 2, 0), bits=7), "precedes the first byte"),
    "a match of distance 0": (one_sequence(b"h", codes=(0, 1, 0), bits=3), "precedes the first byte"),
    "a match beyond the end": (one_sequence(b"he", codes=(2, 0, 1), bits=1), "more than it may"),
    "more literals than there are": (one_sequence(b"h", codes=(2, 0, 0), bits=1), "fewer literals"),
    "no mark at the end of bits": (one_sequence(b"he", codes=(2, 0, 0), bits=0), "no mark"),
    "too few bits": (one_sequence(b"he", codes=(2, 2, 0), bits=2), "bits ends too early"),
    "bits after the last sequence": (one_sequence(b"he", codes=(2, 0, 0), bits=2), "bits follow"),
}  # fmt: skip


@pytest.mark.parametrize(("frame", "why"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_frames_are_refused(unpack: Path, folder: Path, frame: bytes, why: str) -> None:
    assert_refused(unpack, folder, frame, 5, why)


def test_bombs_take_no_memory(unpack: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of 128 KiB each, and literals of as many bytes again and again."""
    monkeypatch.setenv("ASAN_OPTIONS", "hard_rss_limit_mb=60:max_allocation_size_mb=1")
    run_of_literals = (1 | 3 << 2 | 131_072 << 4).to_bytes(3, "little") + b"x"
    for part in (block(RUN, b"\0", 131_072), block(PACKED, run_of_literals + b"\0")):
        frame = frame_of(4 << 20, *[part] * 32, LAST_NOTHING, descriptor=0x80, extra=bytes([17 << 3]))
        assert_refused(unpack, folder, frame, 1, "another size")
        lying = frame_of(1, *[part] * 32, LAST_NOTHING, descriptor=0x80, extra=bytes([17 << 3]))
        assert_refused(unpack, folder, lying, 1, "more than it may")
    blocks = [block(PACKED, (1 | 3 << 2).to_bytes(3, "little") + b"x\0")] * 1_000
    assert_read(unpack, folder, frame_of(5, *blocks, LAST, descriptor=0x80, extra=bytes([17 << 3])), b"hello")


def test_a_wrong_checksum_is_refused(unpack: Path, folder: Path) -> None:
    for content in (b"h", CONTENTS["bell"][:31], CONTENTS["bell"][:32], CONTENTS["bell"][:71]):
        frame = compressed(content, 3, checksum=True)
        assert_read(unpack, folder, frame, content)
        assert_refused(unpack, folder, frame[:-1] + bytes([frame[-1] ^ 1]), len(content), "the checksum")


def test_a_size_that_is_not_that_of_the_symbols_is_refused(unpack: Path, folder: Path) -> None:
    for content in (CONTENTS["words"][:200], CONTENTS["words"][:300], CONTENTS["runs"][:6_000]):
        for count in (len(content) - 1, len(content) + 1):
            assert_refused(unpack, folder, compressed(content, 3), count, "another size")


def test_every_cut_is_refused(unpack: Path, folder: Path) -> None:
    frame = compressed(CONTENTS["few of many"][:50] * 2, 19, checksum=True)
    assert features(frame) >= {"huffman literals in 1", "coded weights", "count below 128"}
    for end in range(len(frame)):
        assert_refused(unpack, folder, frame[:end], 100, "")


def test_flipped_bits_are_refused_or_mean_the_same_to_both_readers(unpack: Path, folder: Path) -> None:
    """The library does not look whether streams of literals end where they must; resfit's own reader is as lenient."""
    generator = np.random.default_rng(7)
    outcomes = []
    for turn in range(60):
        name, count = ("few of many", 900) if turn % 2 else ("same lengths", 700)
        frame = bytearray(compressed(CONTENTS[name][:count], 1 + turn % 22, window_log=10))
        for at in generator.integers(0, (40, len(frame))[turn // 2 % 2], generator.integers(1, 3)):
            frame[at] ^= 1 << int(generator.integers(8))
        path = write(folder, bytes(frame), count)
        found, _ = read_in_c(unpack, path)
        assert found is None or found == read_in_python(path)
        outcomes.append(found is None)
    assert 10 < sum(outcomes) < 60
