"""Run folders for the tests of reports: as train leaves them, without a training."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from resfit.data.sources import open_data
from resfit.inference.opening import session_of
from resfit.inference.predict import evaluation
from resfit.model.model import Model, Provenance, weights_sha256
from resfit.model.run_folder import save
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet
from resfit.verbs.report import write
from resfit.verbs.request import write_request

RECIPE = {"epochs": 3, "steps": None, "lr": 0.1, "mixup": 0.0, "precision": "fp32", "seed": 0}
METRICS = """epoch,step,loss,validation_accuracy,validation_loss,lr,images_per_second,elapsed
1,10,2.0,0.4,1.9,0.05,900,1.5
2,20,1.0,0.6,1.1,0.1,910,3.0
3,30,0.5,0.7,nan,0.0,905,4.5
"""


def make_run(folder: Path, splits: Any, *, network: str = "resnet8", seed: int = 0, **recipe: Any) -> Path:
    """A run folder of a network with random weights, its report included."""
    spec = dataclasses.replace(
        architecture(network), num_classes=len(splits.labels), in_channels=splits.preprocessing.channels
    )
    torch.manual_seed(seed)
    model = Model(
        spec=spec,
        weights=ResNet(spec).state_dict(),
        preprocessing=splits.preprocessing,
        labels=splits.labels,
        provenance=Provenance(
            trained=True, source="resfit train", data={"fingerprint": splits.fingerprint, "roles": splits.roles()}
        ),
    )
    folder.mkdir()
    (folder / "recipe.json").write_text(json.dumps({**RECIPE, **recipe}))
    (folder / "metrics.csv").write_text(METRICS)
    write_request(folder, spec, model=network, data="digits", opening={"split_seed": 0})
    save(model, folder)
    with session_of(model, engine="torch", threads=1) as session:
        answers = evaluation(session, splits.test)
    outcome = {
        "model": network, "data": "digits", "accuracy": answers["accuracy"], "epochs": 3.0,
        "elapsed_seconds": 4.5, "images_per_second": 905.0, "weights_sha256": weights_sha256(model),
        "peak_memory_bytes": 400_000_000, "recipe": RECIPE,
    }  # fmt: skip
    write(folder, model, splits, outcome, answers)
    return folder


def digits() -> Any:
    """The embedded digits in their three roles."""
    return open_data("digits")
