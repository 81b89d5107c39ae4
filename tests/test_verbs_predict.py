"""`resfit predict`, from the command line and from Python."""

import json

import pytest
from PIL import Image
from small_models import small_model, small_spec

import resfit
from resfit.cli import main
from resfit.engines.artifact import build
from resfit.errors import UsageError
from resfit.model.run_folder import save


@pytest.fixture
def run(tmp_path):
    save(small_model(small_spec()), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("blue.png", (0, 0, 255)), ("red.jpg", (255, 0, 0))):
        Image.new("RGB", (40, 30), colour).save(folder / name)
    return folder


def test_json_has_a_row_for_each_picture(run, pictures, capsys):
    assert main(["predict", str(run), str(pictures / "red.jpg"), str(pictures), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["path"] for row in result["predictions"]] == [
        str(pictures / "red.jpg"),
        str(pictures / "blue.png"),
    ]
    for row in result["predictions"]:
        assert row["label"] in ("class 0", "class 1", "class 2")
        assert 0 < row["probability"] <= 1
    assert (result["num_images"], result["failed"], result["trained"]) == (2, 0, True)


def test_python_gives_what_json_prints(run, pictures, capsys):
    main(["predict", str(run), str(pictures), "--json"])
    assert resfit.predict(str(run), [str(pictures)]) == json.loads(capsys.readouterr().out)
    assert resfit.predict(str(run), str(pictures))["num_images"] == 2


def test_a_bad_picture_fails_the_command_and_not_the_others(run, pictures, capsys):
    (pictures / "cut.jpg").write_bytes((pictures / "red.jpg").read_bytes()[:100])
    assert main(["predict", str(run), str(pictures), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["failed"] == 1
    assert ["error" in row for row in result["predictions"]] == [False, True, False]


def test_a_person_sees_path_probability_and_label(run, pictures, capsys):
    (pictures / "cut.jpg").write_bytes(b"")
    assert main(["predict", str(run), str(pictures), "--top-k", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + 2 + 1
    assert lines[0].startswith(str(pictures / "blue.png"))
    assert "%  class " in lines[0]
    assert lines[1].startswith(" ")
    assert lines[2].endswith("cannot be read: cannot be decoded (the file is empty)")
    assert lines[-1] == "1 of 3 images could not be read"


def test_engines_and_artifacts_agree(run, pictures, tmp_path):
    artifact = build(small_model(small_spec()), tmp_path / "model.onnx").path
    results = [
        resfit.predict(str(run), [str(pictures)]),
        resfit.predict(str(run), [str(pictures)], engine="torch"),
        resfit.predict(str(artifact), [str(pictures)], threads=1),
    ]
    assert [result["engine"] for result in results] == ["onnxruntime", "torch", "onnxruntime"]
    assert results[2]["threads"] == 1
    for result in results[1:]:
        for row, first in zip(result["predictions"], results[0]["predictions"], strict=True):
            assert row["label"] == first["label"]
            assert row["probability"] == pytest.approx(first["probability"], abs=1e-4)


def test_published_weights_know_a_real_bird(shared, capsys):
    result = resfit.predict(
        str(shared / "weights" / "resnet20-12fca82f.th"),
        [str(shared / "jpegs" / "n01558993_robin.JPEG")],
        labels=["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    )
    assert result["predictions"][0]["label"] == "bird"
    assert result["notes"]
    assert result["notes"][0] in capsys.readouterr().err


def test_untrained_weights_are_said_aloud(pictures, capsys):
    result = resfit.predict("resnet8", [str(pictures)])
    assert result["trained"] is False
    assert "untrained" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [{"batch_size": 0}, {"top_k": 0}, {"threads": -1}])
def test_counts_below_one_are_usage_errors_that_name_the_flag(run, pictures, flags):
    (name,) = flags
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} is"):
        resfit.predict(str(run), [str(pictures)], **flags)


def test_wrong_paths_end_with_exit_code_2(run, capsys):
    assert main(["predict", str(run), "no-such.jpg"]) == 2
    assert "there is no image no-such.jpg" in capsys.readouterr().err
    assert main(["predict", "no-such-run", __file__]) == 2
    assert "no-such-run" in capsys.readouterr().err
