"""Keeping a training within a memory limit: the peak is measured beforehand, on small trainings in a process apart."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from resfit.data.dataset import Splits
from resfit.errors import BudgetNotMet, ResfitError
from resfit.measure.memory import memory_bytes, peak_memory_bytes
from resfit.nn.spec import ResNetSpec
from resfit.training.distillation import Teacher
from resfit.training.events import MemoryPlanned, Subscriber
from resfit.training.probe import Probed
from resfit.training.recipe import Recipe

MEGABYTE = 1_000_000
LEAST_MICRO_BATCH = 2  # batch norm needs two images
# Batch norm's statistics are those of a micro-batch: before they are of fewer images, activations are recomputed
GOOD_MICRO_BATCH = 16
# What a small training beforehand does not show: uneven use of the heap, pictures of the report
MARGIN_SHARE, MARGIN_BYTES = 0.04, 12 * MEGABYTE
FAILED = "a small training to measure its memory failed"


class MemoryTooSmall(BudgetNotMet):
    """No way to train keeps to the memory limit."""

    code = "memory-too-small"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way to keep to a limit, and the peak it leads to: that of the whole process, in bytes."""

    micro_batch: int
    activation_checkpointing: bool
    peak_bytes: int


def planned_memory(
    spec: ResNetSpec, splits: Splits, recipe: Recipe, teacher: Teacher | None, on_event: Subscriber | None
) -> Recipe:
    """The recipe with the micro-batch, and activation checkpointing where needed, that keep to train_memory_mb.

    A recipe that says its micro-batch already is followed as it is. The batch stays what it was. Preferred is the
    largest micro-batch; activations are computed twice only where it would otherwise have fewer than 16 images.
    MemoryTooSmall, with the least that would do, when nothing keeps to the limit; EngineError where memory
    cannot be measured.
    """
    if recipe.train_memory_mb is None or recipe.micro_batch is not None:
        return recipe
    limit = int(recipe.train_memory_mb * MEGABYTE)
    tried = _try(spec, splits, recipe, teacher, limit, activation_checkpointing=False)
    chosen = _largest(tried, limit)
    good = min(GOOD_MICRO_BATCH, recipe.batch_size or GOOD_MICRO_BATCH)
    if (chosen is None or chosen.micro_batch < good) and recipe.compile != "compiled":
        tried += _try(spec, splits, recipe, teacher, limit, activation_checkpointing=True)
        chosen = _largest(tried, limit)
    if chosen is None:
        raise _too_small(spec, splits, tried, limit)
    assert recipe.batch_size is not None
    if on_event is not None:
        on_event(
            MemoryPlanned(
                limit_bytes=limit,
                predicted_bytes=chosen.peak_bytes,
                batch_size=recipe.batch_size,
                micro_batch=chosen.micro_batch,
                activation_checkpointing=chosen.activation_checkpointing,
            )
        )
    return dataclasses.replace(
        recipe, micro_batch=chosen.micro_batch, activation_checkpointing=chosen.activation_checkpointing
    )


def probed_apart(spec: ResNetSpec, splits: Splits, recipe: Recipe, plan: dict[str, float]) -> Probed:
    """`probe.probe` in a process of its own, so that its copies of the network are no matter of the limit."""
    with _child(_request("speed", spec, splits, recipe, None) | {"plan": plan}) as answers:
        return Probed(**next(answers))


def micro_batches_to_try(batch_size: int) -> list[int]:
    """Halves of the batch down to 2, smallest first."""
    sizes = {batch_size}
    while (size := -(-min(sizes) // 2)) >= LEAST_MICRO_BATCH and size not in sizes:
        sizes.add(size)
    return sorted(sizes)


def _try(
    spec: ResNetSpec,
    splits: Splits,
    recipe: Recipe,
    teacher: Teacher | None,
    limit: int,
    *,
    activation_checkpointing: bool,
) -> list[Tried]:
    """The peaks of rising micro-batches, up to the first that is over the limit (or that no memory was left for)."""
    recipe = dataclasses.replace(recipe, activation_checkpointing=activation_checkpointing)
    held, peak_so_far = memory_bytes(), peak_memory_bytes()
    found = []
    with _child(_request("memory", spec, splits, recipe, teacher) | {"allowed_bytes": limit - held}) as answers:
        for answer in answers:
            added = int(answer["added_bytes"] * (1 + MARGIN_SHARE)) + MARGIN_BYTES
            found.append(
                Tried(
                    micro_batch=answer["micro_batch"],
                    activation_checkpointing=activation_checkpointing,
                    peak_bytes=max(peak_so_far, held + added),
                )
            )
    return found


def _largest(tried: list[Tried], limit: int) -> Tried | None:
    """The largest micro-batch that keeps to the limit, without recomputing where that has the same."""
    kept = [way for way in tried if way.peak_bytes <= limit]
    return max(kept, key=lambda way: (way.micro_batch, not way.activation_checkpointing), default=None)


def _too_small(spec: ResNetSpec, splits: Splits, tried: list[Tried], limit: int) -> MemoryTooSmall:
    least = -(-min(way.peak_bytes for way in tried) // MEGABYTE)
    before = memory_bytes() // MEGABYTE
    shape = splits.preprocessing
    return MemoryTooSmall(
        f"training this network of {sum(spec.depths)} blocks at {shape.height} x {shape.width} cannot keep to "
        f"{limit / MEGABYTE:.0f} MB",
        hint=f"--train-memory-mb {least} is the least that would do here ({before} MB are taken before training "
        "begins); or choose a smaller --img-size or network",
    )


def _request(task: str, spec: ResNetSpec, splits: Splits, recipe: Recipe, teacher: Teacher | None) -> dict[str, Any]:
    assert recipe.batch_size is not None
    return {
        "task": task,
        "spec": spec.to_dict(),
        "recipe": dataclasses.replace(recipe, train_memory_mb=None).to_dict(),
        "preprocessing": splits.preprocessing.to_dict(),
        "teacher": None if teacher is None else teacher.spec.to_dict(),
        "micro_batches": micro_batches_to_try(recipe.batch_size),
    }


@contextmanager
def _child(request: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """A process `python -m resfit.training.memory_child`, and its answers one by one, a line of JSON each."""
    # -P keeps the user's working folder off its import path; in a session of its own Ctrl-C does not reach it
    command = [sys.executable, "-P", "-m", "resfit.training.memory_child"]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
        )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            yield _answers(process, said)
        finally:
            process.kill()
            process.wait()


def _answers(process: "subprocess.Popen[str]", said: IO[str]) -> Iterator[dict[str, Any]]:
    """Answers until the process ends; ResfitError where it tells of an error, or ends without any answer."""
    assert process.stdout is not None
    answered = False
    for line in process.stdout:
        answer = json.loads(line)
        if "error" in answer:
            raise ResfitError(f"{FAILED}: {answer['error']}")
        yield answer
        answered = True
    if not answered:
        said.seek(0)
        lines = said.read().strip().splitlines()
        raise ResfitError(f"{FAILED}: {lines[-1] if lines else f'it ended with code {process.wait()}'}")
