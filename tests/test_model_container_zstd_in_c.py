"""docs/unpack.c reads Zstandard without a library: what resfit reads, with the same weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from zstd_frames import (
    CONTENTS,
    LAST,
    PACKED,
    RAW,
    RUN,
    assert_read,
    block,
    compressed,
    features,
    frame_of,
    one_sequence,
)

LEVELS = range(1, zstandard.MAX_COMPRESSION_LEVEL + 1)


def compressed_contents() -> Iterator[tuple[str, int, int]]:
    """Contents, levels and windows: all levels, everything by each strategy, in blocks of 128 KiB and of 1 KiB."""
    yield from (("all", level, 10 if level in (6, 13, 22) else 0) for level in (1, 3, 5, 6, 8, 13, 16, 18, 21, 22))
    for place, name in enumerate(CONTENTS):
        yield from (
            (name, level, 10 * (level > 9)) for level in (1 + place % 5, 6 + place % 4, 10 + place) if name != "all"
        )


@pytest.mark.parametrize(("name", "level", "window_log"), list(compressed_contents()))
def test_what_zstandard_compresses_is_read(unpack: Path, name: str, level: int, window_log: int) -> None:
    frame = compressed(CONTENTS[name], level, window_log=window_log, checksum=level % 2 == 0)
    assert_read(unpack, frame, CONTENTS[name])


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
def test_wider_symbols_keep_their_sign(unpack: Path, width: int) -> None:
    symbols = np.random.default_rng(width).integers(-32767, 32768, 500).astype(f"<i{width}").tobytes()
    assert_read(unpack, compressed(symbols, 3), symbols, width=width)


@settings(max_examples=15, deadline=None)
@given(
    parts=st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 60)), min_size=1, max_size=8),
    level=st.sampled_from(LEVELS),
    checksum=st.booleans(),
)
def test_any_content_is_read(unpack: Path, parts: list[tuple[bytes, int]], level: int, checksum: bool) -> None:
    content = b"".join(part * count for part, count in parts)
    assert_read(unpack, compressed(content, level, checksum=checksum), content)


def test_blocks_that_the_library_does_not_write_are_read(unpack: Path) -> None:
    run_of_literals = bytes([1 | 7 << 3]) + b"x" + bytes([0])
    assert_read(unpack, frame_of(7, block(PACKED, run_of_literals, last=True)), b"xxxxxxx")
    with_window = frame_of(5, LAST, descriptor=0x80, extra=bytes([0x0B]))
    assert_read(unpack, with_window, b"hello")
    unused_bit = frame_of(5, block(RAW, b""), block(RUN, b"h", 4), block(RAW, b"o", last=True), descriptor=0xB0)
    assert_read(unpack, unused_bit, b"hhhho")
    no_dictionary = frame_of(5, LAST, descriptor=0xA2, extra=bytes(2))
    assert_read(unpack, no_dictionary, b"hello")


def test_forty_thousand_sequences_of_no_bits_are_read(unpack: Path) -> None:
    """Without literals the offset 1 names the second of the last three, so 4 and 1 take turns; a match has 3 bytes."""
    content = bytearray(b"abcdefgh")
    for turn in range(40_000):
        for _ in range(3):
            content.append(content[-1 if turn % 2 else -4])
    sequences = bytes([0, 255]) + (40_000 - 0x7F00).to_bytes(2, "little") + bytes([0b01010100, 0, 0, 0, 1])
    frame = frame_of(len(content), block(RAW, bytes(content[:8])), block(PACKED, sequences, last=True))
    assert_read(unpack, frame, bytes(content))


def test_a_lone_sequence_is_read(unpack: Path) -> None:
    assert_read(unpack, one_sequence(b"he", codes=(2, 0, 0), bits=1), b"heeee")
    assert_read(unpack, one_sequence(b"he", codes=(2, 2, 0), bits=5), b"heheh")
