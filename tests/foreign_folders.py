"""Model folders as Hugging Face's library and timm write them, of small networks, made without either."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from resfit.model.huggingface_layout import huggingface_names
from resfit.model.model import Model

PROCESSOR = {
    "crop_pct": 0.875, "do_normalize": True, "do_resize": True, "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25], "resample": 3, "size": 48,
}  # fmt: skip


def huggingface_files(model: Model, **changes: Any) -> dict[str, bytes]:
    """The files of a model of basic blocks in Hugging Face's layout; `changes` of config.json."""
    spec = model.spec
    config = {
        "architectures": ["ResNetForImageClassification"], "model_type": "resnet", "num_channels": spec.in_channels,
        "embedding_size": spec.stem_width, "hidden_sizes": list(spec.widths), "depths": list(spec.depths),
        "layer_type": "basic", "hidden_act": "relu", "downsample_in_first_stage": spec.strides[0] == 2,
        "id2label": {str(index): label for index, label in enumerate(model.labels)}, **changes,
    }  # fmt: skip
    names = huggingface_names(spec)
    weights = {names[name]: tensor for name, tensor in model.weights.items()}
    return {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(PROCESSOR).encode(),
        "model.safetensors": safetensors.torch.save(weights, metadata={"format": "pt"}),
    }


def timm_files(model: Model, **changes: Any) -> dict[str, bytes]:
    """The files of a model in the layout of timm's local-dir and hub folders; `changes` of config.json."""
    config = {
        "architecture": "resnet18",
        "num_classes": len(model.labels),
        "label_names": list(model.labels),
        "pretrained_cfg": {
            "input_size": [3, 40, 48], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "crop_pct": 0.95,
            "interpolation": "bicubic", "crop_mode": "squash",
        },
        **changes,
    }  # fmt: skip
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": safetensors.torch.save(dict(model.weights)),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """The folder, with the files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_cached(cache: Path, repository: str, files: dict[str, bytes], *, commit: str = "0" * 40) -> Path:
    """An entry of the hub's cache as its library leaves it: a reference to a commit, and a folder of that commit."""
    entry = cache / f"models--{repository.replace('/', '--')}"
    write(entry / "snapshots" / commit, files)
    write(entry / "refs", {"main": commit.encode()})
    return entry


def torch_saved(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same model with its weights as torch saves them, as older repositories have them."""
    import io

    buffer = io.BytesIO()
    torch.save(safetensors.torch.load(files["model.safetensors"]), buffer)
    return {name: data for name, data in files.items() if name != "model.safetensors"} | {
        "pytorch_model.bin": buffer.getvalue()
    }
