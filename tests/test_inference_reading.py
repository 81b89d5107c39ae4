"""Pictures decoded ahead of the session, in order, few at a time."""

import io
import threading
import time

import numpy as np
import pytest
from fake_session import RGB_8
from PIL import Image

from resfit.data.preprocessing import decode
from resfit.inference.inputs import Picture
from resfit.inference.reading import BATCHES_AHEAD, read_batches


def png(level, size=(8, 8)):
    stream = io.BytesIO()
    Image.new("RGB", size, (level % 256,) * 3).save(stream, "PNG")
    return stream.getvalue()


def numbered(count, *, read=png):
    """Pictures whose pixels are their number; `taken` grows as they are asked for."""
    taken = []

    def stream():
        for number in range(count):
            taken.append(number)
            yield Picture(name=str(number), read=lambda number=number: read(number))

    return stream(), taken


def test_order_is_kept_whatever_takes_how_long():
    def read(number):
        time.sleep(0.03 if number % 3 == 0 else 0)
        return png(number)

    stream, _ = numbered(20, read=read)
    batches = list(read_batches(stream, RGB_8, batch_size=6, readers=4))
    assert [batch.names for batch in batches] == [
        tuple(str(number) for number in range(start, min(start + 6, 20))) for start in range(0, 20, 6)
    ]
    assert np.concatenate([batch.images for batch in batches])[:, 0, 0, 0].tolist() == list(range(20))


def test_what_cannot_be_read_is_named_by_its_place():
    def read(number):
        if number == 3:
            raise PermissionError("secret")
        return b"" if number == 1 else png(number)

    stream, _ = numbered(5, read=read)
    first, second = read_batches(stream, RGB_8, batch_size=3)
    assert dict(first.errors) == {1: "cannot be decoded (the file is empty)"}
    assert dict(second.errors) == {0: "no permission to read it"}
    assert first.images[:, 0, 0, 0].tolist() == [0, 2]


def test_few_pictures_are_held():
    stream, taken = numbered(1000)
    given = 0
    for batch in read_batches(stream, RGB_8, batch_size=5):
        given += len(batch.names)
        assert len(taken) - given <= BATCHES_AHEAD * 5
        if given >= 100:
            break
    assert len(taken) < 130


def test_the_next_batch_is_decoded_while_the_session_works():
    decoded = threading.Event()

    def read(number):
        if number == 3:
            decoded.set()
        return png(number)

    stream, _ = numbered(4, read=read)
    batches = read_batches(stream, RGB_8, batch_size=2, readers=1)
    next(batches)
    assert decoded.wait(timeout=30)  # without another batch being asked for


def test_decoding_is_as_asked():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    encoded = stream.getvalue()
    found = {}
    for decoding in ("exact", "scaled"):
        picture = Picture(name="noise", read=lambda: encoded)
        (batch,) = read_batches([picture], RGB_8, batch_size=1, decoding=decoding)
        found[decoding] = batch.images[0]
        assert (batch.images[0] == decode(encoded, RGB_8, decoding=decoding)).all()
    assert (found["exact"] != found["scaled"]).any()


def test_leaving_early_decodes_no_more():
    read_numbers = []

    def read(number):
        read_numbers.append(number)
        time.sleep(0.01)
        return png(number)

    stream, _ = numbered(1000, read=read)
    batches = read_batches(stream, RGB_8, batch_size=50, readers=1)
    next(batches)
    batches.close()
    seen = len(read_numbers)
    assert seen < 100
    time.sleep(0.05)
    assert len(read_numbers) == seen


def test_an_error_of_the_stream_itself_is_raised():
    def stream():
        yield Picture(name="0", read=lambda: png(0))
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(read_batches(stream(), RGB_8, batch_size=1))
