"""Residual networks that fit your data and your budget.

Each verb of the command line is a function here: `resfit.fit("photos", latency_ms=5)` does what
`resfit fit photos --latency-ms 5` does and returns what `--json` prints. `resfit.load` opens whatever a command takes
as MODEL, other libraries' checkpoints and folders included.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resfit.model.load import load as load
    from resfit.verbs.audit import audit as audit
    from resfit.verbs.benchmark import benchmark as benchmark
    from resfit.verbs.compress import compress as compress
    from resfit.verbs.evaluate import evaluate as evaluate
    from resfit.verbs.export import export as export
    from resfit.verbs.fit import fit as fit
    from resfit.verbs.inspect import inspect as inspect
    from resfit.verbs.predict import predict as predict
    from resfit.verbs.report import report as report
    from resfit.verbs.train import train as train

__version__ = "0.1.0"

VERBS = ("audit", "fit", "train", "evaluate", "report", "predict", "inspect", "export", "compress", "benchmark")


def __getattr__(name: str) -> Any:
    if name in VERBS:
        return getattr(import_module(f"resfit.verbs.{name}"), name)
    if name == "load":
        return import_module("resfit.model.load").load
    raise AttributeError(f"module 'resfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*VERBS, "load", "__version__"]
