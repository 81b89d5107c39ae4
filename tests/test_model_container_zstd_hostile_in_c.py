"""docs/unpack.c refuses the Zstandard frames that resfit refuses, with a reason, and in little memory."""

from pathlib import Path

import numpy as np
import pytest
from zstd_frames import (
    CONTENTS,
    LAST,
    MAGIC,
    PACKED,
    RAW,
    RUN,
    assert_read,
    assert_refused,
    block,
    compressed,
    features,
    frame_of,
    one_sequence,
    packed,
    read_in_c,
    read_in_python,
    write,
)

LAST_NOTHING = block(RAW, b"", last=True)
HELLO = frame_of(5, LAST)
SKIPPABLE = (0x184D2A50).to_bytes(4, "little")

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
def test_hostile_frames_are_refused(unpack: Path, frame: bytes, why: str) -> None:
    assert_refused(unpack, frame, 5, why)


def test_bombs_take_no_memory(unpack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of 128 KiB each, and literals of as many bytes again and again."""
    monkeypatch.setenv("ASAN_OPTIONS", "hard_rss_limit_mb=60:max_allocation_size_mb=1")
    run_of_literals = (1 | 3 << 2 | 131_072 << 4).to_bytes(3, "little") + b"x"
    for part in (block(RUN, b"\0", 131_072), block(PACKED, run_of_literals + b"\0")):
        frame = frame_of(4 << 20, *[part] * 32, LAST_NOTHING, descriptor=0x80, extra=bytes([17 << 3]))
        assert_refused(unpack, frame, 1, "another size")
        lying = frame_of(1, *[part] * 32, LAST_NOTHING, descriptor=0x80, extra=bytes([17 << 3]))
        assert_refused(unpack, lying, 1, "more than it may")
    blocks = [block(PACKED, (1 | 3 << 2).to_bytes(3, "little") + b"x\0")] * 1_000
    assert_read(unpack, frame_of(5, *blocks, LAST, descriptor=0x80, extra=bytes([17 << 3])), b"hello")


def test_a_wrong_checksum_is_refused(unpack: Path) -> None:
    for content in (b"h", CONTENTS["bell"][:31], CONTENTS["bell"][:32], CONTENTS["bell"][:71]):
        frame = compressed(content, 3, checksum=True)
        assert_read(unpack, frame, content)
        assert_refused(unpack, frame[:-1] + bytes([frame[-1] ^ 1]), len(content), "the checksum")


def test_a_size_that_is_not_that_of_the_symbols_is_refused(unpack: Path) -> None:
    for content in (CONTENTS["words"][:200], CONTENTS["words"][:300], CONTENTS["runs"][:6_000]):
        for count in (len(content) - 1, len(content) + 1):
            assert_refused(unpack, compressed(content, 3), count, "another size")


def test_every_cut_is_refused(unpack: Path) -> None:
    frame = compressed(CONTENTS["few of many"][:50] * 2, 19, checksum=True)
    assert features(frame) >= {"huffman literals in 1", "coded weights", "count below 128"}
    for end in range(len(frame)):
        assert_refused(unpack, frame[:end], 100, "")


def test_flipped_bits_are_refused_or_mean_the_same_to_both_readers(unpack: Path) -> None:
    """The library does not look whether streams of literals end where they must; resfit's own reader is as lenient."""
    generator = np.random.default_rng(7)
    outcomes = []
    for turn in range(60):
        name, count = ("few of many", 900) if turn % 2 else ("same lengths", 700)
        frame = bytearray(compressed(CONTENTS[name][:count], 1 + turn % 22, window_log=10))
        for at in generator.integers(0, (40, len(frame))[turn // 2 % 2], generator.integers(1, 3)):
            frame[at] ^= 1 << int(generator.integers(8))
        path = write(unpack.parent, bytes(frame), count)
        found, _ = read_in_c(unpack, path)
        assert found is None or found == read_in_python(path)
        outcomes.append(found is None)
    assert 10 < sum(outcomes) < 60
