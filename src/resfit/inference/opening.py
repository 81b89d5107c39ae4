"""From whatever names a model (run or fit folder, artifact, checkpoint, network name) to a session."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from resfit.engines.artifact import ENGINES, build, describe
from resfit.engines.session import Session
from resfit.errors import EngineError, ModelError, UsageError, nearest
from resfit.measure.choice import AUTO, open_chosen

if TYPE_CHECKING:
    from resfit.model.model import Model  # brings torch, which an artifact of another engine does without

DEFAULT_ENGINE = "onnxruntime"
CHOSEN_FORMAT = "onnx"  # of the artifact that `auto` builds of a model: several engines open it
FIT_RESULT = "fit.json"
GRAPH_SUFFIXES = (".onnx", ".xml")


@final
@dataclass(frozen=True, kw_only=True)
class Opened:
    """A session, whether its weights were ever trained, and what a user should know of the model.

    choice: why this engine, where it was chosen by measuring.
    """

    session: Session
    trained: bool
    notes: tuple[str, ...]
    choice: str | None = None


@contextlib.contextmanager
def session_for(
    source: str | Path,
    *,
    engine: str | None = None,
    threads: int | None = None,
    precision: str | None = None,
    batch_size: int = 1,
    **given: Any,
) -> Iterator[Opened]:
    """Whatever names a model, opened.

    An artifact file, also that of a fit folder, is opened as it is; any other model is first built as a
    float32 artifact for the engine, which is removed when the block ends.
    engine: as `measure.choice.open_chosen` takes it; batch_size: how many images a run will mostly have.
    given: img_size, mean, std and labels in place of the model's own, as `model.load.load` takes them. An
    artifact cannot be changed: UsageError.
    """
    given = {name: value for name, value in given.items() if value is not None}
    artifact = artifact_of(source)
    if artifact is None:
        from resfit.model.load import load

        model = load(source, **given)
        provenance = model.provenance
        opened = built_session(model, engine=engine, threads=threads, precision=precision, batch_size=batch_size)
        with opened as (session, choice):
            yield Opened(session=session, trained=provenance.trained, notes=provenance.notes, choice=choice)
        return
    if given:
        flags = ", ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{artifact} is an artifact: what {flags} would change is part of it", hint="leave it out")
    trained = describe(artifact).trained
    notes = () if trained else (f"{artifact} holds untrained weights",)
    session, choice = open_chosen(artifact, engine=engine, threads=threads, precision=precision, batch_size=batch_size)
    yield Opened(session=session, trained=trained, notes=notes, choice=choice)


@contextlib.contextmanager
def session_of(
    model: "Model", *, engine: str | None = None, threads: int | None = None, precision: str | None = None
) -> Iterator[Session]:
    """A session on a float32 artifact built from a model, which is removed when the block ends.

    Without an engine it is ONNX Runtime, whatever was ever measured: the same call, the same numbers.
    """
    with built_session(model, engine=engine or DEFAULT_ENGINE, threads=threads, precision=precision) as (session, _):
        yield session


@contextlib.contextmanager
def built_session(
    model: "Model", *, engine: str | None, threads: int | None, precision: str | None, batch_size: int = 1
) -> Iterator[tuple[Session, str | None]]:
    """A session on a float32 artifact built from a model, and why its engine, where that was chosen by measuring.

    engine and batch_size: as `measure.choice.open_chosen` takes them. The artifact is removed when the block ends.
    """
    if engine not in (None, AUTO, *ENGINES):
        raise UsageError(f"there is no engine {engine!r}", hint=nearest(str(engine), (*ENGINES, AUTO)))
    format = ENGINES[engine][1][0] if engine in ENGINES else CHOSEN_FORMAT
    with tempfile.TemporaryDirectory(prefix="resfit-session-") as folder:
        built = build(model, Path(folder, "model"), format=format, precision="fp32")
        yield open_chosen(built.path, engine=engine, threads=threads, precision=precision, batch_size=batch_size)


def artifact_of(source: str | Path) -> Path | None:
    """The artifact file that `source` is, or that a fit folder holds; None for any other model."""
    path = Path(source)
    if (path / FIT_RESULT).is_file():
        return _fitted_artifact(path)
    if path.is_file() and path.suffix in GRAPH_SUFFIXES:
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
