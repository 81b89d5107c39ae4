"""Which points are tried for a wish: one way a method."""

import functools
from typing import Literal

from resfit.compression.points import Points
from resfit.compression.rounded_points import Curve, Training, once, trained_points
from resfit.compression.sharing import share
from resfit.compression.weight_grids import as_halves, on_grids
from resfit.compression.wish import Outcome, Wish, outcome
from resfit.data.images import Images
from resfit.measure.macs import parameters
from resfit.model.model import Model

Method = Literal["auto", "prune", "quantise", "share", "fp16", "bf16", "code"]

BITS = (2, 3, 4, 5, 6, 7, 8)
LEAST_LOSSLESS = 0.8  # of the bytes of float weights: none is coded into fewer without loss


def pursue(
    points: Points,
    wish: Wish,
    method: Method,
    model: Model,
    images: Images,
    *,
    bits: int | None = None,
    seed: int = 0,
    training: Training | None = None,
    changed: bool = False,
    keep_zeros: bool = False,
) -> Outcome:
    """Try points of a model, then choose among them.

    images: uint8 (N, H, W, C) of training images, to calibrate on. bits: a weight, in place of the fewest that do,
    for quantise and share. training: of the rounded weights, for auto; None is none. changed: the model answers no
    longer as the one that points are compared with. keep_zeros: weights that are zero stay so.
    """
    if method in ("code", "prune"):
        once(points, method, lambda: model)
    elif method in ("fp16", "bf16"):
        once(points, method, lambda: as_halves(model, kind=method))
    elif method == "auto":
        curve = Curve(model, images, seed=seed, points=points, keep_zeros=keep_zeros)
        if training is not None:
            trained_points(curve, wish, training)
        else:
            _round(curve, wish, changed=changed)
    else:
        _ladder(model, method, BITS if bits is None else (bits,), points, wish, keep_zeros)
    return outcome(points.tried, wish)


def _round(curve: Curve, wish: Wish, *, changed: bool) -> None:
    """Without training: the model as it is where that may be what is wished, and rounded."""
    if changed:
        curve.try_for(wish, unrounded=once(curve.points, "prune", lambda: curve.model))
        return
    lossless = 4 * parameters(curve.model.spec) * LEAST_LOSSLESS
    if wish.max_drop == 0 or (wish.max_drop is None and wish.file_bytes is not None and wish.file_bytes >= lossless):
        exact = once(curve.points, "code", lambda: curve.model)
        if wish.max_drop is None and wish.size_holds(exact):
            return
    curve.try_for(wish)


def _ladder(model: Model, step: str, ladder: tuple[int, ...], points: Points, wish: Wish, keep_zeros: bool) -> None:
    """From few bits to many, until the answers are true enough."""
    for bits in ladder:
        point = points.point({"step": step, "bits": bits}, functools.partial(_of_bits, model, step, bits, keep_zeros))
        if wish.max_drop is not None and wish.drop_holds(point):
            return


def _of_bits(model: Model, step: str, bits: int, keep_zeros: bool) -> Model:
    """Grids hold zero in any case."""
    return share(model, centers=2**bits, keep_zeros=keep_zeros) if step == "share" else on_grids(model, bits=bits)
