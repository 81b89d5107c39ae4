"""Products and factors of large matrices, in torch: its threads are those that a user asked for, numpy's are not."""

import functools
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Covariance:
    """A positive definite matrix, float64 (inputs, inputs), whose factor is found once.

    damping: what was added to its diagonal to make it so.
    """

    matrix: Array
    damping: float = 0.0

    @functools.cached_property
    def factor(self) -> Array:
        """Upper triangular R with R R^T = the matrix.

        The errors of a row of weights, times R, are the parts of its output's error that do not depend on each
        other; a part depends on the errors of its own input and of the inputs before.
        """
        turned = torch.linalg.cholesky(torch.from_numpy(self.matrix).flip(0, 1))
        return turned.flip(0, 1).numpy()

    @property
    def is_definite(self) -> bool:
        """Whether there is such a factor, in the precision of its numbers."""
        try:
            return bool(np.isfinite(self.factor).all())
        except torch.linalg.LinAlgError:
            return False

    def divided(self, rows: Array) -> Array:
        """X with X times the matrix = rows, float64 (rows, inputs)."""
        factor = torch.from_numpy(self.factor)
        half = torch.linalg.solve_triangular(factor.T, torch.from_numpy(rows), upper=False, left=False)
        return torch.linalg.solve_triangular(factor, half, upper=True, left=False).numpy()


def product(first: Array, second: Array) -> Array:
    """The product of two matrices of one type."""
    return (torch.from_numpy(first) @ torch.from_numpy(second)).numpy()
