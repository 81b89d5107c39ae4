"""A trained model that teaches: its answers for the very images a network is being trained on."""

import dataclasses
import itertools

import numpy as np
import torch
from torch import Tensor

from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.model.fold import fold
from resfit.model.model import Model, weights_sha256
from resfit.nn.resnet import Taps
from resfit.nn.spec import ResNetSpec
from resfit.training.recipe import Recipe
from resfit.training.step import InputLayer


def hinting_stages(spec: ResNetSpec, teacher: ResNetSpec) -> tuple[int, ...]:
    """The stages, counted from 0, whose maps have the shape of the teacher's."""
    if spec.stem != teacher.stem:
        return ()
    pairs = zip(spec.widths, teacher.widths, spec.strides, teacher.strides, strict=False)
    alike = list(itertools.takewhile(lambda stage: stage[2] == stage[3], pairs))
    return tuple(stage for stage, (ours, theirs, *_) in enumerate(alike) if ours == theirs)


def check_hints(recipe: Recipe, spec: ResNetSpec, teacher: "Teacher | None") -> None:
    """UsageError where the recipe wants hints and no stage of the network has maps of the shape of its teacher's."""
    if recipe.hint_weight and teacher is not None and not hinting_stages(spec, teacher.spec):
        raise UsageError(
            f"hint_weight is {recipe.hint_weight}, and no stage has maps of the shape of the teacher's",
            hint="do without: --hint-weight 0, or choose a network of the teacher's widths",
        )


class Teacher:
    """uint8 images (N, H, W, C) to the teacher's logits float32 (N, classes), in the order of `labels`.

    The images are those the student sees, augmented and mixed, normalised as the teacher needs. UsageError when
    the model is untrained, reads images of another size or number of channels, or knows other classes.
    """

    def __init__(self, model: Model, *, preprocessing: Preprocessing, labels: tuple[str, ...]):
        if not model.provenance.trained:
            raise UsageError("the teacher is an untrained network", hint="give a run folder or a checkpoint")
        theirs = model.preprocessing
        for name in ("height", "width", "channels"):
            if getattr(theirs, name) != getattr(preprocessing, name):
                raise UsageError(
                    f"the teacher reads images of {name} {getattr(theirs, name)}, and the training has "
                    f"{getattr(preprocessing, name)}",
                    hint="choose a teacher trained at the same size, or set --img-size to the teacher's",
                )
        if set(model.labels) != set(labels) or len(model.labels) != len(labels):
            unknown = sorted(set(labels) - set(model.labels)) or sorted(set(model.labels) - set(labels))
            raise UsageError(
                f"the teacher's {len(model.labels)} classes are not the data's {len(labels)}: "
                f"only one of them has {', '.join(unknown[:5])}",
                hint="choose a teacher trained on the same classes",
            )
        self.sha256, self.spec = weights_sha256(model), model.spec
        self._order = torch.tensor([model.labels.index(label) for label in labels])
        folded = fold(dataclasses.replace(model, encodings={}, activation_ranges={}))  # answers sooner
        self._module = folded.module().eval().float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._input_layer = InputLayer(theirs, "channels_last")

    @torch.no_grad()
    def __call__(self, images: np.ndarray, taps: Taps | None = None) -> Tensor:
        return self._module(self._input_layer(images), taps).float()[:, self._order]
