"""A model and the images it is held against: at the size it takes them, cut as they were when it learned."""

import dataclasses
from typing import TYPE_CHECKING, Any

from resfit.verbs.request import opening_of_the_run

if TYPE_CHECKING:
    from resfit.model.model import Model  # brings torch, which an artifact of another engine does without

SPLIT_SEED = "split_seed"  # in a model's provenance.data


def load_for(
    model: str,
    data: str,
    *,
    img_size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    fit: Any = None,
) -> "Model":
    """The model, set to the data's own image size where neither it nor the user says which."""
    from resfit.model.load import load

    def of_the_data() -> tuple[int, int]:
        from resfit.data.sources import image_shape

        height, width, _ = image_shape(data)
        return height, width

    loaded = load(model, mean=mean, std=std, img_size=img_size, usual_size=of_the_data)
    if fit is None:
        return loaded
    return dataclasses.replace(loaded, preprocessing=dataclasses.replace(loaded.preprocessing, fit=fit))


def own_split_seed(source: str, model: "Model | None") -> int | None:
    """The split seed that a model's training or compression was asked for; None where nothing says it."""
    opening = opening_of_the_run(source)
    if opening is not None:
        return int(opening.get("split_seed", 0))
    seed = None if model is None else (model.provenance.data or {}).get(SPLIT_SEED)
    return seed if isinstance(seed, int) else None


def own_max_unreadable(source: str) -> float:
    """The share of all its images, of the three roles together, that a training did without; 0 for other models."""
    return float((opening_of_the_run(source) or {}).get("max_unreadable") or 0.0)


def cut_notes(own: int | None, split_seed: int | None) -> tuple[str, ...]:
    """A warning where the user's cut is not the model's own."""
    if split_seed is None or own in (None, split_seed):
        return ()
    return (f"its own split seed is {own}: unless the data declares its splits, some of these images taught it",)


def with_split_seed(model: "Model", split_seed: int) -> "Model":
    """The model with a note of the cut it learned by, for later; the usual seed 0 takes no bytes of its file."""
    data = {name: value for name, value in (model.provenance.data or {}).items() if name != SPLIT_SEED}
    if split_seed:
        data[SPLIT_SEED] = split_seed
    return dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, data=data or None))
