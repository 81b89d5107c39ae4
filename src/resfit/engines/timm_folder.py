"""A model as timm reads it: `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

import json
from pathlib import Path

from resfit.engines.torch_file import named_weights
from resfit.model.model import Model
from resfit.model.timm_layout import timm_config, timm_names
from resfit.storage import write_atomic

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def write_timm_folder(model: Model, folder: Path) -> None:
    """Write config.json and model.safetensors into a folder, which is made.

    ModelError names what timm cannot express; nothing is written then.
    """
    config = timm_config(model)
    write_atomic(folder / WEIGHTS, named_weights(model, timm_names(model.spec)))
    write_atomic(folder / CONFIG, json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n")
