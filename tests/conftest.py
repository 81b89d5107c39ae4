"""Fixtures every room's tests share."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from c_reader import built
from PIL import Image

# No test asks the real hub, whatever name it mistypes; those that need a hub serve one themselves
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"


def _declare_torchvision_operators() -> torch.library.Library | None:
    """Let torchvision (and timm and transformers, which import it) be imported beside another build of torch.

    Its compiled operators then do not load, and its import fails on their names, which no network needs.
    """
    found = find_spec("torchvision")
    assert found is not None, "the tests compare with torchvision: install the test extra"
    assert found.origin is not None
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        return library
    return None


TORCHVISION_OPERATORS = _declare_torchvision_operators()  # lives as long as the library object

SHARED = Path(os.environ.get("RESFIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; tests that need it are skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared data beside the checkout")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 90 easy pictures of 12 x 12 pixels: red, green and blue with noise, 30 each."""
    folder = tmp_path_factory.mktemp("data") / "colours"
    generator = np.random.default_rng(0)
    for channel, label in enumerate(("red", "green", "blue")):
        (folder / label).mkdir(parents=True)
        for number in range(30):
            pixels = generator.integers(0, 120, (12, 12, 3))
            pixels[..., channel] += 100
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run folder of a small network that knows its digits."""
    from small_compressions import digits_model

    from resfit.model.run_folder import save

    folder = tmp_path_factory.mktemp("run")
    save(digits_model(), folder)
    return str(folder)


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressions of few images and points, measured in this process; one test measures as users do."""
    from small_compressions import make_quick, measure_at_home

    make_quick(monkeypatch)
    measure_at_home(monkeypatch)


@pytest.fixture(scope="session")
def unpack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C reader, alone in a folder."""
    return built(tmp_path_factory.mktemp("unpack"))
