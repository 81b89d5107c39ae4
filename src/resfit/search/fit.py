"""From images and a budget to a proven network: price the ladder, race what fits, train on, prove."""

import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resfit.budget import Budget, Measurement, Verdict
from resfit.compression.quantise import quantise
from resfit.data.dataset import Splits
from resfit.engines.artifact import Artifact, build, open_session
from resfit.errors import BudgetNotMet, ResfitError
from resfit.inference.opening import session_of
from resfit.inference.predict import evaluate_session
from resfit.measure.proof import Proof, prove
from resfit.model.model import Model
from resfit.nn.spec import ResNetSpec
from resfit.search.ladder import candidates
from resfit.search.pricing import (
    CALIBRATION_IMAGES,
    Point,
    Pricing,
    binding_budgets,
    nearest_points,
    price_all,
    quantities_for,
)
from resfit.search.race import LEAST_SECONDS, Entrant, Failed, Finished, Rung, evenly, plan_rungs, race
from resfit.training.loop import train
from resfit.training.progress import ProgressPrinter
from resfit.training.recipe import Recipe
from resfit.training.result import TrainResult
from resfit.training.surroundings import Interrupted

LADDER_SHARE = 0.25  # of all the time
RACE_SHARE = 0.4  # of the time left after the ladder
PROOF_SECONDS = 4.0  # kept for quantising and reporting, besides what the processes of a proof take
PROOF_PROCESSES = 4  # of one measured candidate's time each
NOISY = ("latency_ms", "memory_bytes", "energy_mj")
MOST_PROOFS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a fit was asked for.

    time_seconds counts from `started`, a time of time.monotonic(); folder makes the output folder for the
    winner's name and network; say tells a person how far things are.
    """

    budget: Budget
    time_seconds: float
    started: float
    max_drop: float
    seed: int
    threads: int
    engine: str
    folder: Callable[[str, ResNetSpec], Path]
    say: Callable[[str], None]

    def seconds_left(self) -> float:
        """What remains of all the time."""
        return self.started + self.time_seconds - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training in the race: accuracy and loss on validation images, and the weights to go on from."""

    result: TrainResult
    accuracy: float
    loss: float
    epochs: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A finished fit: the winner, its proof, and everything that led to it."""

    folder: Path
    winner: Entrant
    model: Model
    artifact: Artifact
    result: TrainResult
    proofs: tuple[Proof, ...]
    measurement: Measurement
    verdicts: tuple[Verdict, ...]
    points: tuple[Point, ...]
    entrants: tuple[Entrant, ...]
    rungs: tuple[Rung, ...]
    drop: float | None


class NoNetworkFits(BudgetNotMet):
    """No candidate can meet the budgets; carries the nearest points and the budgets that bind."""

    code = "no-network-fits"

    def __init__(self, points: tuple[Point, ...], budget: Budget):
        self.points = points
        self.nearest = nearest_points(points, budget)
        self.binding = binding_budgets(points, budget)
        super().__init__(
            f"none of {len({point.candidate.name for point in points})} networks can meet the budget; "
            f"binding: {', '.join(self.binding)}"
        )


def fit(splits: Splits, plan: Plan) -> Fit:
    """Find, train and prove the best network within a budget. NoNetworkFits when there is none."""
    before = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="resfit-fit-") as scratch:
        points = _price(splits, plan, Path(scratch))
    fitting = [point for point in points if point.fits] or [point for point in points if point.close]
    if not fitting:
        raise NoNetworkFits(points, plan.budget)
    timed = [point for point in points if point.measurement.latency_ms is not None]
    plan.say(f"ladder   {len(timed)} artifacts measured; {len(fitting)} networks can meet the budget")
    reserve = PROOF_SECONDS + PROOF_PROCESSES * (time.monotonic() - before) / len(timed)
    plan = dataclasses.replace(plan, time_seconds=plan.time_seconds - reserve)
    entrants, rungs = _entrants(fitting, plan)
    left = race(entrants, rungs, lambda entrant, rung, number: _trial(entrant, rung, number, splits, plan))
    if not left:
        raise ResfitError(f"every training of the race failed: {entrants[0].results[-1]}")
    winner = left[0]
    plan.say(f"winner   {winner.name}, trained on for {max(plan.seconds_left(), 0):.0f} s")
    folder = plan.folder(winner.name, winner.subject.candidate.spec)
    result = _train_on(winner, splits, plan, folder)
    model, artifact, drop = _ship(winner, result, splits, plan, folder)
    proofs, measured = _prove(artifact, splits, plan)
    return Fit(
        folder=folder, winner=winner, model=model, artifact=artifact, result=result, proofs=proofs,
        measurement=measured, verdicts=plan.budget.check(measured), points=points, entrants=tuple(entrants),
        rungs=rungs, drop=drop,
    )  # fmt: skip


def _price(splits: Splits, plan: Plan, scratch: Path) -> tuple[Point, ...]:
    shape = splits.preprocessing
    ladder = candidates(shape.height, shape.width, channels=shape.channels, num_classes=len(splits.labels))
    pricing = Pricing(
        budget=plan.budget,
        preprocessing=shape,
        labels=splits.labels,
        images=splits.train.images[:CALIBRATION_IMAGES],
        engine=plan.engine,
        threads=plan.threads,
        folder=scratch,
        quantities=quantities_for(plan.budget),
    )
    plan.say(f"ladder   {len(ladder)} networks to build and measure")
    return price_all(pricing, ladder, deadline=plan.started + LADDER_SHARE * plan.time_seconds)


def _entrants(fitting: list[Point], plan: Plan) -> tuple[list[Entrant], tuple[Rung, ...]]:
    """The networks that race, by rising cost, and the rungs the time allows."""
    ordered = sorted(fitting, key=lambda point: point.measurement.macs or 0)
    rungs = plan_rungs(len(ordered), RACE_SHARE * plan.seconds_left())
    # With no time to compare, the middle of the ladder is the safest guess.
    chosen = evenly(ordered, rungs[0].entered) if rungs else [ordered[len(ordered) // 2]]
    return [Entrant(name=point.candidate.name, subject=point) for point in chosen], rungs


def _recipe(plan: Plan, earlier: TrainResult | None) -> Recipe:
    recipe = Recipe(seed=plan.seed, threads=plan.threads)
    if earlier is None:
        return recipe
    return dataclasses.replace(recipe, precision=earlier.recipe.precision, memory_format=earlier.recipe.memory_format)


def _trial(entrant: Entrant, rung: Rung, number: int, splits: Splits, plan: Plan) -> Finished | Failed:
    earlier = entrant.last.result if entrant.last else None
    try:
        result = train(
            entrant.subject.candidate.spec,
            splits,
            _recipe(plan, earlier),
            init_weights=earlier.model.weights if earlier else None,
            max_seconds=rung.seconds,
        )
    except Interrupted as error:
        raise Interrupted(
            "the fit was stopped in its race, before a network was chosen",
            hint="nothing was written; the same command begins anew",
        ) from error
    except ResfitError as error:
        plan.say(f"race     {entrant.name} failed: {error.message}")
        return Failed(reason=error.message)
    last = result.history[-1]
    trial = Trial(
        result=result,
        accuracy=last["validation_accuracy"],
        loss=last["validation_loss"],
        epochs=result.epochs,
    )
    plan.say(
        f"race     rung {number + 1}  {entrant.name:<14} validation {trial.accuracy:6.1%} after "
        f"{trial.epochs:.1f} epochs  {max(plan.seconds_left(), 0):4.0f} s left"
    )
    return Finished(trial=trial)


def _train_on(winner: Entrant, splits: Splits, plan: Plan, folder: Path) -> TrainResult:
    """The winner, for the rest of the time, from the weights it raced with."""
    earlier = winner.last.result if winner.last else None
    try:
        return train(
            winner.subject.candidate.spec,
            splits,
            _recipe(plan, earlier),
            folder=folder,
            init_weights=earlier.model.weights if earlier else None,
            max_seconds=max(plan.seconds_left(), LEAST_SECONDS),
            on_event=ProgressPrinter(),
        )
    except Interrupted as error:
        raise Interrupted(
            f"the fit was stopped: {error.message}",
            hint=f"`resfit train --resume {folder}` trains {winner.name}, which won the race, to the end of its plan, "
            "and `resfit export` makes a file of it, unproven; the same fit command begins anew",
        ) from error


def _ship(
    winner: Entrant, result: TrainResult, splits: Splits, plan: Plan, folder: Path
) -> tuple[Model, Artifact, float | None]:
    """The artifact at the precision that fits; in int8 only within max_drop, measured on validation images."""
    path = folder / "model.onnx"
    if winner.subject.precision == "fp32":
        return result.model, build(result.model, path, precision="fp32"), None
    model = quantise(result.model, splits.train.images, seed=plan.seed)
    artifact = build(model, path, precision="int8")
    before = _validation_accuracy(result.model, splits, plan)
    after = _validation_accuracy(artifact, splits, plan)
    drop = 100 * (before - after)
    if drop > plan.max_drop:
        plan.say(f"int8     loses {drop:.2f} points on validation, more than {plan.max_drop:g}: kept as float32")
        return result.model, build(result.model, path, precision="fp32"), drop
    return result.model, artifact, drop


def _validation_accuracy(subject: Model | Artifact, splits: Splits, plan: Plan) -> float:
    with contextlib.ExitStack() as stack:
        if isinstance(subject, Model):
            session = stack.enter_context(session_of(subject, threads=plan.threads))
        else:
            session = open_session(subject, threads=plan.threads)
        logits, targets = evaluate_session(session, splits.validation)
    return float(np.mean(logits.argmax(1) == targets))


def _prove(artifact: Artifact, splits: Splits, plan: Plan) -> tuple[tuple[Proof, ...], Measurement]:
    """One proof; where only a noisy quantity is over its limit, two more, of which the median counts."""
    test = splits.role("test")
    quantities = quantities_for(plan.budget)
    proofs: list[Proof] = []
    while len(proofs) < MOST_PROOFS:
        proofs.append(
            prove(
                artifact.path, test.images, test.targets, engine=plan.engine, threads=plan.threads,
                quantities=quantities,
            )
        )  # fmt: skip
        missed = {verdict.name for verdict in plan.budget.check(proofs[0].measurement) if not verdict.holds}
        if not missed or not missed <= {"latency_ms", "memory_mb", "energy_mj"}:
            return tuple(proofs), proofs[0].measurement
    return tuple(proofs), _median(proofs)


def _median(proofs: list[Proof]) -> Measurement:
    """The first proof with its noisy quantities replaced by the median of all."""
    values: dict[str, Any] = {}
    basis = dict(proofs[0].measurement.basis)
    for name in NOISY:
        found = [getattr(proof.measurement, name) for proof in proofs]
        if None not in found:
            values[name] = sorted(found)[len(found) // 2]
            basis[name] = f"median of {len(found)} processes: {basis.get(name, '')}"
    return dataclasses.replace(proofs[0].measurement, **values, basis=basis)


def to_standard_error(text: str) -> None:
    """The default way to say how far a fit is."""
    print(text, file=sys.stderr, flush=True)
