"""What learns when a network starts from another's weights: the classifier first, and layers at rates of their own."""

from torch import nn

from resfit.nn.resnet import Residual

CLASSIFIER = "fc"


def begin_epoch(network: nn.Module, *, frozen: bool) -> None:
    """Puts the network into training mode; of a frozen one the classifier alone.

    A frozen part takes no gradients, and its batch norms answer by the statistics they came with and keep them.
    """
    network.train()
    for name, part in network.named_children():
        learns = not frozen or name == CLASSIFIER
        part.train(learns)
        part.requires_grad_(learns)


def layers(network: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters from the input to the logits: the stem's, each residual block's, those after the last block."""
    found: list[list[nn.Parameter]] = [[]]
    after = False
    for part in network.children():
        blocks = [block for block in part.children() if isinstance(block, Residual)]
        if blocks:
            found += [list(block.parameters()) for block in blocks]
            after = True
        elif after:
            found.append(list(part.parameters()))
            after = False
        else:
            found[-1] += part.parameters()
    return found


def rate_factors(count: int, decay: float) -> list[float]:
    """What the rate of each of so many layers is multiplied by: 1 for the last, and `decay` more for each before it.

    Layer-wise decay as of Clark et al. 2020 (ELECTRA), with a residual block as a layer.
    """
    return [decay ** (count - 1 - index) for index in range(count)]
