"""The documents are true: figures are those of results/, commands, files and tests they name exist."""

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_figures_agree_with_results(path, render):
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- render:") == text.count("<!-- /render -->") == len(render.MARKED.findall(text))
    assert render.render_document(text, ROOT / "results") == text, "run: python docs/render.py"


def test_a_changed_result_is_noticed(render, tmp_path):
    result = {
        "command": "resfit fit /data/of/somebody/photos", "machine": {"processor": "Zen", "cores": 2},
        "commit": "0123456789abcdef",
        "measured": "2026-11-24T05:00:00+00:00",
        "rows": [{"network": "a|b", "accuracy": 0.8791, "images": 10000},
            {"network": "c", "accuracy": 0.5, "images": 1}],
    }  # fmt: skip
    (tmp_path / "race.json").write_text(json.dumps(result))
    empty = "before\n<!-- render:race -->\n<!-- /render -->\nafter\n"
    made = render.render_document(empty, tmp_path)
    assert "| network | accuracy | images |\n|---|--:|--:|\n| a\\|b | 87.9 % | 10,000 |" in made
    assert "`resfit fit photos`; commit 0123456789; processor Zen, cores 2; 2026-11-24; `results/race.json`." in made
    assert render.render_document(made, tmp_path) == made
    result["rows"][0]["accuracy"] = 0.9
    (tmp_path / "race.json").write_text(json.dumps(result))
    assert render.render_document(made, tmp_path) != made


def test_budgets_and_single_results_are_rendered(render):
    budgets = [{"name": "file_kb", "limit": 300, "measured": 287.4, "holds": True, "basis": ""}]
    result = {"command": "x", "budgets": budgets, "note": "n"}
    assert "| file size | 300 kB | 287.4 kB | yes |" in render.render_result(result, "x.json")
    single = {"command": "x", "accuracy": 0.915, "accuracy_interval": [0.909, 0.92], "epochs": 25}
    made = render.render_result(single, "x.json", ["accuracy", "accuracy_interval", "epochs"])
    assert "| 91.5 % | 90.9 % to 92.0 % | 25 |" in made


def test_a_missing_result_is_said(render, tmp_path):
    made = render.render_document("<!-- render:none accuracy -->\n<!-- /render -->\n", tmp_path)
    assert "Not measured yet: `none.json`" in made
    assert render.render_document(made, tmp_path) == made


def _readme_commands() -> list[str]:
    return re.findall(r"^\| `resfit (\w+)", README, re.MULTILINE)


def test_readme_lists_every_command_and_no_other():
    import resfit

    assert sorted(_readme_commands()) == sorted(resfit.VERBS)


@pytest.mark.parametrize("name", _readme_commands())
def test_every_command_has_help_and_a_function(name):
    import resfit

    done = subprocess.run([sys.executable, "-m", "resfit", name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: resfit {name}")
    assert (inspect.getdoc(getattr(resfit, name)) or "").strip()


def _code_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(resfit [^`]+)`", text)
    return [line.strip() for block in blocks for line in block.splitlines()] + inline


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_flags_in_documents_exist(path):
    import resfit

    checked = 0
    for line in _code_lines(path.read_text(encoding="utf-8")):
        words = line.split()
        if words[:1] != ["resfit"] or len(words) < 2 or words[1] not in resfit.VERBS:
            continue
        known = {f"--{name.replace('_', '-')}" for name in inspect.signature(getattr(resfit, words[1])).parameters}
        for word in words[2:]:
            if word.startswith("--"):
                assert word in known | {"--json", "--help"}, line
                checked += 1
    assert checked or path.name != "README.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / target).exists(), target
    for name in re.findall(r"`((?:src|tests|docs|benchmarks|results)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_named_tests_exist(path):
    """`tests/test_x.py::test_y` in a document is a test that exists."""
    for file, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", path.read_text(encoding="utf-8")):
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^(    )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"


def test_named_modules_exist():
    """Module paths in the architecture, such as `nn/plan.py`, are those of the package."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+(?:/\w+)*\.(?:py|html|txt|npz))`", text)
    assert len(named) > 15
    for name in named:
        if "NAME" in name or name == "classify.py":  # a pattern to follow; the script that a fit writes
            continue
        assert (ROOT / "src" / "resfit" / name).exists() or (ROOT / name).exists(), name


def test_every_room_is_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "resfit").iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            assert f"`{path.name}`" in text or f"`{path.name}/`" in text, path.name


def test_the_picture_in_the_readme_is_small_enough():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / name).stat().st_size < 300_000
