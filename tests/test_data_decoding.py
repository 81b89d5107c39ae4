"""Decoding many images at once: progress, interruption, statistics, fingerprints."""

import io
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resfit.data import decoding
from resfit.data.decoding import decode_listing
from resfit.data.listing import Listing
from resfit.data.preprocessing import Preprocessing
from resfit.data.statistics import channel_statistics, own_shape, spread

SHAPE = Preprocessing(height=4, width=4, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def png(index):
    pixels = np.random.default_rng(index).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def listing(count, read=png):
    names = tuple(f"{index}.png" for index in range(count))
    return Listing(names=names, keys=names, targets=np.arange(count) % 2, labels=("a", "b"), read=read)


def test_images_stay_in_order_whatever_thread_decodes_them():
    decoded = decode_listing(listing(300), SHAPE, role="train")
    for index in (0, 63, 64, 299):
        assert (decoded.images[index] == np.asarray(Image.open(io.BytesIO(png(index))))).all()
        assert decoded.name(index) == f"{index}.png"


def test_the_fingerprint_does_not_depend_on_order():
    whole = listing(10)
    backwards = whole.subset(np.arange(10)[::-1])
    assert backwards.names[0] == "9.png"
    one, other = (decode_listing(each, SHAPE, role="train") for each in (whole, backwards))
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != decode_listing(whole.subset(np.arange(9)), SHAPE, role="train").fingerprint


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_on_a_terminal_and_cleared(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(decoding, "QUIET_SECONDS", 0.0)
    decode_listing(listing(200), SHAPE, role="test")
    assert "decoding test images: 64 of 200" in screen.getvalue()
    assert screen.getvalue().endswith("\r\033[K")


def test_short_work_is_silent_elsewhere(capsys):
    decode_listing(listing(200), SHAPE, role="test")
    assert capsys.readouterr().err == ""


def test_an_interruption_does_not_wait_for_what_is_queued(monkeypatch):
    read: list[int] = []

    def counted(index):
        read.append(index)
        return png(index)

    monkeypatch.setattr(decoding._Progress, "advance", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        decode_listing(listing(20000, counted), SHAPE, role="train")
    assert len(read) < 10000


@given(st.integers(0, 5000), st.integers(1, 400))
def test_a_sample_is_spread_over_all(count, most):
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert len(set(chosen.tolist())) == len(chosen)
    if count > most:
        assert np.diff(chosen).max(initial=0) <= -(-count // most)
        assert count - chosen[-1] <= -(-count // most)


def test_statistics_are_numpys_and_do_not_depend_on_parts():
    images = np.random.default_rng(0).integers(0, 200, (30, 5, 7, 3), dtype=np.uint8)
    mean, std = channel_statistics([images])
    assert mean == pytest.approx((images / 255).mean(axis=(0, 1, 2)), abs=1e-6)
    assert std == pytest.approx((images / 255).std(axis=(0, 1, 2)), abs=1e-6)
    assert channel_statistics([images[:11], images[11:]]) == (mean, std)


def test_images_of_one_colour_have_a_deviation_that_can_divide():
    mean, std = channel_statistics([np.full((2, 3, 3, 1), 51, dtype=np.uint8)])
    assert mean == (0.2,)
    assert std == (round(1 / 255, 6),)


def test_unreadable_headers_do_not_decide_the_size():
    assert own_shape(listing(20, lambda index: b"" if index == 3 else png(index))) == (4, 4, 3)
    assert own_shape(listing(20, lambda _: b"")) == (224, 224, 3)
