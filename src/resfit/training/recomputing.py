"""Activation checkpointing (Chen et al. 2016): a block's activations are computed again when they are needed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resfit.nn.resnet import Residual, Taps
from resfit.training.weight_rules import Forward


def recomputing(network: nn.Module) -> Forward:
    """The network's forward pass, keeping of each residual block only its input for the backward pass.

    Weights and running statistics become what they would be with all kept, bit for bit.
    """

    def forward(x: Tensor, taps: Taps | None = None) -> Tensor:
        for name, part in network.named_children():
            blocks = list(part) if isinstance(part, nn.Sequential) else []
            if any(isinstance(block, Residual) for block in blocks):
                for block in blocks:
                    x = checkpoint(block, x, use_reentrant=False, context_fn=_contexts(block))
            else:
                x = part(x)
            if taps is not None:
                taps[name] = x
        return x

    return forward


def _contexts(block: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """What surrounds a block's first and second forward pass."""
    return lambda: (nullcontext(), _statistics_stay(block))


@contextmanager
def _statistics_stay(block: nn.Module) -> Iterator[None]:
    """Within it batch norm does not count a batch into its running statistics, as it has done so once."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    counted = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, kept, counted, strict=True):
            norm.momentum = momentum
            if count is not None:
                count.sub_(1)
