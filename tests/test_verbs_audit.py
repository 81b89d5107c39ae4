"""`resfit audit` on the command line: exit codes, one JSON object, the two files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resfit import cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of six noise pictures, one of them twice; one class name is markup."""
    generator = np.random.default_rng(0)
    for label in ("cat", "<b>dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(6):
            pixels = generator.integers(0, 256, (6, 6, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((40, 40), 0).save(tmp_path / "pets" / label / f"{number}.png")
    twice = tmp_path / "pets" / "cat" / "0.png"
    (tmp_path / "pets" / "cat" / "again.png").write_bytes(twice.read_bytes())
    return tmp_path / "pets"


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.main(["audit", *arguments])
    return code, capsys.readouterr().out


def test_findings_are_no_error_unless_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, str(folder), "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["num_images"] == 13
    assert answer["duplicates"] == [[str(folder / "cat" / "0.png"), str(folder / "cat" / "again.png")]]
    assert not answer["clean"]
    assert _run(capsys, str(folder), "--json", "--strict")[0] == 1
    (folder / "cat" / "again.png").unlink()
    code, out = _run(capsys, str(folder), "--json", "--strict")
    assert code == 0
    assert json.loads(out)["clean"]


def test_people_see_what_was_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "cat" / "bad.png").write_bytes(b"no image")
    _, out = _run(capsys, str(folder))
    assert "14 images, 2 classes" in out
    assert "1 unreadable files" in out
    assert "exact: " in out
    assert "nothing was found" not in out


def test_the_page_and_the_json_are_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "findings"
    (folder / "<b>dog" / "bad&.png").write_bytes(b"no image")
    Image.new("RGB", (40, 40)).save(folder / "cat" / "black.png")
    code, text = _run(capsys, str(folder), "--out", str(out), "--json")
    assert code == 0
    assert json.loads((out / "audit.json").read_text()) == json.loads(text)
    page = (out / "audit.html").read_text()
    assert "<b>dog" not in page
    assert "bad&amp;.png" in page
    assert page.count("<img src=") == 3  # two equal files and a black one
    assert re.findall(r"(?:src|href)=\"(?!data:)", page) == []
    _run(capsys, str(folder), "--out", str(out))
    assert (tmp_path / "findings.1" / "audit.json").exists()


def test_a_folder_with_other_things_is_not_written_to(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert _run(capsys, str(folder), "--out", str(tmp_path / "mine"), "--json")[0] == 2
    assert _run(capsys, str(folder), "--img-size", "0", "--json")[0] == 2
    assert _run(capsys, str(tmp_path / "nowhere"), "--json")[0] == 2


def test_real_parquet_has_the_duplicates_known_of_it(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = _run(capsys, str(shared / "cifar10" / "test-00000-of-00001.parquet"), "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["num_images"] == 10_000
    assert answer["corrupt"] == []
    assert 3 <= len(answer["duplicates"]) <= 60
