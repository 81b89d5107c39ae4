"""What the flags of a training choose: its recipe, the network with its first weights, the teacher."""

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resfit.errors import UsageError

DEFAULT_MODEL = "resnet18"
DEFAULT_DISTILL_WEIGHT = 0.5
BESIDE_RESUME = ("resume", "data", "epochs")
# What a run's recipe decided for another value of the key no longer holds
FOLLOWS: Mapping[str, Mapping[str, Any]] = {
    "epochs": {"steps": None, "replans": (), "extensions": ()},
    "steps": {"epochs": None, "replans": (), "extensions": ()},
    "optimizer": {"lr": None, "momentum": None, "nesterov": None},
    "momentum": {"nesterov": None},
    "schedule": {"milestones": (), "milestone_decay": None},
    "accumulate": {"micro_batch": None},
    "train_memory_mb": {"micro_batch": None, "activation_checkpointing": False},
}


def refuse_beside_resume(given: Mapping[str, Any]) -> None:
    """UsageError when a flag is given that a run's own recipe decides; `given` holds all arguments of train."""
    import inspect

    from resfit.verbs.train import train

    for name, parameter in inspect.signature(train).parameters.items():
        if name not in BESIDE_RESUME and given[name] != parameter.default:
            raise UsageError(
                f"--{name.replace('_', '-')} cannot change on resume",
                hint="leave it out: the recipe of the run is followed; only --epochs may be given, for more of them",
            )


def chosen_recipe(source: str | None, given: Mapping[str, Any]) -> Any:
    """The recipe of a name, file or run (None: fast), with the values that were given in place of its own."""
    from resfit.measure.machine import usable_cores
    from resfit.training.recipe import Recipe
    from resfit.training.recipes import read_recipe

    recipe = read_recipe(source or "fast")
    fields = {field.name for field in dataclasses.fields(Recipe)} - {"teacher"}
    values = {name: value for name, value in given.items() if name in fields and value is not None}
    if "milestones" in values:
        values["milestones"] = tuple(values["milestones"])
        if given["time_minutes"] is not None and max(values["milestones"], default=0) >= 1:
            raise UsageError(
                "--milestones are steps, and --time-minutes does not know how many there will be",
                hint="give them as fractions of the schedule, as 0.5 0.75",
            )
    dropped = {name: value for key in values for name, value in FOLLOWS.get(key, {}).items()}
    if values.get("distill_weight") == 0:
        dropped |= {"teacher": None, "distill_temperature": None, "distill_mirrored": False, "hint_weight": 0.0}
    if given["teacher"] is not None:
        weight = values.get("distill_weight", recipe.distill_weight or DEFAULT_DISTILL_WEIGHT)
        if not weight:
            raise UsageError("--distill-weight is 0, and --teacher names a teacher", hint="leave one of them out")
        values["distill_weight"] = weight
    if recipe.threads is None and "threads" not in values:
        values["threads"] = usable_cores()
    return dataclasses.replace(recipe, **{**dropped, **values})


def refuse_unfit(recipe: Any, splits: Any, spec: Any, teacher: Any) -> None:
    """UsageError where these images cannot be trained on by this recipe here, before a folder is made for it."""
    from resfit.training.compiling import check_compiler
    from resfit.training.distillation import check_hints

    if recipe.compile == "compiled":
        check_compiler()
    check_hints(recipe, spec, teacher)
    shape = splits.preprocessing
    recipe.resolved(num_images=len(splits.train), height=shape.height, width=shape.width, channels=shape.channels)


@dataclass(frozen=True, kw_only=True)
class ChosenTeacher:
    """A trained model that is to teach, or None."""

    model: Any

    def for_data(self, splits: Any) -> Any:
        """The teacher of a training on these images; UsageError where it does not know them."""
        if self.model is None:
            return None
        from resfit.training.distillation import Teacher

        return Teacher(self.model, preprocessing=splits.preprocessing, labels=splits.labels)


def chosen_teacher(source: str | None, recipe: Any) -> ChosenTeacher:
    """The model at `source`; UsageError where the recipe needs one, or needs another."""
    if source is None:
        if recipe is not None and recipe.distill_weight:
            raise UsageError(
                f"the recipe gives {recipe.distill_weight:.0%} of the loss to a teacher, and there is none",
                hint="name it with --teacher, or do without: --distill-weight 0",
            )
        return ChosenTeacher(model=None)
    from resfit.model.load import load
    from resfit.model.model import weights_sha256

    model = load(source)
    if recipe is not None and recipe.teacher not in (None, weights_sha256(model)):
        raise UsageError(
            f"{source} is not the teacher of that recipe, whose weights have the sha256 {recipe.teacher[:12]}...",
            hint="name the same teacher",
        )
    return ChosenTeacher(model=model)


@dataclass(frozen=True, kw_only=True)
class ChosenNetwork:
    """The network to train, by name or as weights to start from, and what is changed of it."""

    name: str
    spec: Any
    initial: Any
    pretrained: str | None
    changes: Mapping[str, Any]

    @property
    def channels(self) -> int | None:
        """Channels the images must have; None where the network takes any."""
        return None if self.initial is None else self.spec.in_channels

    @property
    def source(self) -> str | None:
        """What the weights to start from are: the path as it was typed, or what a name was found to mean."""
        if self.pretrained is None or Path(self.pretrained).exists():
            return self.pretrained
        return str(self.initial.provenance.source)

    @property
    def preprocessing(self) -> Any:
        """The preprocessing that the weights to start from were trained with; None where there are none."""
        return None if self.initial is None else self.initial.preprocessing

    def spec_for(self, splits: Any) -> Any:
        """The network for these images and their classes."""
        return dataclasses.replace(
            self.spec, num_classes=len(splits.labels), in_channels=splits.preprocessing.channels, **self.changes
        )

    def weights_for(self, spec: Any, *, labels: tuple[str, ...], seed: int) -> dict[str, Any] | None:
        """The initial weights that fit the network, None where they are random.

        The classifier is that of the weights where it knows these classes, in their order here, or where it is of as
        many classes that nothing names; else a new one, drawn from `seed`.
        """
        if self.initial is None:
            return None
        import torch

        from resfit.nn.resnet import ResNet
        from resfit.randomness import derived_seed

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "new classifier"))
            fresh = ResNet(spec).state_dict()
        ours = dict(self.initial.weights)
        kept = _classifier_rows(self.initial.labels, labels)
        for name in ("fc.weight", "fc.bias"):
            ours[name] = fresh[name] if kept is None else ours[name][kept]
        said = "a new one" if kept is None else "that of the weights"
        print(f"classifier of {len(labels)} classes: {said}", file=sys.stderr)
        return {
            name: ours[name] if name in ours and ours[name].shape == value.shape else value
            for name, value in fresh.items()
        }


def _classifier_rows(known: tuple[str, ...], wanted: tuple[str, ...]) -> list[int] | None:
    """For each wanted class its place among the known ones; None where they are others."""
    from resfit.data.labels import named_after

    known = named_after(known, wanted)
    return [known.index(label) for label in wanted] if sorted(known) == sorted(wanted) else None


def chosen_network(name: str | None, pretrained: str | None, **changes: Any) -> ChosenNetwork:
    """The network of a name, or of the weights to start from; `changes` of its spec that are None are none."""
    changes = {key: value for key, value in changes.items() if value is not None}
    if pretrained is None:
        from resfit.nn.architectures import architecture

        name = name or DEFAULT_MODEL
        return ChosenNetwork(name=name, spec=architecture(name), initial=None, pretrained=None, changes=changes)
    from resfit.model.load import load_weights

    initial = load_weights(pretrained)
    if not initial.provenance.trained:
        raise UsageError(f"the weights of {pretrained} are random", hint="give a trained run or a checkpoint")
    for note in initial.provenance.notes:
        print(f"note: {note}", file=sys.stderr)
    if name is not None and not _same_network(name, initial.spec):
        raise UsageError(
            f"--model is {name}, and {pretrained} holds the weights of another network",
            hint="leave --model out: the network is that of the weights",
        )
    return ChosenNetwork(
        name=name or pretrained, spec=initial.spec, initial=initial, pretrained=pretrained, changes=changes
    )


def refuse_without_weights(pretrained: str | None, recipe: Any) -> None:
    """UsageError where what is chosen of the weights to start from has none to be chosen of."""
    if pretrained is None and (recipe.freeze_epochs or recipe.layer_decay != 1):
        flag = "--freeze-epochs" if recipe.freeze_epochs else "--layer-decay"
        raise UsageError(
            f"{flag} is for weights that have learned something, and these are random",
            hint="give --pretrained too, or leave it out",
        )


def _same_network(name: str, spec: Any) -> bool:
    """Whether the named network is this one, but for what depends on data and training."""
    from resfit.nn.architectures import architecture

    free = {field: getattr(spec, field) for field in ("num_classes", "in_channels", "dropout", "drop_path")}
    return dataclasses.replace(architecture(name), **free) == spec
