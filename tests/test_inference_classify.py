"""The script beside an artifact, run as its user runs it: without resfit and torch."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from image_files import grey_tiff
from PIL import Image
from small_models import small_model, small_spec

from resfit.engines.artifact import build, open_session
from resfit.errors import UsageError
from resfit.inference.classify import classify_script, write_classify_script
from resfit.inference.inputs import file_picture
from resfit.inference.predict import predict_rows

# Runs a script with every import of resfit, torch and onnx failing, as where they are not installed.
WITHOUT = """
import importlib.abc, runpy, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_script(script, *pictures, packages=("resfit", "torch", "onnx")):
    command = [sys.executable, "-I", "-c", WITHOUT.format(packages=packages), str(script), *map(str, pictures)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module", params=[3, 1], ids=["RGB", "grey"])
def script(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    artifact = build(small_model(small_spec(in_channels=request.param)), folder / "model.onnx")
    return write_classify_script(artifact.path)


@pytest.fixture(scope="module", params=["letterbox", "squash"])
def fitted_script(request, tmp_path_factory):
    """The script beside a model that brings pictures to its size in another way than by cropping."""
    folder = tmp_path_factory.mktemp("fitted")
    model = small_model(small_spec())
    preprocessing = dataclasses.replace(model.preprocessing, fit=request.param)
    return write_classify_script(build(dataclasses.replace(model, preprocessing=preprocessing), folder / "m.onnx").path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """One picture of every kind that needs care: sizes, orientation, alpha, palettes, 16 bits."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (21, 34, 4), dtype=np.uint8)
    colour = Image.fromarray(noise[..., :3]).resize((68, 42))
    paletted = colour.quantize(16)
    paletted.info["transparency"] = 3
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    colour.save(folder / "turned.jpg", exif=exif)
    colour.save(folder / "wide.png")
    colour.resize((16, 16)).save(folder / "of the network's size.png")
    colour.rotate(90, expand=True).convert("L").save(folder / "tall grey.png")
    Image.fromarray(noise).save(folder / "alpha.png")
    paletted.save(folder / "palette.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "sixteen bits.png")
    colour.convert("CMYK").save(folder / "printed.jpg", quality=95)
    colour.save(folder / "turned.tif", exif=exif)
    (folder / "twelve bits.tif").write_bytes(grey_tiff(noise[..., 0].ravel()[:64].astype(int) * 16, bits=12))
    (folder / "white is zero.tif").write_bytes(
        grey_tiff(noise[..., 0].ravel()[:64].astype(int) * 256, bits=16, photometric=0)
    )
    return sorted(folder.iterdir())


def test_it_says_what_resfit_says(script, pictures):
    done = run_script(script, *pictures)
    assert done.returncode == 0, done.stderr
    rows = predict_rows(open_session(script.with_name("model.onnx")), map(file_picture, pictures))
    expected = [f"{row['path']}: {row['label']} ({row['probability']:.1%})" for row in rows]
    assert done.stdout.splitlines() == expected
    assert len(expected) == 11


def test_it_fits_pictures_as_the_model_does(fitted_script, pictures):
    done = run_script(fitted_script, *pictures)
    rows = predict_rows(open_session(fitted_script.with_name("m.onnx")), map(file_picture, pictures))
    assert done.stdout.splitlines() == [f"{row['path']}: {row['label']} ({row['probability']:.1%})" for row in rows]
    assert len(done.stdout.splitlines()) == len(pictures)


def test_it_agrees_on_real_photographs(script, shared):
    photographs = sorted((shared / "jpegs").glob("*.JPEG"))[:5]
    rows = predict_rows(open_session(script.with_name("model.onnx")), map(file_picture, photographs))
    expected = [f"{row['path']}: {row['label']} ({row['probability']:.1%})" for row in rows]
    assert run_script(script, *photographs).stdout.splitlines() == expected


def test_a_bad_picture_is_named_and_the_others_are_classified(script, pictures, tmp_path):
    (tmp_path / "empty.jpg").touch()
    done = run_script(script, tmp_path / "empty.jpg", pictures[0], tmp_path / "absent.jpg")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [
        str(tmp_path / "empty.jpg"),
        str(tmp_path / "absent.jpg"),
    ]


def test_without_pictures_it_says_how_it_is_used(script):
    done = run_script(script)
    assert done.returncode == 2
    assert "python classify.py PICTURE.jpg" in done.stderr


def test_without_its_model_it_says_which_file_is_missing(tmp_path, pictures):
    script = write_classify_script(tmp_path / "model.onnx")
    done = run_script(script, pictures[0])
    assert done.returncode == 2
    assert "model.onnx is missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_package_it_says_what_to_install(script, pictures):
    done = run_script(script, pictures[0], packages=("onnxruntime",))
    assert done.returncode == 1
    assert done.stderr.strip() == "onnxruntime is not installed; run: pip install numpy pillow onnxruntime"


def test_it_is_short_and_names_are_not_put_into_it_unchecked():
    assert len(classify_script("model.onnx").splitlines()) < 70
    with pytest.raises(UsageError, match="cannot be the model file"):
        classify_script('x"; import os; ".onnx')
