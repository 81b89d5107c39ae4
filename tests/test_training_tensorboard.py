"""Event files, read back with tensorboard's own reader."""

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import resfit
from resfit.data.sources import open_data
from resfit.errors import MissingExtra
from resfit.nn.spec import ResNetSpec
from resfit.training import tensorboard
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.surroundings import Interrupted
from resfit.training.tensorboard import EVERY_STEPS, FOLDER, TensorboardWriter

SPEC = ResNetSpec(depths=(1,), widths=(4,), strides=(2,), stem="cifar", stem_width=4, num_classes=10, in_channels=1)
RECIPE = Recipe(epochs=3, batch_size=64, precision="fp32", memory_format="channels_last", compile="eager", threads=1)


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def _train(digits, folder, **options):
    writer = TensorboardWriter(folder)
    try:
        return train(SPEC, digits, RECIPE, folder=folder, on_event=writer, **options)
    finally:
        writer.close()


def _curves(folder):
    reader = EventAccumulator(str(folder / FOLDER), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(point.step, point.value) for point in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_curves_are_those_of_the_history(digits, tmp_path):
    result = _train(digits, tmp_path)
    curves = _curves(tmp_path)
    steps = [row["step"] for row in result.history]
    for tag, column in (
        ("validation/accuracy", "validation_accuracy"),
        ("validation/loss", "validation_loss"),
        ("train/epoch_loss", "loss"),
    ):
        assert [step for step, _ in curves[tag]] == steps
        assert [value for _, value in curves[tag]] == pytest.approx([row[column] for row in result.history], rel=1e-6)
    assert [step for step, _ in curves["train/loss"]] == list(range(EVERY_STEPS, 61, EVERY_STEPS))
    assert curves["train/learning_rate"][-1][1] == pytest.approx(result.history[-1]["lr"], rel=1e-6)


def test_a_resumed_training_shows_one_curve(digits, tmp_path):
    whole = tmp_path / "whole"
    _train(digits, whole)
    part = tmp_path / "part"
    with pytest.raises(Interrupted):
        _train(digits, part, stop_after_step=37)
    # As after a kill: of what was written, the last steps are not in the checkpoint that is left
    sorted((part / "checkpoints").iterdir())[-1].unlink()
    _train(digits, part, resume=True)
    expected, found = _curves(whole), _curves(part)
    for tag in ("train/loss", "train/learning_rate", "validation/loss", "validation/accuracy"):
        assert found[tag] == expected[tag]


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtra, match="tensorboard") as caught:
        resfit.train("digits", tensorboard=True, out=str(tmp_path / "r"))
    assert "resfit[tensorboard]" in str(caught.value)
    assert not (tmp_path / "r").exists()
