"""What a training minimises: a mean over images, whose gradient a class is answer less target for all three."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from resfit.training.recipe import Loss

LEAST_SQUARE = 1e-12  # of a map that is all zeros


def soft_targets(
    targets: Tensor,
    num_classes: int,
    *,
    smoothing: float = 0.0,
    partners: Tensor | None = None,
    shares: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Targets int64 (N,) as probabilities (N, classes): smoothed, and mixed with `partners` where images are.

    shares float (N,), what the first target counts (mixup, cutmix). Smoothing gives every class an equal part of
    it (Szegedy et al. 2016).
    """
    soft = functional.one_hot(targets, num_classes).to(dtype)
    if partners is not None:
        assert shares is not None
        first = shares.to(dtype)[:, None]
        soft = first * soft + (1 - first) * functional.one_hot(partners, num_classes).to(dtype)
    return soft * (1 - smoothing) + smoothing / num_classes


def image_losses(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    partners: Tensor | None = None,
    shares: Tensor | None = None,
) -> Tensor:
    """The loss of each image (N,), from logits (N, classes) and targets int64 (N,), see soft_targets.

    cross_entropy is of the softmax. bce is binary cross entropy of each class' sigmoid and mse half the squared
    distance of logits and targets, both summed over classes: so all three have gradients of the same size, and
    one learning rate serves.
    """
    if loss == "cross_entropy" and partners is None:
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    soft = soft_targets(
        targets, logits.shape[1], smoothing=smoothing, partners=partners, shares=shares, dtype=logits.dtype
    )
    if loss == "cross_entropy":
        return functional.cross_entropy(logits, soft, reduction="none")
    if loss == "bce":
        return functional.binary_cross_entropy_with_logits(logits, soft, reduction="none").sum(1)
    return 0.5 * (logits - soft).square().sum(1)


def mean_loss(
    loss: Loss,
    logits: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    partners: Tensor | None = None,
    shares: Tensor | None = None,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The mean of image_losses; with class_weights float (classes,) each image counts as its class does.

    A mixed image counts as its two classes by their shares. The mean is over images, not over weights, so that
    the parts of a batch add up to its whole.
    """
    if loss == "cross_entropy" and partners is None and class_weights is None:
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    losses = image_losses(loss, logits, targets, smoothing=smoothing, partners=partners, shares=shares)
    if class_weights is None:
        return losses.mean()
    weights = class_weights.to(losses.dtype)
    counted = weights[targets]
    if partners is not None and shares is not None:
        counted = shares.to(losses.dtype) * counted + (1 - shares.to(losses.dtype)) * weights[partners]
    return (counted * losses).mean()


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """How far the answers are from a teacher's, both softened (Hinton et al. 2015): mean over images, 0 at best.

    The divergence is times the squared temperature, so that its gradient keeps its size whatever that is.
    """
    ours = functional.log_softmax(logits / temperature, dim=1)
    theirs = functional.log_softmax(taught.to(logits.dtype) / temperature, dim=1)
    return functional.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def hint_loss(maps: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
    """How far each stage's output is from a teacher's (Romero et al. 2015, "FitNets"): summed over the stages.

    maps, taught: by the name of a part, of which those of stages count that have one shape (N, C, H, W). The mean
    squared difference is relative to the mean square of the teacher's over these images, so that a stage counts alike
    whatever its size: of a batch in parts, as for batch norms, each part is seen alone.
    """
    loss = torch.zeros(())
    for name, ours in maps.items():
        if name.startswith("layer") and name in taught and taught[name].shape == ours.shape:
            precise = torch.promote_types(ours.dtype, loss.dtype)
            wanted = taught[name].to(precise)
            difference = (ours.to(precise) - wanted).square().mean()
            loss = loss + difference / wanted.square().mean().clamp_min(LEAST_SQUARE)
    return loss
