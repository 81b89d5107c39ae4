"""One step: what each field of the recipe changes in it, what it leaves alone, and how it goes on from its state."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from small_models import small_model, small_spec

from resfit.data.batches import Batch
from resfit.data.preprocessing import Preprocessing
from resfit.errors import UsageError
from resfit.nn.resnet import ResNet
from resfit.training.losses import hint_loss
from resfit.training.recipe import Recipe
from resfit.training.step import LEAST_SCALE, InputLayer, NotFinite, TrainingStep, first_not_finite, micro_batches

SIDE, CLASSES = 8, 3
SPEC = small_spec(in_channels=1)
PREPROCESSING = Preprocessing(height=SIDE, width=SIDE, channels=1, mean=(0.5,), std=(0.25,))
PLAIN = Recipe(batch_size=12, precision="fp32", memory_format="contiguous", compile="eager", lr=0.05)


def _batch(count: int = 12, seed: int = 0, mixed: bool = False) -> Batch:
    chance = np.random.default_rng(seed)
    return Batch(
        images=chance.integers(0, 256, (count, SIDE, SIDE, 1), dtype=np.uint8),
        targets=chance.integers(0, CLASSES, count),
        indices=np.arange(count),
        step=0,
        partners=chance.integers(0, CLASSES, count) if mixed else None,
        shares=chance.random(count, dtype=np.float32) if mixed else None,
    )


def _trained(recipe: Recipe, *, steps: int = 3, spec=SPEC, mixed: bool = False, **options):
    """The state after some steps, and their losses."""
    torch.manual_seed(0)
    network = ResNet(spec).train()
    take_step = TrainingStep(network, recipe, **options)
    input_layer = InputLayer(PREPROCESSING, recipe.memory_format)
    losses = []
    for step in range(steps):
        torch.manual_seed(step)
        losses.append(take_step(_batch(seed=step, mixed=mixed), input_layer, recipe.lr))
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}, losses


def _same(first, second) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def _distance(first, second) -> float:
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


@pytest.fixture(scope="module")
def plain():
    return _trained(PLAIN)[0]


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adam"}, {"optimizer": "adamw"}, {"optimizer": "rmsprop"}, {"optimizer": "adagrad"},
        {"optimizer": "muon"},
        {"momentum": 0.5}, {"nesterov": False}, {"weight_decay": 0.1}, {"decay_norms": True}, {"l1": 0.01},
        {"loss": "bce"}, {"loss": "mse"}, {"label_smoothing": 0.2}, {"clip_norm": 0.1}, {"clip_value": 0.001},
        {"clip_weights": 0.05}, {"max_norm": 0.5}, {"micro_batch": 4}, {"precision": "bf16"}, {"precision": "fp16"},
        {"precision": "fp64"},
    ],
    ids=str,
)  # fmt: skip
def test_each_value_of_the_recipe_changes_the_weights(plain, change):
    recipe = dataclasses.replace(PLAIN, **change)
    state, losses = _trained(recipe)
    assert not _same(plain, state)
    assert all(math.isfinite(loss) for loss in losses)
    assert _same(state, _trained(recipe)[0])


def test_a_known_update_by_hand():
    recipe = dataclasses.replace(PLAIN, momentum=0.0, weight_decay=0.01)
    torch.manual_seed(0)
    network = ResNet(SPEC).train()
    reference = copy.deepcopy(network)
    batch, input_layer = _batch(), InputLayer(PREPROCESSING, "contiguous")
    loss = TrainingStep(network, recipe)(batch, input_layer, 0.1)
    expected = torch.nn.functional.cross_entropy(reference(input_layer(batch.images)), torch.from_numpy(batch.targets))
    expected.backward()
    assert loss == expected.item()
    weight, before = network.fc.weight, reference.fc.weight
    torch.testing.assert_close(weight, before - 0.1 * (before.grad + 0.01 * before))
    torch.testing.assert_close(network.fc.bias, reference.fc.bias - 0.1 * reference.fc.bias.grad)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_parts_of_a_batch_are_the_whole_where_no_norm_counts_images(precision):
    spec = dataclasses.replace(SPEC, norm="group")
    recipe = dataclasses.replace(PLAIN, precision=precision)
    whole, losses = _trained(recipe, spec=spec, mixed=True)
    for size in (2, 5, 12, 100):
        parts, of_parts = _trained(dataclasses.replace(recipe, micro_batch=size), spec=spec, mixed=True)
        limit = 1e-4 if precision == "fp32" else 1e-12
        assert _distance(whole, parts) < limit
        assert of_parts == pytest.approx(losses, rel=1e-4 if precision == "fp32" else 1e-12)


def test_batch_norm_sees_each_part_alone():
    parts = _trained(dataclasses.replace(PLAIN, micro_batch=4), steps=1)[0]
    assert parts["bn1.num_batches_tracked"] == 3


@pytest.mark.parametrize("size", [None, 1, 2, 5, 7, 12, 13])
def test_micro_batches_hold_every_image_once(size):
    batch = _batch(12, mixed=True)
    parts = list(micro_batches(batch, size))
    assert [index for part in parts for index in part.indices] == list(range(12))
    for name in ("images", "targets", "partners", "shares"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(batch, name))
    counts = [len(part.targets) for part in parts]
    assert max(counts) <= (size or 12)
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    "spec", [SPEC, dataclasses.replace(SPEC, order="pre", dropout=0.3, drop_path=0.3, stem="deep")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputed_activations_change_no_bit(spec, precision):
    recipe = dataclasses.replace(PLAIN, precision=precision, micro_batch=6)
    kept, _ = _trained(recipe, spec=spec)
    again, _ = _trained(dataclasses.replace(recipe, activation_checkpointing=True), spec=spec)
    assert _same(kept, again)


def test_recomputing_keeps_fewer_activations():
    sizes = []
    for recomputes in (False, True):
        network = ResNet(dataclasses.replace(SPEC, depths=(3, 3))).train()
        take_step = TrainingStep(network, dataclasses.replace(PLAIN, activation_checkpointing=recomputes))
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            take_step._forward(InputLayer(PREPROCESSING, "contiguous")(_batch().images))
        sizes.append(sum(kept))
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp64"])
def test_every_precision_is_near_double(precision):
    exact, losses = _trained(dataclasses.replace(PLAIN, precision="fp64"), steps=1)
    state, found = _trained(dataclasses.replace(PLAIN, precision=precision), steps=1)
    limit = {"fp64": 0, "fp32": 1e-5, "fp16": 0.02, "bf16": 0.1}[precision]
    assert _distance(exact, state) <= limit
    assert found == pytest.approx(losses, abs=limit)
    assert state["conv1.weight"].dtype == (torch.float64 if precision == "fp64" else torch.float32)


def test_double_precision_is_double_from_the_pixels_on():
    inputs = InputLayer(PREPROCESSING, "contiguous")(np.full((1, 8, 8, 1), 77, np.uint8), torch.float64)
    assert inputs.dtype == torch.float64
    assert abs(inputs[0, 0, 0, 0].item() - (77 / 255 - 0.5) / 0.25) < 1e-15


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop", "adagrad", "muon"])
def test_a_step_goes_on_from_its_state(precision, optimizer):
    recipe = dataclasses.replace(PLAIN, precision=precision, optimizer=optimizer)
    input_layer = InputLayer(PREPROCESSING, "contiguous")
    torch.manual_seed(0)
    whole = ResNet(SPEC).train()
    take_step = TrainingStep(whole, recipe)
    for step in range(2):
        take_step(_batch(seed=step), input_layer, 0.01)
    torch.manual_seed(9)
    resumed = ResNet(SPEC).train()
    goes_on = TrainingStep(resumed, recipe)
    resumed.load_state_dict(whole.state_dict())
    goes_on.load_state_dict(copy.deepcopy(take_step.state_dict()))
    for continued in (take_step, goes_on):
        continued(_batch(seed=2), input_layer, 0.01)
    assert _same(whole.state_dict(), resumed.state_dict())


def test_fp16_scales_its_loss_and_skips_what_overflows():
    recipe = dataclasses.replace(PLAIN, precision="fp16")
    torch.manual_seed(0)
    network = ResNet(SPEC).train()
    take_step = TrainingStep(network, recipe)
    assert take_step.scaler.get_scale() > 1
    take_step.scaler.load_state_dict({**take_step.scaler.state_dict(), "scale": 2.0**40})
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    take_step(_batch(), InputLayer(PREPROCESSING, "contiguous"), 0.1)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    assert take_step.scaler.get_scale() == 2.0**39
    assert not take_step.optimizer.state  # a momentum made now would hold whatever the memory held


def test_class_weights_and_mixing_count():
    weights = np.array([0.1, 1.0, 5.0], dtype=np.float32)
    recipe = dataclasses.replace(PLAIN, balance="weights")
    balanced = _trained(recipe, class_weights=weights)[0]
    even = _trained(recipe, class_weights=np.ones(3, dtype=np.float32))[0]
    assert not _same(balanced, even)
    assert _distance(even, _trained(PLAIN)[0]) < 1e-5
    assert not _same(_trained(PLAIN, mixed=True)[0], _trained(PLAIN)[0])


def test_a_teacher_pulls_its_pupil_to_its_answers():
    recipe = dataclasses.replace(PLAIN, distill_weight=1.0, distill_temperature=2.0, weight_decay=0.0)
    certain = torch.tensor([[0.0, 9.0, 0.0]])
    torch.manual_seed(0)
    network = ResNet(SPEC).train()
    take_step = TrainingStep(network, recipe, teacher=lambda images, _maps: certain.expand(len(images), 3))
    input_layer = InputLayer(PREPROCESSING, "contiguous")
    losses = [take_step(_batch(), input_layer, 0.05) for _ in range(15)]
    assert losses[-1] < 0.2 * losses[0]
    assert (network(input_layer(_batch().images)).argmax(1) == 1).all()


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    other, input_layer = ResNet(SPEC).eval(), InputLayer(PREPROCESSING, "contiguous")

    @torch.no_grad()
    def answers(images, taps=None):
        return other(input_layer(images), taps)

    return answers


@pytest.mark.parametrize("values", [{}, {"activation_checkpointing": True}, {"precision": "bf16"}], ids=str)
def test_hints_pull_the_stages_to_the_teacher_s(teacher, values):
    input_layer = InputLayer(PREPROCESSING, "contiguous")

    def distance(recipe):
        torch.manual_seed(0)
        network = ResNet(SPEC).train()
        take_step = TrainingStep(network, recipe, teacher=teacher)
        for _ in range(15):
            take_step(_batch(), input_layer, 0.02)
        ours, theirs = {}, {}
        network(input_layer(_batch().images), ours)
        teacher(_batch().images, theirs)
        return hint_loss(ours, theirs).item()

    plain = dataclasses.replace(PLAIN, distill_weight=0.1, weight_decay=0.0, **values)
    assert distance(dataclasses.replace(plain, hint_weight=3.0)) < 0.7 * distance(plain)


def test_the_teacher_may_answer_to_an_image_and_its_mirror_image_together(teacher):
    input_layer = InputLayer(PREPROCESSING, "contiguous")

    def loss(answers, **values):
        torch.manual_seed(0)
        recipe = dataclasses.replace(PLAIN, distill_weight=0.5, **values)
        return TrainingStep(ResNet(SPEC).train(), recipe, teacher=answers)(_batch(), input_layer, 0.02)

    def both(images, taps=None):  # noqa: ARG001
        return (teacher(images) + teacher(np.flip(images, axis=2))) / 2

    assert loss(teacher, distill_mirrored=True) == loss(both)
    assert loss(both) != loss(teacher)


def test_hints_fall_with_the_rate(teacher):
    input_layer = InputLayer(PREPROCESSING, "contiguous")

    def loss(lr, hint_weight):
        torch.manual_seed(0)
        recipe = dataclasses.replace(PLAIN, distill_weight=0.5, hint_weight=hint_weight)
        return TrainingStep(ResNet(SPEC).train(), recipe, teacher=teacher)(_batch(), input_layer, lr)

    bare, whole, half = (loss(*values) for values in ((0.05, 0.0), (0.05, 3.0), (0.025, 3.0)))
    assert whole > bare
    assert half - bare == pytest.approx((whole - bare) / 2, rel=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_teacher_answers_in_the_precision_of_the_training(precision):
    seen = []

    def teacher(images, _maps=None):
        seen.append(torch.is_autocast_enabled("cpu"))
        return torch.zeros(len(images), 3)

    recipe = dataclasses.replace(PLAIN, precision=precision, distill_weight=0.5)
    TrainingStep(ResNet(SPEC), recipe, teacher=teacher)(_batch(), InputLayer(PREPROCESSING, "contiguous"), 0.1)
    assert seen == [precision == "bf16"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"distill_weight": 0.5}, {}, "there is no teacher"),
        ({}, {"teacher": lambda images: images}, "there is a teacher"),
        ({"balance": "weights"}, {}, "class weights"),
        ({}, {"class_weights": np.ones(3, np.float32)}, "class weights"),
    ],
)
def test_what_the_recipe_needs_must_be_there(change, options, message):
    with pytest.raises(UsageError, match=message):
        TrainingStep(ResNet(SPEC), dataclasses.replace(PLAIN, **change), **options)


def test_a_loss_that_is_no_number_updates_nothing():
    network = ResNet(SPEC).train()
    take_step = TrainingStep(network, PLAIN)
    network.fc.bias.data[0] = math.nan
    before = {name: p.detach().clone() for name, p in network.named_parameters() if name != "fc.bias"}
    with pytest.raises(NotFinite, match=r"fc\.bias is not finite"):
        take_step(_batch(), InputLayer(PREPROCESSING, "contiguous"), 0.1)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters() if name in before)
    network.fc.bias.data[0] = 0.0
    huge = dataclasses.replace(PREPROCESSING, std=(1e-38,), mean=(0.9,))
    with pytest.raises(NotFinite, match="the loss became nan"):
        take_step(_batch(), InputLayer(huge, "contiguous"), 0.1)


def test_a_gradient_that_is_no_number_is_named_and_updates_nothing():
    network = ResNet(SPEC).train()
    take_step = TrainingStep(network, PLAIN)
    network.fc.weight.register_hook(lambda gradient: gradient * math.inf)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    with pytest.raises(NotFinite, match=r"the gradient of fc\.weight is not finite"):
        take_step(_batch(), InputLayer(PREPROCESSING, "contiguous"), 0.1)
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())
    assert all(p.grad is None for p in network.parameters())


def test_fp16_gives_up_on_a_gradient_no_scale_helps():
    network = ResNet(SPEC).train()
    take_step = TrainingStep(network, dataclasses.replace(PLAIN, precision="fp16"))
    network.fc.weight.register_hook(lambda gradient: gradient * math.inf)
    input_layer, scales = InputLayer(PREPROCESSING, "contiguous"), []
    while take_step.scaler.get_scale() > LEAST_SCALE:
        take_step(_batch(), input_layer, 0.1)
        scales.append(take_step.scaler.get_scale())
    assert scales[0] == 2.0**15
    with pytest.raises(NotFinite, match=r"fc\.weight"):
        take_step(_batch(), input_layer, 0.1)


def test_first_not_finite_names_it():
    named = {"a": torch.ones(2), "b": torch.tensor([1.0, math.inf]), "c": torch.tensor([math.nan])}
    assert first_not_finite(named.items()) == "b"
    assert first_not_finite([("a", torch.ones(2)), ("n", torch.tensor(3))]) is None


def test_weights_are_limited_after_each_update():
    state, _ = _trained(dataclasses.replace(PLAIN, clip_weights=0.03))
    assert state["conv1.weight"].abs().max() <= 0.03
    assert state["bn1.weight"].abs().max() > 0.5  # norms are left alone
    state, _ = _trained(dataclasses.replace(PLAIN, max_norm=0.4))
    assert state["fc.weight"].norm(dim=1).max() <= 0.4001


def test_the_published_double_is_a_float():
    from resfit.training.step import published_network

    network = small_model(SPEC, dtype=torch.float64).module()
    published = published_network(network, None)
    assert {p.dtype for p in published.parameters()} == {torch.float32}
    torch.testing.assert_close(published.fc.weight, network.fc.weight.float())
