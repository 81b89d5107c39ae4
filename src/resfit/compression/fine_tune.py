"""Training on after a network was made smaller, taught by what it was before."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resfit.data.dataset import Splits
from resfit.data.labels import match_splits, named_after
from resfit.errors import UsageError
from resfit.model.model import Model
from resfit.nn.spec import ResNetSpec
from resfit.training.checkpoint import CheckpointLost, checkpoint_files, last_step
from resfit.training.distillation import Teacher, hinting_stages
from resfit.training.events import Subscriber
from resfit.training.loop import train
from resfit.training.recipe import FULL_RATE_WIDTH, Recipe
from resfit.training.surroundings import Interrupted, TrainingDiverged
from resfit.training.weight_rules import Project, Transform, WeightRules

# Mostly the teacher's answers: it has more to say of an image than its label has, and is right on nearly all of them.
# To an image and its mirror image together it answers better than to one of them: new images told so (ResNet-20 of
# CIFAR-10: 91.7 % right in place of 91.0), and of what learned from both as well
FINE_TUNING = Recipe(
    optimizer="muon",
    lr=0.1,
    distill_weight=0.9,
    distill_temperature=4.0,
    distill_mirrored=True,
    uncropped_fraction=0.05,
)
# Where weights are held to something, or no norm is behind them: steps must be as long as the gradient says
RATE_BY_GRADIENT = 0.05  # a quarter of the usual one of a training, which would have them forget what they know
BY_GRADIENT = dataclasses.replace(FINE_TUNING, optimizer="sgd", lr=RATE_BY_GRADIENT, distill_mirrored=False)
SHARE_WITHOUT_NORMS = 0.1  # of that rate: nothing keeps the activations' size where batch norms are folded away
CLIP_WITHOUT_NORMS = 1.0


def recipe_for(spec: ResNetSpec, *, held: bool = False) -> Recipe:
    """FINE_TUNING, or BY_GRADIENT for a network without norms or whose weights are held to something.

    At a rate for this network: by gradients it is lower for a wide one, as in training, and much lower without norms.
    """
    normed = spec.norm in ("batch", "group")
    if normed and not held:
        return FINE_TUNING
    widest = max(max(spec.inner(stage, 0)) for stage in range(len(spec.depths)))
    lr = RATE_BY_GRADIENT * min(1.0, FULL_RATE_WIDTH / widest)
    recipe = dataclasses.replace(BY_GRADIENT, lr=lr)
    if normed:
        return recipe
    return dataclasses.replace(recipe, lr=lr * SHARE_WITHOUT_NORMS, clip_norm=CLIP_WITHOUT_NORMS)


def fine_tune(
    model: Model,
    splits: Splits,
    *,
    epochs: int,
    teacher: Model | None = None,
    seed: int = 0,
    threads: int | None = None,
    folder: Path | None = None,
    project: Project | None = None,
    transform: Transform | None = None,
    recipe: Recipe | None = None,
    on_event: Subscriber | None = None,
    resume: bool = True,
) -> Model:
    """The model trained on for so many epochs on the training images; its encodings are left out.

    teacher: the model whose answers it follows; None trains by the labels alone.
    project, transform: what its weights are held to, see training.weight_rules.WeightRules; the model returned, and
        every measurement, has the transformed weights.
    recipe: in place of recipe_for(the network); epochs, seed and threads are taken from here, the teacher's share of
        the loss is 0 without a teacher, and there are no hints where no stage of the network has the teacher's shape.
    folder: receives the training's files; with `resume` a training that lies there goes on, and a finished one is
        read back. UsageError where it is another's.
    Classes are matched by name: the result knows those of the model, and mere numbers take the names of the data's.
    LabelMismatch for data with others. Same input, same seed and threads: same weights.
    """
    if epochs == 0:
        return model
    if teacher is not None:
        teacher = dataclasses.replace(teacher, labels=named_after(teacher.labels, splits.labels))
    splits = match_splits(splits, model.labels)
    if model.preprocessing != splits.preprocessing:
        raise UsageError(
            "the images are not as the model takes them: of another size, or normalised otherwise",
            hint="open the data with the model's own preprocessing",
        )
    instructor = None
    if teacher is not None:
        instructor = Teacher(teacher, preprocessing=splits.preprocessing, labels=splits.labels)
    chosen = _possible(recipe or recipe_for(model.spec, held=bool(project or transform)), model, teacher, transform)
    chosen = dataclasses.replace(chosen, epochs=epochs, steps=None, seed=seed, threads=threads)
    with _ways_out(folder):
        result = train(
            model.spec,
            splits,
            chosen,
            folder=folder,
            on_event=on_event,
            init_weights=model.weights,
            teacher=instructor,
            rules=WeightRules(project=project, transform=transform),
            resume=resume and folder is not None and bool(checkpoint_files(folder)),
        )
    provenance = dataclasses.replace(
        result.model.provenance,
        source=model.provenance.source,
        data={**(model.provenance.data or {}), **(result.model.provenance.data or {})},
        notes=(*model.provenance.notes, _told(epochs, result.recipe, teacher)),
    )
    return dataclasses.replace(result.model, provenance=provenance)


def _possible(recipe: Recipe, model: Model, teacher: Model | None, transform: Transform | None) -> Recipe:
    """The recipe without what cannot be: a teacher's share where there is none, hints between unlike networks."""
    if transform is not None:  # what replaces weights is not compiled
        recipe = dataclasses.replace(recipe, compile="eager")
    if teacher is None:
        return dataclasses.replace(
            recipe, distill_weight=0.0, distill_temperature=None, distill_mirrored=False, hint_weight=0.0
        )
    return recipe if hinting_stages(model.spec, teacher.spec) else dataclasses.replace(recipe, hint_weight=0.0)


@contextmanager
def _ways_out(folder: Path | None) -> Iterator[None]:
    """What stops a training, with the way out of a compression, which has neither `train --resume` nor `--lr`."""
    try:
        yield
    except TrainingDiverged as error:
        raise TrainingDiverged(
            error.message, hint="choose another --seed, ask for a smaller step, or do without --epochs"
        ) from error
    except Interrupted as error:
        hint = error.hint if folder is None else f"the same command goes on from there: {folder} keeps what it needs"
        raise Interrupted(error.message, hint=hint) from error
    except CheckpointLost as error:
        step = None if folder is None else last_step(folder)
        way_out = "starts it again" if step is None else f"goes on from step {step}"
        raise CheckpointLost(error.message, hint=f"make room, and the same command {way_out}") from error


def _told(epochs: int, recipe: Recipe, teacher: Model | None) -> str:
    taught = f", {recipe.distill_weight:.0%} of the loss from the network it was" if teacher is not None else ""
    return f"trained on for {epochs} epoch{'s' * (epochs != 1)} (seed {recipe.seed}){taught}"
