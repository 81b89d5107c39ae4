"""From whatever names a model (run or fit folder, artifact, checkpoint, network name) to a session."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resfit.engines.artifact import build, describe, open_session
from resfit.engines.session import Session
from resfit.errors import EngineError, ModelError
from resfit.model.load import load
from resfit.model.model import Model

FORMAT_OF_ENGINE = {"onnxruntime": "onnx", "torch": "torch"}
FIT_RESULT = "fit.json"


@contextlib.contextmanager
def session_for(
    source: str | Path, *, engine: str | None = None, threads: int | None = None
) -> Iterator[tuple[Session, bool]]:
    """(session, trained) for a model; `trained` is False for a network that was only named.

    An artifact file, also that of a fit folder, is opened as it is; any other model is first built as a
    float32 artifact for the engine, which is removed when the block ends.
    """
    artifact = artifact_of(source)
    if artifact is not None:
        yield open_session(artifact, engine=engine, threads=threads), describe(artifact).trained
        return
    model = load(str(source))
    with session_of(model, engine=engine, threads=threads) as session:
        yield session, model.provenance.trained


@contextlib.contextmanager
def session_of(model: Model, *, engine: str | None = None, threads: int | None = None) -> Iterator[Session]:
    """A session on a float32 artifact built from a model, which is removed when the block ends."""
    engine = engine or "onnxruntime"
    with tempfile.TemporaryDirectory(prefix="resfit-session-") as folder:
        built = build(model, Path(folder, "model"), format=FORMAT_OF_ENGINE[engine], precision="fp32")
        yield open_session(built.path, engine=engine, threads=threads)


def artifact_of(source: str | Path) -> Path | None:
    """The artifact file that `source` is, or that a fit folder holds; None for any other model."""
    path = Path(source)
    if (path / FIT_RESULT).is_file():
        return _fitted_artifact(path)
    if path.is_file() and path.suffix == ".onnx":
        return path
    if path.is_file() and path.suffix == ".safetensors":
        # Weights of any origin end in .safetensors too: an artifact is one that describes itself.
        with contextlib.suppress(EngineError):
            describe(path)
            return path
    return None


def _fitted_artifact(folder: Path) -> Path:
    result = folder / FIT_RESULT
    try:
        name = Path(json.loads(result.read_text())["artifact"]["path"]).name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{result} names no artifact ({error})", hint="run the fit again") from error
    if not (folder / name).is_file():
        raise ModelError(f"the artifact {folder / name}, which {result} names, is not there")
    return folder / name
