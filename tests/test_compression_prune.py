"""Pruning to a cost: reached, at widths the hardware likes, by what matters least, the same for the same seed."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from random_models import random_images, random_model

from resfit.compression.allocation import chosen
from resfit.compression.couplings import couplings
from resfit.compression.prune import prune
from resfit.errors import BudgetNotMet, UsageError
from resfit.measure.macs import macs
from resfit.model.model import weights_sha256
from resfit.nn.architectures import architecture
from resfit.nn.spec import ResNetSpec

WIDE = ResNetSpec(depths=(2, 2), widths=(32, 64), strides=(1, 2), stem="cifar", stem_width=32, num_classes=5)
KINDS = {
    "projection": WIDE,
    "zero_pad": dataclasses.replace(WIDE, shortcut="zero_pad"),
    "pre": dataclasses.replace(WIDE, order="pre"),
    "plain": dataclasses.replace(WIDE, shortcut="none"),
    "bottleneck": dataclasses.replace(WIDE, block="bottleneck", widths=(64, 128)),
    "groups": dataclasses.replace(WIDE, block="bottleneck", widths=(64, 128), groups=4, mid_ratio=2.0),
    "squeeze_excite": dataclasses.replace(WIDE, se_ratio=0.25),
    "group_norm": dataclasses.replace(WIDE, norm="group"),
    "prelu": dataclasses.replace(WIDE, activation="prelu"),
    "bias": dataclasses.replace(WIDE, bias=True),
    "deep": dataclasses.replace(WIDE, stem="deep", shortcut="avgpool"),
}
IMAGES = random_images(random_model(WIDE), 48)


def _ratio(before, after):
    return macs(before.spec, 16, 16) / macs(after.spec, 16, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_gets_as_cheap_as_asked(kind):
    model = random_model(KINDS[kind], trained=True)
    smaller = prune(model, IMAGES, speedup=2.0, kind="magnitude")
    assert 2.0 <= _ratio(model, smaller) < 3.2
    assert smaller.spec.num_classes == 5
    widths = [*smaller.spec.widths, *(w for stage in range(2) for w in smaller.spec.inner(stage, 0))]
    assert all(width % 8 == 0 for width in widths)
    assert "pruned by magnitude" in smaller.provenance.notes[-1]
    assert torch.isfinite(smaller.module()(torch.zeros(1, 3, 16, 16))).all()


def test_a_published_network_s_widths_become_multiples():
    spec = architecture("resnet32")
    scores = np.random.default_rng(0).random(10_000)
    for multiple in (4, 8):
        removed = chosen(spec, scores, height=32, width=32, speedup=2.5, multiple=multiple)
        for coupling in couplings(spec):
            left = len(coupling.channels) - len(set(removed.get(coupling.name, ())))
            assert left % multiple == 0, coupling.name


def test_a_finer_multiple_comes_closer_to_the_cost():
    model = random_model(WIDE)
    coarse, fine = (prune(model, IMAGES, speedup=1.5, kind="magnitude", multiple=multiple) for multiple in (16, 1))
    assert 1.5 <= _ratio(model, fine) < _ratio(model, coarse)


def test_what_matters_least_goes_first():
    """The half of each branch that nobody reads: removed whole, and no answer changes."""
    model = random_model(WIDE)
    weights = {name: tensor.clone() for name, tensor in model.weights.items()}
    for stage, width in ((1, 16), (2, 32)):
        for block in range(2):
            weights[f"layer{stage}.{block}.conv2.weight"][:, :width] = 0
    silent = dataclasses.replace(model, weights=weights)
    smaller = prune(silent, IMAGES, speedup=1.6, kind="taylor")
    assert smaller.spec.widths == WIDE.widths
    inputs = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smaller.module()(inputs), silent.module()(inputs), rtol=2e-2, atol=2e-2)


def test_each_kind_and_each_seed_may_choose_otherwise():
    model = random_model(WIDE, seed=3)
    shas = {
        weights_sha256(prune(model, IMAGES, speedup=1.7, kind=kind)) for kind in ("taylor", "magnitude", "norm_scale")
    }
    assert len(shas) == 3
    again = prune(model, IMAGES, speedup=1.7)
    assert weights_sha256(again) == weights_sha256(prune(model, IMAGES, speedup=1.7))
    assert weights_sha256(again) != weights_sha256(prune(model, IMAGES, speedup=1.7, seed=1))


def test_the_input_is_left_as_it_was():
    model = random_model(WIDE)
    before = weights_sha256(model)
    prune(model, IMAGES, speedup=1.5)
    assert weights_sha256(model) == before


def test_one_image_of_one_pixel_is_enough():
    model = random_model(WIDE, side=2)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
    for count in (1, 2):
        smaller = prune(model, pictures[:count], speedup=1.5)
        assert _ratio(model, smaller) >= 1.5
        assert all(torch.isfinite(tensor).all() for tensor in smaller.weights.values())


def test_what_cannot_be_is_said_with_what_can():
    model = random_model(WIDE)
    with pytest.raises(BudgetNotMet, match=r"speedup of 1000 is out of reach: .* at most \d+\.\d\d times") as caught:
        prune(model, IMAGES, speedup=1000, kind="magnitude")
    assert caught.value.exit_code == 3
    told = re.fullmatch(
        r"ask for a speedup of at most ([\d.]+), or let widths .* less than 8 .*", str(caught.value.hint)
    )
    assert told is not None
    most = float(told[1])
    assert most <= _ratio(model, prune(model, IMAGES, speedup=most, kind="magnitude"))
    narrow = random_model(dataclasses.replace(WIDE, depths=(1, 1), widths=(8, 8), stem_width=8))
    with pytest.raises(BudgetNotMet, match=r"at most 1\.00 times less") as caught:
        prune(narrow, IMAGES, speedup=1000, kind="magnitude")
    assert str(caught.value.hint).startswith("leave the speedup out, or let widths")
    with pytest.raises(BudgetNotMet) as caught:
        prune(narrow, IMAGES, speedup=1000, kind="magnitude", multiple=1)
    assert "widths" not in str(caught.value.hint)
    for values, match in (({"speedup": 1.0}, "expected more than 1"), ({"speedup": 2.0, "multiple": 0}, "multiple is")):
        with pytest.raises(UsageError, match=match):
            prune(model, IMAGES, **values)
