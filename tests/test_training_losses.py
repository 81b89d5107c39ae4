"""Losses against torch's own, their common gradient, and how parts of a batch add up."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from resfit.training.losses import distillation_loss, hint_loss, image_losses, mean_loss, soft_targets

LOSSES = ("cross_entropy", "bce", "mse")


def _case(seed: int, count: int = 6, classes: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64)
    targets, partners = (torch.randint(classes, (count,), generator=generator) for _ in range(2))
    return logits, targets, partners, torch.rand(count, generator=generator)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_soft_targets_are_probabilities(seed, smoothing):
    _, targets, partners, shares = _case(seed)
    soft = soft_targets(targets, 4, smoothing=smoothing, partners=partners, shares=shares, dtype=torch.float64)
    torch.testing.assert_close(soft.sum(1), torch.ones(6, dtype=torch.float64))
    assert soft.min() >= smoothing / 4 - 1e-9


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(0, 0.9))
def test_cross_entropy_is_torch_s(seed, smoothing):
    logits, targets, partners, shares = _case(seed)
    expected = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
    torch.testing.assert_close(mean_loss("cross_entropy", logits, targets, smoothing=smoothing), expected)
    # A mixed target is the mixed loss, as mixup (Zhang et al. 2018) has it
    first, second = (
        functional.cross_entropy(logits, t, label_smoothing=smoothing, reduction="none") for t in (targets, partners)
    )
    mixed = (shares * first + (1 - shares) * second).mean()
    found = mean_loss("cross_entropy", logits, targets, smoothing=smoothing, partners=partners, shares=shares)
    torch.testing.assert_close(found, mixed)


def test_bce_and_mse_by_hand():
    logits, targets = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([2])
    one_hot = torch.tensor([[0.0, 0.0, 1.0]])
    torch.testing.assert_close(
        mean_loss("bce", logits, targets), 3 * functional.binary_cross_entropy_with_logits(logits, one_hot)
    )
    torch.testing.assert_close(mean_loss("mse", logits, targets), torch.tensor(0.5 * (4 + 1 + 0.25)))


@pytest.mark.parametrize(
    ("loss", "answer"), [("cross_entropy", lambda z: z.softmax(1)), ("bce", torch.sigmoid), ("mse", lambda z: z)]
)
def test_the_gradient_is_answer_less_target(loss, answer):
    logits, targets, partners, shares = _case(3)
    logits.requires_grad_()
    image_losses(loss, logits, targets, smoothing=0.1, partners=partners, shares=shares).sum().backward()
    soft = soft_targets(targets, 4, smoothing=0.1, partners=partners, shares=shares, dtype=torch.float64)
    torch.testing.assert_close(logits.grad, answer(logits.detach()) - soft)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("mixed", [False, True])
def test_parts_of_a_batch_add_up_with_class_weights(loss, mixed):
    logits, targets, partners, shares = _case(5)
    weights = torch.tensor([0.2, 3.0, 1.0, 0.7])
    more = {"partners": partners, "shares": shares} if mixed else {}
    whole = mean_loss(loss, logits, targets, class_weights=weights, **more)
    parts = [
        len(targets[cut])
        / 6
        * mean_loss(loss, logits[cut], targets[cut], class_weights=weights, **{k: v[cut] for k, v in more.items()})
        for cut in (slice(0, 4), slice(4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)
    assert not torch.isclose(whole, mean_loss(loss, logits, targets, **more))


def test_class_weights_scale_each_image_s_loss():
    logits, targets, _, _ = _case(7)
    weights = torch.tensor([2.0, 2.0, 2.0, 2.0])
    torch.testing.assert_close(
        mean_loss("cross_entropy", logits, targets, class_weights=weights),
        2 * mean_loss("cross_entropy", logits, targets),
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(0.5, 20))
def test_distillation_is_zero_only_where_answers_agree(seed, temperature):
    logits, _, _, _ = _case(seed)
    taught = _case(seed + 1)[0]
    assert distillation_loss(logits, logits + 3.0, temperature).abs() < 1e-9  # a constant changes no answer
    assert distillation_loss(logits, taught, temperature) > 0


def test_distillation_s_gradient_keeps_its_size_at_high_temperature():
    sizes = []
    for temperature in (20.0, 200.0):
        logits, taught = _case(1)[0].requires_grad_(), _case(2)[0]
        distillation_loss(logits, taught, temperature).backward()
        sizes.append(logits.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


def test_hints_are_relative_squares_of_the_stages_alike():
    torch.manual_seed(0)
    wanted = {"conv1": torch.ones(2, 3, 4, 4), "layer1": torch.randn(2, 3, 4, 4), "layer2": torch.randn(2, 5, 2, 2)}
    ours = {name: 1.5 * tensor for name, tensor in wanted.items()}
    assert hint_loss(wanted, wanted) == 0
    torch.testing.assert_close(hint_loss(ours, wanted), torch.tensor(0.5))  # a quarter of each of two stages
    torch.testing.assert_close(hint_loss({**ours, "layer2": torch.ones(2, 4, 2, 2)}, wanted), torch.tensor(0.25))
    assert torch.isfinite(hint_loss(ours, {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}))
