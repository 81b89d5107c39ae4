"""A model as Hugging Face's transformers reads it: `ResNetForImageClassification.from_pretrained(FOLDER)`."""

import json
from pathlib import Path

from resfit.engines.torch_file import named_weights
from resfit.model.huggingface_layout import huggingface_config, huggingface_names, image_processor_config
from resfit.model.model import Model
from resfit.storage import write_atomic

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"


def write_huggingface_folder(model: Model, folder: Path) -> None:
    """Write config.json, preprocessor_config.json and model.safetensors into a folder, which is made.

    ModelError names what the library cannot express; nothing is written then.
    """
    configs = {CONFIG: huggingface_config(model), PROCESSOR: image_processor_config(model.preprocessing)}
    write_atomic(folder / WEIGHTS, named_weights(model, huggingface_names(model.spec)))
    for name, config in configs.items():
        write_atomic(folder / name, json.dumps(config, indent=2, ensure_ascii=False).encode() + b"\n")
