"""PyTorch, eager: the reference that other engines are compared with; opens safetensors artifacts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

from resfit.data.preprocessing import Preprocessing
from resfit.engines.session import Precision, check_images, check_threads, resolve_precision, resolve_threads
from resfit.engines.torch_file import read_metadata
from resfit.errors import EngineError
from resfit.model.model import Model
from resfit.nn.resnet import ResNet


class TorchSession:
    """A Session (see `engines.session`) of a network in memory.

    num_classes follows from labels. The network is put into evaluation mode; in bf16 it is converted, and its
    images lie with channels last, which is how such convolutions are fast. precision: fp32 or bf16.
    """

    engine = "torch"

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        preprocessing: Preprocessing,
        labels: tuple[str, ...],
        threads: int | None = None,
        precision: Precision = "fp32",
    ):
        self.preprocessing = preprocessing
        self.labels = labels
        self.precision: Precision = precision
        self._threads = check_threads(self.engine, threads, _possible_threads(resolve_threads(threads)))
        half = precision == "bf16"
        self._type = torch.bfloat16 if half else torch.float32
        self._layout = torch.channels_last if half else torch.contiguous_format
        network = network.eval()
        self._network: Callable[[torch.Tensor], torch.Tensor] = _converted(network) if half else network
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
                x = torch.from_numpy(np.require(images, requirements=("C", "W"))).permute(0, 3, 1, 2).float()
                x = ((x / 255 - self._mean) / self._std).to(self._type).contiguous(memory_format=self._layout)
                return self._network(x).float().numpy()
        finally:
            torch.set_num_threads(before)


def open_file(path: Path, *, threads: int | None = None, precision: str | None = None) -> TorchSession:
    """The network in a safetensors file that `build` wrote; another file is an EngineError that names it."""
    return TorchSession(**session_arguments(TorchSession.engine, path, precision=precision), threads=threads)


def session_arguments(engine: str, path: Path, *, precision: str | None) -> dict[str, Any]:
    """What a session is made of, from a safetensors file: network, preprocessing, labels, precision."""
    metadata = read_metadata(path)
    floats: tuple[Precision, ...] = ("fp32", "bf16") if _computes_bf16() else ("fp32",)
    settled = resolve_precision(engine, path, asked=precision, held=metadata.precision, floats=floats)
    with safetensors.safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    with torch.device("meta"):
        network = ResNet(metadata.spec)
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise EngineError(f"{path} does not hold the network it names: {error}") from error
    return {
        "network": network,
        "preprocessing": metadata.preprocessing,
        "labels": metadata.labels,
        "precision": settled,
    }


def model_session(model: Model, *, threads: int | None = None) -> TorchSession:
    """A model as it is, unfolded and without a file: what artifacts are compared with."""
    return TorchSession(model.module(), preprocessing=model.preprocessing, labels=model.labels, threads=threads)


def _converted(network: torch.nn.Module) -> torch.nn.Module:
    """The network's own weights in bf16, those of convolutions with channels last."""
    network = network.to(torch.bfloat16)
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network


def _possible_threads(threads: int) -> int:
    """What PyTorch makes of a thread count, read back."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _computes_bf16() -> bool:
    """Whether the processor multiplies bf16 numbers itself; where it does not, PyTorch emulates that slowly."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before PyTorch 2.11
        return torch.cpu._is_avx512_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
