"""The command line: exit codes, messages with the way out, one JSON object, quick start."""

import inspect
import json
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import resfit
from resfit import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in resfit.VERBS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[:2] == (0, f"resfit {resfit.__version__}\n")


@pytest.mark.parametrize("verb", resfit.VERBS)
def test_every_flag_is_documented(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = getattr(resfit, verb)
    hints = typing.get_type_hints(function, include_extras=True)
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    for parameter in inspect.signature(function).parameters.values():
        assert hints[parameter.name].__metadata__[0]
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert "--" + parameter.name.replace("_", "-") in out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["trian", "digits"], 2, "did you mean train"),
        (["train", "digits", "--ephocs", "3"], 2, "--epochs"),
        (["train", "digits", "--epochs", "three"], 2, "invalid int value"),
        (["train", "digits", "--epochs"], 2, "expected one argument"),
        (["train", "digits", "--epochs", "2", "--time-minutes", "1"], 2, "give one of them"),
        (["train", "digits", "--model", "resnet21"], 2, "resnet20"),
        (["train", "no/such/folder"], 2, "no data at"),
        (["train"], 2, "needs DATA"),
        (["train", "--resume", "nowhere"], 2, "not a run to resume"),
        (["train", "digits", "--model", "resnet8", "--activation", "rellu"], 2, "relu"),
        (["fit", "digits", "--latency-ms", "-1"], 2, "--latency-ms"),
        (["fit", "digits", "--latency-ms", "nan"], 2, "--latency-ms"),
        (["fit", "digits", "--min-accuracy", "95"], 2, "0.95"),
        (["fit", "digits", "--time-minutes", "0"], 2, "--time-minutes"),
        (["fit", "digits", "--max-drop", "-1"], 2, "--max-drop"),
        (["fit", "digits", "--threads", "0"], 2, "--threads"),
        (["evaluate", "no/model", "digits"], 2, "no/model"),
        (["evaluate", "resnet20"], 2, "required"),
        (["predict", "resnet20"], 2, "required"),
        (["inspect", "resnet51"], 2, "resnet50"),
        (["inspect", "resnet50", "--img-size", "0"], 2, "img"),
        (["export", "resnet20", "--format", "onnyx"], 2, "invalid choice"),
        (["export", "resnet8", "--precision", "int8", "--out", "x.onnx"], 2, "--data"),
        (["benchmark", "resnet20", "--threads", "0"], 2, "--threads"),
    ],
)
def test_mistakes_end_with_one_message_and_the_way_out(
    arguments: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found, out, err = run(capsys, *arguments, "--json")
    assert found == code
    assert expected in err
    assert "Traceback" not in err
    answer = json.loads(out)
    assert answer["exit_code"] == code
    assert answer["message"]
    assert not list(tmp_path.iterdir())


def test_a_fault_of_ours_is_said_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("resfit.verbs.inspect")

    def broken(model: str) -> dict[str, Any]:
        raise RuntimeError(f"cannot {model}")

    broken.__annotations__["model"] = typing.Annotated[str, "anything"]
    broken.__name__ = "inspect"
    monkeypatch.setattr(module, "inspect", broken)
    code, _, err = run(capsys, "inspect", "fly")
    assert code == 1
    assert "RuntimeError: cannot fly" in err
    assert "RESFIT_DEBUG=1" in err


def test_a_full_disk_and_an_interrupt_have_their_codes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, code in ((OSError(28, "No space left on device", "r/model"), 1), (KeyboardInterrupt(), 130)):

        def raising(_arguments: list[str], error: BaseException = error) -> int:
            raise error

        monkeypatch.setattr(cli, "_run", raising)
        found, _, err = run(capsys, "train")
        assert found == code
        assert ("free some space" in err) == (code == 1)


def test_inspect_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", "resnet50", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["parameters"] == 25_557_032
    assert answer["macs"] == 4_089_184_256
    assert sum(stage["parameters"] for stage in answer["stages"]) == answer["parameters"]
    assert sum(stage["macs"] for stage in answer["stages"]) == answer["macs"]


def test_inspect_at_another_size_costs_other_macs(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "inspect", "resnet18", "--img-size", "64", "--json")
    assert json.loads(out)["macs"] < 1_819_066_368 / 8
    _, text, _ = run(capsys, "inspect", "resnet18")
    assert "layer4" in text
    assert "1,814,073,344" in text


@pytest.mark.parametrize("code", ["import resfit", "from resfit.cli import main; main(['--help'])"])
def test_start_imports_nothing_heavy(code: str) -> None:
    check = f"{code}\nimport sys\nheavy = {{'torch', 'numpy', 'onnx', 'onnxruntime', 'PIL'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{check}\nassert not heavy, heavy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
