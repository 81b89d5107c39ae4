"""Ctrl-C during a fit: what is said, and that what one does next works."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_trainings import RECIPE, SPEC

import resfit
from resfit.budget import Budget
from resfit.data.sources import open_data
from resfit.search import fit as search
from resfit.search.race import Entrant, Rung
from resfit.training.loop import train
from resfit.training.surroundings import Interrupted
from resfit.verbs import fit as verb

RUNG = Rung(entered=2, kept=1, seconds=5.0)


@pytest.fixture
def stopped_training(monkeypatch):
    """Lets every training of a fit end after two steps, as Ctrl-C would end it."""

    def stopped(spec, splits, _recipe, *, folder=None, **_options):
        return train(spec, splits, RECIPE, folder=folder, stop_after_step=2)

    monkeypatch.setattr(search, "train", stopped)


def _plan(folder):
    return search.Plan(
        budget=Budget(), time_seconds=60.0, started=0.0, max_drop=1.0, seed=0, threads=1, engine="onnxruntime",
        folder=lambda _name, _spec: folder, say=lambda _text: None,
    )  # fmt: skip


def _entrant(spec):
    return Entrant(name="small", subject=SimpleNamespace(candidate=SimpleNamespace(spec=spec)))


@pytest.mark.usefixtures("stopped_training")
def test_a_fit_stopped_in_its_race_says_that_nothing_is_left(tmp_path):
    with pytest.raises(Interrupted, match="before a network was chosen") as caught:
        search._trial(_entrant(SPEC), RUNG, 0, open_data("digits"), _plan(tmp_path))
    assert "begins anew" in str(caught.value)
    assert caught.value.exit_code == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("stopped_training")
def test_a_fit_stopped_while_its_winner_trains_goes_on_as_said(shapes_folder: Path, tmp_path: Path):
    spec = dataclasses.replace(SPEC, num_classes=3, in_channels=3)
    folder = verb._folder("small", spec, str(shapes_folder), 8, str(tmp_path / "f"))
    splits = open_data(shapes_folder, img_size=8)
    with pytest.raises(Interrupted, match=r"the fit was stopped: .* after step 2") as caught:
        search._train_on(_entrant(spec), splits, _plan(folder), folder)
    assert f"`resfit train --resume {folder}`" in str(caught.value)
    result = resfit.train(resume=str(folder))
    assert result["model"] == "small"
    assert result["steps"] == 3 * (66 // 64)
    assert result["roles"]["train"]["fingerprint"] == splits.train.fingerprint
    resfit.export(str(folder), out=str(tmp_path / "m.onnx"))
    assert (tmp_path / "m.onnx").is_file()
    # And the same fit command begins anew, beside what there is
    assert verb._folder("small", spec, str(shapes_folder), 8, str(folder)) == folder
    assert not list(folder.glob("checkpoints"))
    assert (tmp_path / "f.1" / "model.safetensors").is_file()
