"""What `benchmark` times: artifacts built of a model for each engine and precision, and other libraries' networks."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from resfit.errors import EngineError, MissingExtra, UsageError, nearest

if TYPE_CHECKING:
    from resfit.engines.artifact import Artifact
    from resfit.measure.comparison import Contestant
    from resfit.model.model import Model

NOISE_IMAGES = 32
FILE_PRECISIONS = ("fp32", "int8")
PRECISIONS = ("fp32", "bf16", "int8")
# Compiling takes a minute in each process that measures it: only when asked for
SLOW_TO_OPEN = ("torch-compiled",)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is timed, and what must be said of it."""

    weights: str
    img_size: list[int]
    macs: int
    notes: list[str]
    contestants: "list[Contestant]" = field(default_factory=list)
    artifacts: "list[Artifact]" = field(default_factory=list)


def contestants_of(
    *,
    model: str,
    folder: Path,
    img_size: int | None,
    seed: int,
    engines: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    peers: Sequence[str],
) -> Subject:
    """Every combination that was asked for; files are built in `folder`. UsageError where there is none."""
    from resfit.engines.artifact import ENGINES
    from resfit.inference.opening import artifact_of
    from resfit.measure.peers import PEERS

    for names, known, kind in ((engines, ENGINES, "engine"), (peers, PEERS, "library to measure against")):
        for name in names:
            if name not in known:
                raise UsageError(f"there is no {kind} {name!r}", hint=nearest(name, known))
    artifact = artifact_of(model)
    if artifact is not None:
        if peers:
            raise UsageError("--against needs the network, and an artifact is only its file", hint="give the model")
        return _existing(artifact, img_size, engines, precisions, batch_sizes)
    return _built(model, folder, img_size, seed, engines, precisions, batch_sizes, peers)


def script_artifacts(*, model: str, folder: Path, img_size: int | None, seed: int) -> Subject:
    """The ONNX files of a model that another machine is to measure: float32 and int8."""
    from resfit.engines.artifact import build
    from resfit.inference.opening import artifact_of

    if artifact_of(model) is not None:
        raise UsageError(f"{model} is an artifact; the files for another machine are built from a model")
    source = _Source.load(model, img_size, seed)
    artifacts = [
        build(source.at(precision), folder / f"{precision}.onnx", format="onnx", precision=precision)
        for precision in FILE_PRECISIONS
    ]
    return dataclasses.replace(source.subject(), artifacts=artifacts)


def _existing(
    artifact: Path,
    img_size: int | None,
    engines: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
) -> Subject:
    """What to time when the file is there already: its format and precision are given."""
    from resfit.engines.artifact import describe, engines_for
    from resfit.measure.comparison import Candidate
    from resfit.measure.macs import macs

    described = describe(artifact)
    size = [described.preprocessing.height, described.preprocessing.width]
    if img_size is not None and size != [img_size, img_size]:
        raise UsageError(f"{artifact} takes images of {size[0]} x {size[1]}, not --img-size {img_size}")
    if precisions and described.precision not in precisions:
        raise UsageError(f"{artifact} is of precision {described.precision}, not {' or '.join(precisions)}")
    able = engines_for(artifact)
    chosen = [name for name in able if (name in engines if engines else name not in SLOW_TO_OPEN)]
    if not chosen:
        raise UsageError(f"{' and '.join(engines)} cannot open {artifact}", hint=f"opened by: {', '.join(able)}")
    contestants: list[Contestant] = [
        Candidate(artifact=artifact, engine=name, precision=described.precision, batch_size=count)
        for count in batch_sizes
        for name in chosen
    ]
    return Subject(
        weights=_weights(described.trained),
        img_size=size,
        macs=macs(described.spec, *size),
        notes=[],
        contestants=contestants,
    )


def _built(
    name: str,
    folder: Path,
    img_size: int | None,
    seed: int,
    engines: Sequence[str],
    precisions: Sequence[str],
    batch_sizes: Sequence[int],
    peers: Sequence[str],
) -> Subject:
    """What to time when a model is given: an artifact for each engine and precision that go together."""
    from resfit.engines.artifact import ENGINES, build
    from resfit.measure.comparison import Candidate, Peer

    source = _Source.load(name, img_size, seed)
    artifacts: list[tuple[Path, str, str]] = []
    for engine in engines or [name for name in ENGINES if name not in SLOW_TO_OPEN]:
        for precision in precisions or PRECISIONS:
            print(f"building {engine} {precision}", file=sys.stderr)
            try:
                artifacts.append((_opened(source, folder, engine, precision), engine, precision))
            except (UsageError, EngineError, MissingExtra) as error:
                if (engines and precisions) or isinstance(error, MissingExtra):
                    source.notes.append(error.message)
    if not artifacts:
        raise UsageError("nothing to time: " + "; ".join(source.notes), hint="choose another --engine or --precision")
    contestants: list[Contestant] = [
        Candidate(artifact=path, engine=engine, precision=precision, batch_size=size)
        for size in batch_sizes
        for path, engine, precision in artifacts
    ]
    if peers:
        bare = build(source.at("fp32"), folder / "bare.onnx", format="onnx", precision="fp32").path
        shape = source.model.preprocessing
        contestants += [
            Peer(
                engine=peer, network=source.network(), num_classes=source.model.spec.num_classes, artifact=bare,
                image_shape=(shape.height, shape.width, shape.channels), batch_size=size,
            )
            for size in batch_sizes
            for peer in peers
        ]  # fmt: skip
    return dataclasses.replace(source.subject(), contestants=contestants)


def _opened(source: "_Source", folder: Path, engine: str, precision: str) -> Path:
    """The file that the engine computes in this precision, opened once to see that it can."""
    from resfit.engines.artifact import ENGINES, PRECISIONS, build, open_session

    format = ENGINES[engine][1][0]
    held = "fp32" if precision == "bf16" else precision
    if held not in PRECISIONS[format]:
        raise UsageError(f"the {format} format has no precision {held!r}")
    path = folder / f"{format}-{held}"
    if not path.exists():
        build(source.at(held), path, format=format, precision=held)
    if engine not in SLOW_TO_OPEN:
        open_session(path, engine=engine, precision=precision)
    return path


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A loaded model, and its int8 form once that is asked for."""

    name: str
    model: "Model"
    seed: int
    notes: list[str] = field(default_factory=list)
    _quantised: "list[Model]" = field(default_factory=list)

    @classmethod
    def load(cls, name: str, img_size: int | None, seed: int) -> "_Source":
        from resfit.model.load import load

        return cls(name=name, model=load(name, img_size=img_size, seed=seed), seed=seed)

    def at(self, precision: str) -> "Model":
        """The model as an artifact of the precision is built from it: int8 calibrated on noise where it never was."""
        if precision != "int8" or self.model.activation_ranges:
            return self.model
        if not self._quantised:
            self._quantised.append(_calibrated_on_noise(self.model, self.seed))
            self.notes.append("int8 ranges come from noise: its time is right, its answers are not")
        return self._quantised[0]

    def network(self) -> str:
        """The name of this network, as other libraries know it."""
        from resfit.nn.architectures import NAMED

        for name, spec in NAMED.items():
            if dataclasses.replace(spec, num_classes=self.model.spec.num_classes) == self.model.spec:
                return name
        return self.name

    def subject(self) -> Subject:
        """What is said of it."""
        from resfit.measure.macs import macs

        shape = self.model.preprocessing
        return Subject(
            weights=_weights(self.model.provenance.trained),
            img_size=[shape.height, shape.width],
            macs=macs(self.model.spec, shape.height, shape.width),
            notes=self.notes,
        )


def _calibrated_on_noise(model: "Model", seed: int) -> "Model":
    from resfit.compression.quantise import quantise
    from resfit.randomness import rng

    shape = model.preprocessing
    size = (NOISE_IMAGES, shape.height, shape.width, shape.channels)
    noise = rng(seed, "noise-calibration", 0, 0).integers(0, 256, size, dtype="uint8")
    return quantise(model, noise, seed=seed, min_agreement=0)  # all layers: only the time counts


def _weights(trained: bool) -> str:
    return "trained" if trained else "untrained"
