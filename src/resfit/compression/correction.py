"""What rounding did to a layer's outputs, made good by its scales and biases; least squares in closed form."""

import numpy as np

from resfit.compression.covariance import Covariance, product
from resfit.compression.moments import Moments
from resfit.errors import UsageError

Array = np.ndarray

DAMPING = 1e-3  # inputs that never varied decide nothing
ROUNDING = 1e-6  # of their mean square: what float32 sums may be wrong by
MORE_DAMPING = 10.0  # where even so there is no factor: sums are too rough for thousands of inputs that say the same
MOST_STRETCH = 2.0


def damped_covariance(moments: Moments, *, damping: float = DAMPING) -> Covariance:
    """The inputs' covariance, made positive definite. damping: of the inputs' mean variance, added to each.

    UsageError where the inputs are no finite numbers.
    """
    matrix = moments.covariance
    if not np.isfinite(matrix).all():
        raise UsageError(
            "the network's activations on these images are no finite numbers",
            hint="choose other weights, or a smaller step from them",
        )
    variance, square = np.diag(matrix).mean(), np.diag(moments.inputs)[:-1].mean()
    added = float(damping * max(variance, 0.0) + ROUNDING * square) or 1.0
    while True:
        covariance = Covariance(matrix=matrix + added * np.eye(len(matrix)), damping=added)
        if covariance.is_definite:
            return covariance
        added *= MORE_DAMPING


def best_weights(weights: Array, moments: Moments, covariance: Covariance) -> Array:
    """Float weights (outputs, inputs) that bring the layer nearest to its targets, drawn to the present ones.

    They differ from the present ones where the copy reads other inputs than the original did. covariance: the
    moments', damped; the damping is what draws.
    """
    return covariance.divided(moments.target_covariance + covariance.damping * weights)


def best_stretch(values: Array, moments: Moments, covariance: Covariance) -> Array:
    """The factor for each output's rounded weights, float64 (outputs,), that brings it nearest to its target."""
    towards = (values * moments.target_covariance).sum(axis=1)
    size = (product(values, covariance.matrix) * values).sum(axis=1)
    factors = np.divide(towards, size, out=np.ones_like(size), where=size > 0)
    return np.clip(factors, 1 / MOST_STRETCH, MOST_STRETCH)


def best_bias(values: Array, moments: Moments) -> Array:
    """The bias of each output, float64 (outputs,), that leaves no mean error."""
    return moments.targets[:, -1] - values @ moments.means
