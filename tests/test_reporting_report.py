"""report.html: self-contained, escaped, right in its numbers, and whole with any section missing."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image
from reporting_sample import LABELS, Page, candidates, full_content

from resfit.reporting.charts import candidates_picture
from resfit.reporting.content import Answer, Candidate, DataAudit, ProvenAccuracy, ReportContent
from resfit.reporting.report import render_report, write_report


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_report(full_content()))


def test_page_is_well_formed_and_refers_to_nothing_outside(page):
    assert page.open == []
    assert not {"script", "link", "iframe"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "data", "action"):
            assert value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")), (name, value[:60])
    text = render_report(full_content())
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text


def test_a_users_text_is_escaped_everywhere(page):
    assert "b" in page.tags  # the template's own
    assert "<b>roses</b>" in page.text  # the label as text, in table, matrix and mistakes
    assert "<script>alert(1)</script> photos & more" in page.text
    assert "<i>markup</i>" in page.text
    assert "median of <400> runs" in page.text


def test_budgets_show_limit_measured_and_whether_each_holds(page):
    text = page.text
    assert re.search(r"latency 5 ms 1\.40 ms yes median", text)
    assert re.search(r"file size 100 kB 160 kB no", text)
    assert re.search(r"accuracy, at least 80\.0 % 81\.0 % yes", text)
    assert "Not met: file_kb." in text


def test_nearest_points_share_columns(page):
    assert "network file kb accuracy resnet8-w16 20 resnet14-w16 50.0 %" in page.text


def test_race_lists_the_winner_first_and_names_why_others_were_dropped(page):
    text = page.text
    start = text.index("outcome")
    assert text[start:].startswith("outcome resnet26-w16 1.37 160 27 62.0 % 65.0 % 68.0 % won")
    assert "resnet50 46.20 latency_ms 46.2 over 5" in text
    assert "resnet110 ran out of memory" in text
    assert "Round 1: 8 in, 1 epoch, 30 s, 4 kept." in text


def test_classes_show_their_scores_and_none_where_there_is_none(page):
    assert "<b>roses</b> 50 none 0.0 % 0.0 %" in page.text
    assert "dandelion 50 69.5 % 82.0 % 75.2 %" in page.text


def test_data_audit_tells_findings_and_counts(page):
    text = page.text
    assert "1 file could not be read and was left out" in text
    assert "<i>broken</i>.jpg truncated & short" in text
    assert "2 groups of images with equal content" in text
    assert "1 image in more than one of the roles: a score on it proves nothing" in text
    assert "the largest class, dandelion, has 19 times the training images of the smallest, <b>roses</b>" in text
    assert "class train validation test daisy 100 0 50" in text
    assert "all 300 30 150" in text


def test_clean_data_is_called_so():
    audit = DataAudit(num_images={"train": 4}, class_counts={"train": {"a": 2, "b": 2}})
    text = render_report(ReportContent(title="x", audit=audit))
    assert 'class="found"' not in text
    assert text.count('class="clean"') == 4


def test_confusion_counts_and_recall(page):
    assert "45 3 2 90.0 %" in page.text
    assert "0 15 35 70.0 %" in page.text


def _pictures(content: ReportContent) -> list[Image.Image]:
    uris = re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', render_report(content))
    return [Image.open(io.BytesIO(base64.b64decode(uri))) for uri in uris]


def test_small_mistakes_are_their_very_pixels_and_large_ones_smaller_photographs():
    mistakes = full_content().mistakes
    small, photo, large = _pictures(ReportContent(title="x", mistakes=mistakes))
    assert np.array_equal(np.asarray(small), mistakes[0].pixels[:, :, 0])
    assert (photo.size, photo.format) == ((64, 64), "JPEG")
    assert large.size == (107, 160)  # 200 x 300 made smaller, its shape kept


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(ReportContent)])
def test_any_section_can_be_missing(name):
    if name == "title":
        page = Page(render_report(ReportContent(title="alone")))
        assert "section" not in page.tags
    else:
        default = ReportContent(title="x")
        page = Page(render_report(dataclasses.replace(full_content(), **{name: getattr(default, name)})))
    assert page.open == []


def test_many_classes_list_the_commonest_mix_ups_instead_of_a_matrix():
    labels = tuple(f"class {index}" for index in range(100))
    confusion = np.eye(100, dtype=np.int64) * 9
    confusion[3, 7] = 1
    confusion[4, 8] = 3
    proven = ProvenAccuracy(accuracy=0.9, low=0.8, high=0.95, num_images=904, labels=labels, confusion=confusion)
    text = Page(render_report(ReportContent(title="x", test=proven))).text
    assert "class 4 class 8 3 25.0 % class 3 class 7 1 10.0 %" in text
    assert "class 99" not in text


def test_a_class_without_test_images_has_no_recall():
    proven = ProvenAccuracy(
        accuracy=1.0, low=0.5, high=1.0, num_images=2, labels=("a", "b"), confusion=np.array([[2, 0], [0, 0]])
    )
    assert "b 0 0 Rows" in Page(render_report(ReportContent(title="x", test=proven))).text


def _circles(text: str) -> list[dict[str, str]]:
    tags = re.findall(r"<circle [^>]+>", text.split('class="plot narrow"')[0])
    return [dict(re.findall(r'(\w+)="([^"]*)"', tag)) for tag in tags]


def test_picture_places_points_by_latency_and_accuracy_with_area_for_size():
    text = str(candidates_picture(candidates(), latency_limit_ms=5, file_limit_bytes=100_000))
    points = sorted(_circles(text), key=lambda point: float(point["cx"]))
    assert len(points) == 8
    steps = np.diff([float(point["cx"]) for point in points])
    assert np.allclose(steps, steps[0], atol=0.02)  # equal ratios of latency are equal steps
    radii = [float(point["r"]) for point in points]
    assert radii == sorted(radii)
    assert [("hollow" in point["class"]) for point in points] == [False] * 3 + [True] * 5
    assert sum("won" in point["class"] for point in points) == 1
    assert text.count('class="untried"') == 2  # resnet50, in the wide and in the narrow picture


def test_picture_survives_one_candidate_and_none():
    one = Candidate(name="only", outcome="won", latency_ms=1.0, file_bytes=0, accuracies=(1.0,))
    assert "only" in str(candidates_picture([one], min_accuracy=1.0))
    assert candidates_picture([]) is None
    assert candidates_picture([dataclasses.replace(one, latency_ms=None)]) is None


def test_write_report_replaces_the_old_one_whole(tmp_path):
    path = write_report(tmp_path, ReportContent(title="the earlier one"))
    assert path == tmp_path / "report.html"
    write_report(tmp_path, ReportContent(title="the later one"))
    text = path.read_text(encoding="utf-8")
    assert "the later one" in text
    assert "the earlier one" not in text
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_labels_of_mistakes_name_truth_and_answer():
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    mistake = Answer(pixels=pixels, name="a.png", label=LABELS[1], predicted=LABELS[0], probability=0.987)
    text = Page(render_report(ReportContent(title="x", mistakes=(mistake,)))).text
    assert "daisy 98.7 % is dandelion a.png" in text
