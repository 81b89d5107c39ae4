"""Compiled training: the same again, and resumed bit for bit."""

import pytest
import torch
from small_models import small_spec

from resfit.data.sources import open_data
from resfit.model.model import weights_sha256
from resfit.nn.resnet import ResNet
from resfit.randomness import derived_seed
from resfit.training.compiling import compiler
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.surroundings import Interrupted

SPEC = small_spec(depths=(1,), widths=(8,), strides=(1,), in_channels=1, num_classes=10, dropout=0.2, drop_path=0.2)
RECIPE = Recipe(
    steps=12, batch_size=64, precision="fp32", memory_format="channels_last", compile="compiled", threads=1,
    ema_decay=0.9, lr=0.05,
)  # fmt: skip


def test_compiled_training_is_resumed_bit_for_bit(tmp_path):
    assert compiler() is not None, "this test needs g++ and the headers of Python"
    digits = open_data("digits")
    whole = train(SPEC, digits, RECIPE)
    assert whole.recipe.compile == "compiled"
    with pytest.raises(Interrupted):
        train(SPEC, digits, RECIPE, folder=tmp_path, stop_after_step=7)
    torch._dynamo.reset()  # as a new process, which compiles anew
    resumed = train(SPEC, digits, folder=tmp_path, resume=True)
    assert weights_sha256(resumed.model) == weights_sha256(whole.model)
    assert resumed.history[-1]["loss"] == whole.history[-1]["loss"]
    torch.manual_seed(derived_seed(RECIPE.seed, "init"))
    start = ResNet(SPEC).state_dict()
    # The compiled code trains the network's own weights, not a copy of them
    assert not torch.equal(whole.model.weights["conv1.weight"], start["conv1.weight"])
