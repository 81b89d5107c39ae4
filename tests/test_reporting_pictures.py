"""The pictures of a run's report: curves, reliability, the network, and where it looked."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image
from reporting_sample import calibration

from resfit.nn.architectures import architecture
from resfit.reporting.content import Calibration, Epoch, NetworkLayout
from resfit.reporting.curves import comparison_picture, training_picture
from resfit.reporting.images import overlay_uri, picture_uri
from resfit.reporting.network_drawing import network_picture
from resfit.reporting.reliability import calibration_words, reliability_picture

LINE = re.compile(r'<polyline class="curve (\w+)" points="([^"]+)"')


def _lines(picture: object) -> dict[str, np.ndarray]:
    """Points of each curve of the wide picture, by its style."""
    text = str(picture).split('class="plot narrow"')[0]
    return {
        style: np.array([[float(part) for part in point.split(",")] for point in points.split()])
        for style, points in LINE.findall(text)
    }


def test_curves_have_their_points_at_the_right_places():
    losses = (4.0, 2.0, 1.0, 1.0)
    lines = _lines(training_picture([Epoch(epoch=index + 1, loss=loss) for index, loss in enumerate(losses)]))
    points = lines["training"]
    assert np.allclose(np.diff(points[:, 0]), points[1, 0] - points[0, 0], atol=0.2)
    falls = np.diff(points[:, 1])  # downwards on the page
    assert falls[0] == pytest.approx(2 * falls[1], abs=0.2)
    assert falls[2] == pytest.approx(0, abs=1e-9)
    assert "validation" not in lines


def test_flat_short_and_broken_curves():
    flat = [Epoch(epoch=index, loss=0.5, lr=0.1) for index in (1, 2, 3)]
    assert "rate" in _lines(training_picture(flat))
    assert training_picture(flat[:1]) is None
    broken = [*flat, Epoch(epoch=4, loss=float("nan"))]
    assert len(_lines(training_picture(broken))["training"]) == 3


def test_several_runs_share_axes():
    slow = [Epoch(epoch=index, loss=2.0 / index) for index in (1, 2, 3, 4)]
    fast = [Epoch(epoch=index, loss=1.0 / index) for index in (1, 2)]
    lines = _lines(comparison_picture({"slow": slow, "fast": fast}))
    assert set(lines) == {"run0", "run1"}
    assert np.allclose(lines["run0"][:2, 0], lines["run1"][:, 0])
    assert lines["run1"][0, 1] == pytest.approx(lines["run0"][1, 1], abs=0.1)  # both have a loss of 1 there


RECTANGLE = re.compile(r'<rect class="column (\w+)[^"]*" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"')


def test_reliability_bars_are_as_high_as_their_share_and_gaps_reach_to_the_probability():
    text = str(reliability_picture(calibration())).split('class="plot narrow"')[0]
    bars = {}
    for style, *numbers in RECTANGLE.findall(text):
        bars.setdefault(style, []).append([float(number) for number in numbers])
    shares, over, under = bars["share"], bars["over"], bars["under"]
    assert len(shares) == 2  # the empty bin has none
    unit = shares[1][3] / 0.6  # the second is right in 60 %: height of 100 %
    assert shares[0][3] == pytest.approx(0.3 * unit, abs=0.1)  # up to what it claims
    assert under[0][3] == pytest.approx(0.2 * unit, abs=0.1)  # 50 % right where it said 30 %
    assert over[0][3] == pytest.approx(0.3 * unit, abs=0.1)  # 60 % where it said 90 %
    counts = bars["count"]
    assert counts[1][3] == pytest.approx(2 * counts[0][3], abs=0.1)


def test_reliability_words_say_the_direction_unless_chance_explains_it():
    assert "on average it is too sure" in calibration_words(calibration())
    few = calibration().bins[2]
    few = dataclasses.replace(few, count=10, accuracy=0.9, confidence=0.8)
    words = calibration_words(Calibration(ece=0.1, bins=(few,)))
    assert "10 points" in words
    assert "within chance" in words
    many = dataclasses.replace(few, count=10_000)
    assert "too unsure" in calibration_words(Calibration(ece=0.1, bins=(many,)))


def test_a_calibration_without_answers_has_no_picture():
    empty = Calibration(ece=0.0, bins=(calibration().bins[1],))
    assert reliability_picture(empty) is None
    assert calibration_words(empty) == "Expected calibration error 0 points."


def _network(name: str, side: int = 32, **changes: object) -> str:
    spec = dataclasses.replace(architecture(name), **changes)
    text = str(network_picture(NetworkLayout(spec=spec, height=side, width=side)))
    return text.split('class="plot narrow"')[0]


def test_network_draws_stages_with_sizes_and_like_blocks_once():
    text = _network("resnet20")
    for name, shape in (("layer1", "16 × 32 × 32"), ("layer2", "32 × 16 × 16"), ("layer3", "64 × 8 × 8")):
        assert name in text
        assert f"out {shape}" in text
    assert "10 logits" in text
    assert re.findall(r"class=\"times\"[^>]*>(× \d+)<", text) == ["× 3", "× 2", "× 2"]
    assert text.count('class="shortcut"') == 3  # an identity in each stage
    assert text.count('class="shortcut dashed"') == 2  # zero padding where shapes change
    assert text.count('class="sum"') == 5


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet20b", '<path class="shortcut changed"'),
        ("seresnet50", "squeeze and excite"),
        ("resnet18d", "mean /2, 1×1"),
        ("resnext50_32x4d", "32 groups"),
        ("preresnet20", "batch norm of 64 channels"),
        ("resnet1202", "× 199"),
        ("article_steps", "1×1"),
    ],
)
def test_every_kind_of_network_is_drawn(name, found):
    assert found in _network(name, side=64)


def test_a_plain_network_has_no_shortcut_and_no_sum():
    text = _network("plain_resnet20")
    assert 'class="shortcut' not in text
    assert 'class="sum"' not in text


def test_blocks_of_many_different_widths_are_drawn_up_to_a_limit():
    inner = tuple(tuple((3 + block,) for block in range(18)) for _ in range(3))
    assert _network("resnet110", inner_widths=inner).count("and 6 more blocks") == 3


def _opened(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"), dtype=np.float64)


@pytest.mark.parametrize("channels", [1, 3])
def test_overlay_is_brightest_where_the_network_looked(channels):
    grey = np.full((32, 32, channels), 128, dtype=np.uint8)
    looked = np.zeros((4, 4), dtype=np.float32)
    looked[0, 3] = 1
    shown = _opened(overlay_uri(grey, looked))
    brightness = shown.mean(axis=2)
    side = len(brightness)
    assert side >= 96
    place = np.unravel_index(brightness.argmax(), brightness.shape)
    assert place[0] < side / 4
    assert place[1] > 3 * side / 4
    assert brightness.max() - brightness[-1, 0] > 40


def test_overlay_still_shows_the_image_and_survives_maps_that_are_no_numbers():
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    image[:, 32:] = 255
    shown = _opened(overlay_uri(image, np.full((2, 2), np.nan, dtype=np.float32)))
    assert shown[:, 70:].mean() - shown[:, :60].mean() > 60
    assert picture_uri(image).startswith("data:image/jpeg;base64,")
