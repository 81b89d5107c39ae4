"""Whose a model folder is, and that what is exported for others is read back the same."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_folders import huggingface_files, timm_files, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_models import small_model, small_spec

import resfit
from resfit.engines.huggingface_folder import write_huggingface_folder
from resfit.engines.timm_folder import write_timm_folder
from resfit.errors import ModelError, ResfitError, UsageError
from resfit.model.foreign_folder import HUGGINGFACE, TIMM, library_of
from resfit.model.model import Model, weights_sha256
from resfit.model.run_folder import save
from resfit.nn.spec import ResNetSpec


def four_stages(**changes: object) -> ResNetSpec:
    values: dict[str, object] = {"stem": "imagenet", "stem_width": 64}
    shape = {"depths": (1, 1, 1, 1), "widths": (16, 24, 32, 40), "strides": (1, 2, 2, 2)}
    return small_spec(**{**values, **shape, **changes})


EXPORTED = [
    (write_huggingface_folder, four_stages()),
    (write_huggingface_folder, four_stages(block="bottleneck", stride_in="1x1", strides=(2, 2, 2, 2))),
    (write_timm_folder, four_stages(activation="silu")),
    (write_timm_folder, four_stages(activation="prelu")),
    (write_timm_folder, four_stages(stem="deep", stem_width=16, shortcut="avgpool")),
]


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize(("export", "spec"), EXPORTED)
def test_an_export_is_read_back_the_same(
    tmp_path: Path, export: Callable[[Model, Path], None], spec: ResNetSpec, fit: str
) -> None:
    model = small_model(spec)
    model = dataclasses.replace(model, preprocessing=dataclasses.replace(model.preprocessing, fit=fit))
    export(model, tmp_path / "theirs")
    ours = resfit.load(tmp_path / "theirs")
    assert ours.spec == model.spec
    assert weights_sha256(ours) == weights_sha256(model)
    assert ours.labels == model.labels
    assert ours.preprocessing == model.preprocessing
    assert len(ours.provenance.notes) == 1, "nothing is done otherwise, so nothing but the network is said"


def test_whose_a_folder_is(tmp_path: Path) -> None:
    model = small_model(small_spec(stem="imagenet", stem_width=8))
    assert library_of(write(tmp_path / "a", huggingface_files(model))) == HUGGINGFACE
    assert library_of(write(tmp_path / "b", timm_files(model))) == TIMM
    save(model, tmp_path / "c")
    assert library_of(tmp_path / "c") is None
    assert library_of(tmp_path) is None
    for number, content in enumerate((b"{", b"[" * 100_000, b"[]", b"{}", b'{"architecture": 7}', b"\xff")):
        assert library_of(write(tmp_path / str(number), {"config.json": content})) is None


def test_a_folder_of_nobodys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="schema version None"):
        resfit.load(write(tmp_path / "strange", {"config.json": json.dumps({"layers": 3}).encode()}))
    with pytest.raises(UsageError, match="holds no model"):
        resfit.load(write(tmp_path / "empty", {"README.md": b""}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MODEL = small_model(small_spec(stem="imagenet", stem_width=8))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_description_says_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    files = data.draw(st.sampled_from([huggingface_files, timm_files]))(MODEL)
    name = data.draw(st.sampled_from(sorted(file for file in files if file.endswith(".json"))))
    values = json.loads(files[name])
    place = values["pretrained_cfg"] if "pretrained_cfg" in values and data.draw(st.booleans()) else values
    known = [*place, "model_args", "global_pool", "do_rescale", "rescale_factor", "crop_size", "do_center_crop"]
    place[data.draw(st.sampled_from(known))] = data.draw(VALUES)
    files[name] = json.dumps(values).encode()
    folder = write(tmp_path / "theirs", files)
    try:
        said, classes = None, len(resfit.load(folder).labels)
    except ResfitError as error:
        said, classes = error.message, 0
    assert classes == 3 if said is None else "theirs" in said
