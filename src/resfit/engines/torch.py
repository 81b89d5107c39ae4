"""PyTorch, eager: the reference that other engines are compared with; opens safetensors artifacts."""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from resfit.data.preprocessing import Preprocessing
from resfit.engines.session import check_images, resolve_threads
from resfit.engines.torch_file import read_metadata
from resfit.errors import EngineError
from resfit.model.model import Model
from resfit.nn.resnet import ResNet


class TorchSession:
    """A Session (see `engines.session`) of a network in memory.

    num_classes follows from labels. The network is put into evaluation mode.
    """

    engine = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        threads: int | None = None,
    ):
        self.preprocessing = preprocessing
        self.labels = labels
        self._threads = resolve_threads(threads)
        self._network = network.eval()
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(preprocessing.mean, dtype=torch.float32).reshape(shape)
        self._std = torch.tensor(preprocessing.std, dtype=torch.float32).reshape(shape)

    @property
    def threads(self) -> int:
        """Threads that PyTorch is given while this session runs."""
        return self._threads

    def run(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Logits, float32 (N, classes), of uint8 NHWC images."""
        check_images(images, self.preprocessing)
        if not len(images):
            return np.zeros((0, len(self.labels)), np.float32)
        before = torch.get_num_threads()  # one setting for the whole process: given back after the run
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
                return self._network(((x / 255 - self._mean) / self._std).contiguous()).numpy()
        finally:
            torch.set_num_threads(before)


def open_file(path: Path, *, threads: int | None = None) -> TorchSession:
    """The network in a safetensors file that `build` wrote; another file is an EngineError that names it."""
    metadata = read_metadata(path)
    with safetensors.safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    with torch.device("meta"):
        network = ResNet(metadata.spec)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise EngineError(f"{path} does not hold the network it names: {error}") from error
    return TorchSession(network, preprocessing=metadata.preprocessing, labels=metadata.labels, threads=threads)


def model_session(model: Model, *, threads: int | None = None) -> TorchSession:
    """A model as it is, unfolded and without a file: what artifacts are compared with."""
    return TorchSession(model.module(), preprocessing=model.preprocessing, labels=model.labels, threads=threads)
