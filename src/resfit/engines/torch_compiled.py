"""PyTorch, compiled by torch.compile: opens safetensors artifacts, after compiling for some seconds."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from resfit.engines.torch import TorchSession, session_arguments
from resfit.errors import EngineError


class CompiledTorchSession(TorchSession):
    """A Session (see `engines.session`) of a compiled network.

    Single images are compiled for when it is made; the first batch, and the first of another size, cost as much
    again, and no later one.
    """

    engine = "torch-compiled"

    def __init__(self, network: torch.nn.Module, **settings: Any):
        super().__init__(network, **settings)
        self._network = torch.compile(self._network)
        sides = (self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels)
        try:
            self.run(np.zeros((1, *sides), np.uint8))
        except Exception as error:  # the compiler's own failures have no common base
            raise EngineError(
                f"torch.compile cannot compile this network: {_reason(error)}",
                hint="it needs a C++ compiler and the headers of this Python; or use --engine torch",
            ) from error


def open_file(path: Path, *, threads: int | None = None, precision: str | None = None) -> CompiledTorchSession:
    """The network in a safetensors file that `build` wrote; another file is an EngineError that names it."""
    arguments = session_arguments(CompiledTorchSession.engine, path, precision=precision)
    return CompiledTorchSession(**arguments, threads=threads)


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
