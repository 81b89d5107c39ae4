"""The report in a real browser: it renders, fits a telephone's width, and follows the dark theme."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reporting_sample import full_content

from resfit.reporting.report import render_report, write_report

TELEPHONE = 360

# A page of the telephone's width inside the window measures itself; its own policy forbids scripts, so the
# page around it does.
MEASURING = """<!doctype html><meta charset="utf-8"><body>
<iframe width="{width}" height="800" srcdoc="{page}"></iframe>
<script>onload = () => {{
  const inner = document.querySelector("iframe").contentDocument;
  const shown = [...inner.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().width > 0);
  const result = {{
    scroll: inner.documentElement.scrollWidth,
    shapes: [...new Set(shown.map(svg => svg.classList[1]))].join(" "),
    figures: [...inner.images].filter(image => image.naturalWidth > 0).length,
  }};
  document.body.innerHTML = "<pre>" + Object.entries(result).map(pair => pair.join("=")).join(";") + "</pre>";
}}</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine")
    return found


def _run(browser: str, folder: Path, *arguments: str) -> str:
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _measured(browser: str, folder: Path, width: int) -> dict[str, str]:
    outer = folder / f"outer{width}.html"
    outer.write_text(MEASURING.format(width=width, page=html.escape(render_report(full_content()))))
    dom = _run(browser, folder, "--dump-dom", "--virtual-time-budget=5000", outer.as_uri())
    found = re.search(r"<pre>(.*?)</pre>", dom)
    assert found, dom[-500:]
    return dict(pair.split("=") for pair in found[1].split(";"))


def test_page_fits_a_telephone_and_shows_the_narrow_pictures(browser, tmp_path):
    measured = _measured(browser, tmp_path, TELEPHONE)
    assert int(measured["scroll"]) <= TELEPHONE
    assert measured["shapes"] == "narrow"
    assert measured["figures"] == "5"


def test_wide_page_shows_the_wide_pictures(browser, tmp_path):
    measured = _measured(browser, tmp_path, 1100)
    assert int(measured["scroll"]) <= 1100
    assert measured["shapes"] == "wide"


def test_theme_follows_the_system(browser, tmp_path):
    page = write_report(tmp_path, full_content()).as_uri()
    brightness = {}
    for theme, setting in (("light", 1), ("dark", 0)):
        picture = tmp_path / f"{theme}.png"
        setting_flag = f"--blink-settings=preferredColorScheme={setting}"
        _run(browser, tmp_path, setting_flag, "--window-size=900,1200", f"--screenshot={picture}", page)
        with Image.open(picture) as image:
            brightness[theme] = float(np.median(np.asarray(image.convert("L"))))
    assert brightness["light"] > 200
    assert brightness["dark"] < 60
