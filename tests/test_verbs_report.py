"""`resfit report`: a run's page again from its folder, and several runs side by side."""

import json
import shutil
from pathlib import Path

import pytest
from reporting_runs import digits, make_run
from reporting_sample import Page

import resfit
from resfit.cli import main
from resfit.errors import DataError, UsageError


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """Two run folders: two networks, two recipes, one data set."""
    folder, splits = tmp_path_factory.mktemp("runs"), digits()
    return (
        make_run(folder / "small", splits),
        make_run(folder / "other", splits, network="resnet14", seed=1, lr=0.05, mixup=0.2),
    )


@pytest.fixture
def run(runs, tmp_path) -> Path:
    """A run folder that a test may change."""
    return shutil.copytree(runs[0], tmp_path / "run")


def _page(path: str | Path) -> Page:
    page = Page(Path(path).read_text(encoding="utf-8"))
    assert page.open == []
    return page


def _pictures(page: Page) -> int:
    return sum(name == "src" for name, _ in page.attributes)


def test_a_training_leaves_a_page_that_report_makes_again(run):
    before = (run / "report.html").read_text(encoding="utf-8")
    (run / "report.html").unlink()
    result = resfit.report([str(run)])
    assert result == {"report": str(run / "report.html"), "runs": [str(run)], "notes": []}
    assert (run / "report.html").read_text(encoding="utf-8") == before


def test_the_page_tells_everything_the_folder_holds(runs):
    page, evaluation = _page(runs[0] / "report.html"), json.loads((runs[0] / "evaluation.json").read_text())
    text = page.text
    assert "resnet8 on digits" in text
    assert f"{100 * evaluation['accuracy']:.1f} % right on {evaluation['num_images']} test images" in text
    for heading in (
        "Training", "What it confuses", "Each class", "Can its probabilities be believed?",
        "Mistakes it was surest of", "Where it looked when it was right", "The network", "The data",
        "Where it comes from",
    ):  # fmt: skip
        assert heading in text, heading
    assert "weights sha256 " + json.loads((runs[0] / "result.json").read_text())["weights_sha256"] in text
    assert "400.00 MB peak memory" in text
    assert "lr 0.1" in text
    assert "mixup" not in text  # off
    assert "no file is in two roles" in text
    shown = len(evaluation["mistakes"]) + len(evaluation["hits"])
    assert _pictures(page) == 2 * shown  # each beside where the network looked


def test_without_its_images_the_page_has_no_pictures_and_says_so(run, capsys):
    request = json.loads((run / "request.json").read_text())
    (run / "request.json").write_text(json.dumps({**request, "data": "no/such/folder"}))
    result = resfit.report([str(run)])
    page = _page(result["report"])
    assert "no/such/folder" in result["notes"][0]
    assert "Without pictures" in page.text
    assert "Without pictures" in capsys.readouterr().err
    assert _pictures(page) == 0
    assert "Each class" in page.text
    resfit.report([str(run)], data="digits")
    assert _pictures(_page(result["report"])) > 0
    with pytest.raises(UsageError, match="nowhere"):
        resfit.report([str(run)], data="nowhere")


def test_changed_test_images_are_not_shown(run):
    config = json.loads((run / "config.json").read_text())
    config["provenance"]["data"]["roles"]["test"]["fingerprint"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    result = resfit.report([str(run)])
    assert "not those of the training any more" in result["notes"][0]
    assert _pictures(_page(result["report"])) == 0


def test_a_run_without_an_evaluation_is_evaluated(run):
    measured = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    resfit.report([str(run)], threads=1)
    again = json.loads((run / "evaluation.json").read_text())
    assert again["accuracy"] == pytest.approx(measured["accuracy"])
    assert again["confusion"] == measured["confusion"]


def test_an_unfinished_run_shows_its_curves(run):
    for name in ("config.json", "model.safetensors", "evaluation.json", "audit.json", "result.json"):
        (run / name).unlink()
    page = _page(resfit.report([str(run)])["report"])
    assert "Not finished: stopped in epoch 3." in page.text
    assert "validation accuracy" in page.text
    assert _pictures(page) == 0


def test_out_writes_elsewhere_and_keeps_what_is_there(run, tmp_path, capsys):
    target = tmp_path / "page.html"
    target.write_text("mine")
    before = (run / "report.html").read_bytes()
    assert resfit.report([str(run)], out=str(target))["report"] == str(target)
    assert "resnet8 on digits" in target.read_text(encoding="utf-8")
    assert (tmp_path / "page.html.1").read_text() == "mine"
    assert "page.html.1" in capsys.readouterr().err
    assert (run / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.json", "{"),
        ("config.json", "[]"),
        ("config.json", "{"),
        ("audit.json", '{"num_images": 1, "skipped": 3}'),
        ("evaluation.json", "\udcff"),
        ("evaluation.json", '{"accuracy": 1}'),
    ],
)
def test_a_damaged_file_is_named(run, name, content):
    (run / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(resfit.errors.ResfitError, match=name):
        resfit.report([str(run)])


def test_an_evaluation_of_images_that_are_not_there_is_refused(run):
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["mistakes"][0]["index"] = evaluation["num_images"]
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(DataError, match=r"evaluation\.json"):
        resfit.report([str(run)])


def test_what_is_no_run_is_refused(tmp_path, runs):
    with pytest.raises(UsageError, match="not a folder"):
        resfit.report([str(tmp_path / "none")])
    with pytest.raises(UsageError, match=r"recipe\.json"):
        resfit.report([str(tmp_path)])
    with pytest.raises(UsageError, match="at most 6"):
        resfit.report([str(runs[0])] * 7)


def test_two_runs_side_by_side(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *map(str, runs), "--json"]) == 0
    page = _page(tmp_path / "comparison.html")
    text = page.text
    assert "small against other" in text
    assert "resnet8 on digits" in text
    assert "resnet14 on digits" in text
    assert "lr 0.1 0.05" in text
    assert "mixup 0 0.2" in text
    assert "3 other entries are equal." in text
    evaluations = [json.loads((run / "evaluation.json").read_text()) for run in runs]
    accuracies = [f"{100 * item['accuracy']:.1f} %" for item in evaluations]
    assert all(word in text for word in accuracies)
    assert "The networks" in text
    figures = page.tags.count("figure")
    assert figures > 0
    assert _pictures(page) == 3 * figures  # the picture, and where each network looked
    assert {"run0", "run1"} <= {word for name, value in page.attributes if name == "class" for word in value.split()}


def test_a_run_against_itself_differs_in_nothing(runs, tmp_path):
    text = _page(resfit.report([str(runs[0])] * 2, out=str(tmp_path / "c.html"))["report"]).text
    assert "small (1) against small (2)" in text
    assert "right equally often" in text
    assert "Nothing: all" in text
    assert "They share one." in text


def test_unequal_test_images_and_missing_scores_are_warned_of(runs, run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["provenance"]["data"]["roles"]["test"]["fingerprint"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    (run / "evaluation.json").unlink()
    text = _page(resfit.report([str(runs[1]), str(run)], out=str(tmp_path / "c.html"))["report"]).text
    assert "tested on different images" in text
    assert "more often" not in text
    assert "No test accuracy is on record for run" in text


def test_a_damaged_run_stops_a_comparison(runs, run, tmp_path):
    (run / "evaluation.json").write_text("{}")
    with pytest.raises(DataError, match=r"evaluation\.json"):
        resfit.report([str(runs[0]), str(run)], out=str(tmp_path / "c.html"))
    assert not (tmp_path / "c.html").exists()
