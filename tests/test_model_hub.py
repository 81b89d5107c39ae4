"""The hub: its cache as it lies, what is fetched when it is asked for, and what its refusals say."""

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_folders import huggingface_files, timm_files, torch_saved, write_cached
from hub_server import COMMIT, Hub, hub
from small_models import small_model, small_spec

import resfit
from resfit.errors import MissingExtra, ModelError, UsageError
from resfit.model.hub import cache_folder
from resfit.model.model import weights_sha256

MODEL = small_model(small_spec(stem="imagenet", stem_width=8))
FILES = huggingface_files(MODEL)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a hub that is nowhere."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hf" / "hub"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    repositories = {
        "org/net": FILES,
        "org/old": torch_saved(FILES),
        "timm/resnet18.small": timm_files(MODEL),
        "org/described": {"config.json": FILES["config.json"]},
        "org/weights": {"model.safetensors": FILES["model.safetensors"]},
    }
    with hub(repositories, gated=("org/gated",)) as address:
        monkeypatch.setenv("HF_ENDPOINT", address.address)
        yield address


@pytest.mark.parametrize("name", ["hf-hub:org/net", "org/net", "hf-hub:org/old", "hf-hub:timm/resnet18.small"])
def test_a_model_is_fetched_once(served: Hub, name: str) -> None:
    model = resfit.load(name)
    assert weights_sha256(model) == weights_sha256(MODEL)
    assert model.labels == MODEL.labels
    assert model.provenance.source == f"hf-hub:{name.removeprefix('hf-hub:')}@{COMMIT[:12]}"
    asked = len(served.asked)
    assert asked
    assert weights_sha256(resfit.load(name)) == weights_sha256(MODEL)
    assert len(served.asked) == asked, "what is in the cache asks nobody"


@pytest.mark.usefixtures("served")
def test_a_revision() -> None:
    assert resfit.load(f"hf-hub:org/net@{COMMIT}").labels == MODEL.labels
    with pytest.raises(ModelError, match=r"org/net on .* has no revision v2"):
        resfit.load("hf-hub:org/net@v2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nobody", "there is no model org/nobody on http"),
        ("org/gated", "gives org/gated with permission only"),
        ("org/described", r"neither model\.safetensors nor pytorch_model\.bin"),
        ("org/weights", r"org/weights on .* has no config\.json"),
    ],
)
def test_refusals_say_what_can_be_done(served: Hub, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        resfit.load(f"hf-hub:{name}")
    assert served.asked
    with pytest.raises(UsageError, match=f"{name} is no folder and no file; as a model of the hub: .*{message}"):
        resfit.load(name)


def test_a_hub_out_of_reach_is_said_at_once() -> None:
    with pytest.raises(
        ModelError, match=r"org/net is not in the cache .*, and http://127\.0\.0\.1:9 cannot be reached"
    ):
        resfit.load("hf-hub:org/net")


def test_offline_nothing_is_asked(served: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE forbids"):
        resfit.load("hf-hub:org/net")
    assert not served.asked
    write_cached(cache, "org/net", FILES)
    assert resfit.load("hf-hub:org/net").labels == MODEL.labels


def test_the_cache_needs_no_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return genuine(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    write_cached(cache, "org/net", FILES)
    assert resfit.load("org/net").provenance.source == f"hf-hub:org/net@{'0' * 12}"
    with pytest.raises(MissingExtra, match="fetching org/other from the hub") as caught:
        resfit.load("org/other")
    assert "resfit[hub]" in str(caught.value.hint)


def test_an_entry_of_the_cache_given_as_a_folder(cache: Path) -> None:
    entry = write_cached(cache, "org/net", FILES)
    model = resfit.load(entry)
    assert weights_sha256(model) == weights_sha256(MODEL)
    assert model.provenance.source == str(entry)


def test_entries_without_a_model_or_with_a_lying_reference_are_not_taken(cache: Path, tmp_path: Path) -> None:
    entry = write_cached(cache, "org/net", {"config.json": FILES["config.json"]})
    outside = tmp_path / "hf" / "outside"
    outside.mkdir()
    for name, content in FILES.items():
        (outside / name).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be reached"):
        resfit.load("hf-hub:org/net")
    (entry / "refs" / "main").write_text("../../../outside")
    with pytest.raises(ModelError, match="cannot be reached"):
        resfit.load("hf-hub:org/net")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", "/a/b")
    assert cache_folder() == Path("/a/b")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_folder() == Path("/c/huggingface/hub")


def test_names_that_the_hub_cannot_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="names no model of the hub"):
        resfit.load("hf-hub:resnet50")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UsageError, match="runs/mistyped is no folder"):  # a path whose folder is there asks nobody
        resfit.load("runs/mistyped")
    with pytest.raises(UsageError, match=r"models/net\.pth is no folder, no file"):
        resfit.load("models/net.pth")
