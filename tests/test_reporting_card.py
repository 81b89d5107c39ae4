"""The model card: metadata block, escaped text, and a plain warning for untrained weights."""

import dataclasses

from resfit.reporting.content import CardContent
from resfit.reporting.model_card import model_card
from resfit.reporting.run_card import write_run_card

CARD = CardContent(
    name="photos | small",
    architecture="resnet20, 64 x 64 pixels",
    trained=True,
    labels=("daisy", "rose_red"),
    preprocessing="RGB, 64 x 64, mean 0.485",
    facts={"accuracy": 0.879, "parameters": 272_474},
    training={"epochs": 25, "schedule": "cosine"},
    usage=("resfit predict photos PICTURE.jpg",),
    notes=("Calibrated on <training> images.",),
    created="2026-11-24",
    resfit_version="0.1.0",
)


def test_card_opens_with_a_metadata_block():
    lines = model_card(CARD).splitlines()
    assert lines[0] == "---"
    block = lines[1 : lines.index("---", 1)]
    assert "pipeline_tag: image-classification" in block


def test_card_states_facts_and_escapes_what_markdown_would_read():
    text = model_card(CARD)
    assert "# photos \\| small" in text
    assert "tells 2 classes apart: daisy, rose\\_red." in text
    assert "| accuracy | 0.88 |" in text
    assert "| parameters | 272,474 |" in text
    assert "Calibrated on \\<training\\> images." in text
    assert "resfit predict photos PICTURE.jpg" in text
    assert text.endswith("Made by resfit 0.1.0 on 2026-11-24.\n")
    assert "untrained" not in text


def test_untrained_weights_are_named_as_such():
    text = model_card(dataclasses.replace(CARD, trained=False))
    assert "**Its weights are untrained: its answers mean nothing.**" in text


def test_many_labels_are_counted_not_listed():
    text = model_card(dataclasses.replace(CARD, labels=tuple(f"n{index:04d}" for index in range(1000))))
    assert "1000 classes apart" in text
    assert "and 960 more" in text
    assert "n0999" not in text


def _model():
    import torch

    from resfit.data.preprocessing import Preprocessing
    from resfit.model.model import Model, Provenance
    from resfit.nn.architectures import architecture
    from resfit.nn.resnet import ResNet

    spec = dataclasses.replace(architecture("resnet8"), num_classes=2, in_channels=1)
    torch.manual_seed(0)
    return Model(
        spec=spec,
        weights=ResNet(spec).state_dict(),
        preprocessing=Preprocessing(height=8, width=8, channels=1, mean=(0.3,), std=(0.25,)),
        labels=("a", "b"),
        provenance=Provenance(trained=True, source="resfit train digits", notes=("An assumption.",)),
    )


OUTCOME = {
    "model": "resnet8", "data": "../digits", "accuracy": 0.95, "accuracy_interval": [0.92, 0.97],
    "num_images": 360, "roles": {"train": {"num_images": 1293, "source": "cut from digits"}},
    "recipe": {"batch_size": 128, "precision": "bf16", "ema_decay": None}, "weights_sha256": "ab" * 32,
}  # fmt: skip


def test_run_card_tells_accuracy_roles_recipe_and_cost(tmp_path):
    folder = tmp_path / "digits-1"
    text = write_run_card(folder, _model(), OUTCOME).read_text(encoding="utf-8")
    assert "# resnet8 on digits" in text
    assert "95.0 % (92.0 % to 97.0 %) on 360 test images" in text
    assert "| train | 1,293 images: cut from digits |" in text
    assert "| precision | bf16 |" in text
    assert "ema" not in text
    assert "uint8 grey images of 8 x 8 pixels" in text
    assert "resfit predict digits-1 PICTURE.jpg" in text
    assert "- An assumption." in text


def test_card_of_a_fit_names_its_artifact(tmp_path):
    artifact = {
        "path": "fits/digits-1/model.onnx",
        "precision": "int8",
        "file_bytes": 41_234,
        "sha256": "cd" * 32,
    }
    usage = ("python classify.py PICTURE.jpg",)
    text = write_run_card(tmp_path, _model(), {**OUTCOME, "artifact": artifact}, usage=usage).read_text()
    assert f"| artifact | model.onnx, int8, 41.2 kB, sha256 {'cd' * 32} |" in text
    assert "python classify.py PICTURE.jpg" in text
