"""A teacher: whom it can teach, and that its answers are the model's own whatever the order of its classes."""

import dataclasses

import numpy as np
import pytest
import torch
from small_models import small_model, small_spec

from resfit.data.dataset import ArrayDataset, Splits
from resfit.errors import UsageError
from resfit.model.model import Model, Provenance, weights_sha256
from resfit.nn.architectures import architecture
from resfit.training.distillation import Teacher, hinting_stages
from resfit.training.loop import train
from resfit.training.recipe import Recipe
from resfit.training.step import InputLayer

LABELS = ("class 0", "class 1", "class 2")


@pytest.fixture(scope="module")
def model() -> Model:
    return small_model(small_spec())


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def test_it_answers_as_the_model_does_by_its_own_normalisation(model):
    ours = dataclasses.replace(model.preprocessing, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    teacher = Teacher(model, preprocessing=ours, labels=LABELS)
    expected = model.module()(InputLayer(model.preprocessing, "contiguous")(_images()))
    torch.testing.assert_close(teacher(_images()), expected, rtol=1e-4, atol=1e-5)
    assert not teacher(_images()).requires_grad
    assert teacher.sha256 == weights_sha256(model)
    assert teacher.spec == model.spec


def test_its_answers_come_in_the_order_of_the_data_s_labels(model):
    straight = Teacher(model, preprocessing=model.preprocessing, labels=LABELS)(_images())
    turned = Teacher(model, preprocessing=model.preprocessing, labels=LABELS[::-1])(_images())
    torch.testing.assert_close(turned, straight.flip(1))


def test_whom_it_cannot_teach_is_said(model):
    size = dataclasses.replace(model.preprocessing, height=32, width=32)
    with pytest.raises(UsageError, match="height 16, and the training has 32"):
        Teacher(model, preprocessing=size, labels=LABELS)
    with pytest.raises(UsageError, match="classes are not the data's 3: only one of them has cat"):
        Teacher(model, preprocessing=model.preprocessing, labels=("class 0", "class 1", "cat"))
    with pytest.raises(UsageError, match="classes are not the data's 2"):
        Teacher(model, preprocessing=model.preprocessing, labels=LABELS[:2])
    untrained = dataclasses.replace(model, provenance=Provenance(trained=False, source="test"))
    with pytest.raises(UsageError, match="untrained"):
        Teacher(untrained, preprocessing=model.preprocessing, labels=LABELS)


def test_a_double_teaches_too(model):
    double = small_model(small_spec(), dtype=torch.float64)
    answers = Teacher(double, preprocessing=double.preprocessing, labels=LABELS)(_images())
    assert answers.dtype == torch.float32
    torch.testing.assert_close(
        answers, Teacher(model, preprocessing=model.preprocessing, labels=LABELS)(_images()), rtol=1e-3, atol=1e-4
    )


def test_hints_are_of_stages_whose_maps_have_one_shape():
    spec = small_spec()
    count = len(spec.depths)
    assert hinting_stages(spec, spec) == tuple(range(count))
    narrower = dataclasses.replace(spec, widths=(*spec.widths[:-1], spec.widths[-1] * 2))
    assert hinting_stages(narrower, spec) == tuple(range(count - 1))
    coarser = dataclasses.replace(spec, strides=(2, *spec.strides[1:]))
    assert hinting_stages(coarser, spec) == ()
    assert hinting_stages(architecture("resnet18"), architecture("resnet32")) == ()


def test_hints_without_such_a_stage_are_refused(model):
    teacher = Teacher(model, preprocessing=model.preprocessing, labels=LABELS)
    images = ArrayDataset(images=_images(), targets=np.arange(5) % 3, labels=LABELS)
    splits = Splits(
        train=images, validation=images, test=None, labels=LABELS, sources={}, preprocessing=model.preprocessing
    )
    other = dataclasses.replace(model.spec, strides=(2, *model.spec.strides[1:]))
    recipe = Recipe(steps=1, batch_size=4, distill_weight=0.5, hint_weight=1.0, threads=1)
    with pytest.raises(UsageError, match="no stage has maps of the shape of the teacher's"):
        train(other, splits, recipe, teacher=teacher)
