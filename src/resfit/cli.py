"""Verb functions to commands, and errors to exit codes.

A command is its function's signature: positional parameters are inputs, keyword-only ones are flags, and the
text of a flag is the `Annotated` string of its parameter. Exit codes: 0 done, 1 failed, 2 usage,
3 budget not met, 130 interrupted.
"""

import argparse
import errno
import inspect
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from resfit import VERBS, __version__
from resfit.errors import ResfitError, UsageError, nearest

FAILED, INTERRUPTED = 1, 130

EXAMPLES = """\
examples:
  resfit fit photos --latency-ms 5 --file-kb 300 --time-minutes 20
  resfit train photos --model resnet18 --img-size 128 --epochs 20 --out run
  resfit evaluate run photos
  resfit predict run picture.jpg more/
"""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are UsageErrors that name the nearest right word."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"see: {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        return _run(arguments)
    except ResfitError as error:
        return _report(error.code, error.message, error.hint, error.exit_code, as_json)
    except KeyboardInterrupt as error:
        return _report("interrupted", str(error) or "interrupted", None, INTERRUPTED, as_json)
    except OSError as error:
        hint = "free some space and run the same command again" if error.errno == errno.ENOSPC else None
        return _report("system", f"{error.filename or 'system'}: {error.strerror or error}", hint, FAILED, as_json)
    except MemoryError:
        hint = "use a smaller --img-size, --batch-size or model"
        return _report("memory", "out of memory", hint, FAILED, as_json)
    except Exception as error:
        if os.environ.get("RESFIT_DEBUG"):
            raise
        message = f"this is a fault in resfit, not in what you gave it: {type(error).__name__}: {error}"
        return _report("internal", message, "RESFIT_DEBUG=1 shows where it happened", FAILED, as_json)


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"resfit {__version__}")
        return 0
    name, *rest = arguments
    if name not in VERBS:
        raise UsageError(f"there is no command {name!r}", hint=nearest(name, VERBS))
    module = import_module(f"resfit.verbs.{name}")
    verb = getattr(module, name)
    inputs, flags = _parse(verb, rest)
    as_json = flags.pop("json")
    result = verb(*inputs, **flags)
    text = json.dumps(result, ensure_ascii=False, allow_nan=False) if as_json else module.render(result)
    print(text)
    return int(result.get("exit_code", 0))


def _report(code: str, message: str, hint: str | None, exit_code: int, as_json: bool) -> int:
    print(f"resfit: {message}", file=sys.stderr)
    if hint:
        print(f"        {hint}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": code, "message": message, "hint": hint, "exit_code": exit_code}))
    return exit_code


def _overview() -> str:
    lines = ["resfit: residual networks that fit your data and your budget", "", EXAMPLES, "commands:"]
    for name in VERBS:
        verb = getattr(import_module(f"resfit.verbs.{name}"), name)
        lines.append(f"  {name:<10} {_summary(verb)}")
    lines += [
        "",
        "resfit COMMAND --help shows a command's inputs and flags; --json makes it print one JSON object.",
    ]
    return "\n".join(lines)


def _summary(verb: Callable[..., Any]) -> str:
    return (inspect.getdoc(verb) or "").splitlines()[0]


def _parse(verb: Callable[..., Any], arguments: list[str]) -> tuple[list[Any], dict[str, Any]]:
    parser = _Parser(
        prog=f"resfit {verb.__name__}",
        description=inspect.getdoc(verb),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(verb, include_extras=True)
    inputs, flags = [], {}
    for parameter in inspect.signature(verb).parameters.values():
        kind, text = _annotation(hints[parameter.name])
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            flags["--" + parameter.name.replace("_", "-")] = parameter.default
            _add_flag(parser, parameter, kind, text)
        else:
            inputs.append(parameter.name)
            _add_input(parser, parameter, kind, text)
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    namespace, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise UsageError(f"{verb.__name__} does not take {unknown[0]}", hint=_nearest_flag(unknown[0], flags))
    values = vars(namespace)
    return [values.pop(name) for name in inputs], values


def _nearest_flag(word: str, flags: dict[str, Any]) -> str:
    hint = nearest(word.split("=")[0], [*flags, "--json"])
    for flag, default in flags.items():
        if f"did you mean {flag}" in hint and default is not None:
            return f"did you mean {flag} ({default})?"
    return hint


def _annotation(hint: Any) -> tuple[Any, str]:
    """The type behind `Annotated[X | None, text]`, and the text."""
    text = ""
    if typing.get_origin(hint) is typing.Annotated:
        hint, text = typing.get_args(hint)[:2]
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return hint, text


def _converter(kind: Any) -> dict[str, Any]:
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return {"choices": typing.get_args(kind)}
    if origin in (list, tuple):
        return {"nargs": "+", **_converter(typing.get_args(kind)[0])}
    return {"type": kind}


def _add_flag(parser: _Parser, parameter: inspect.Parameter, kind: Any, text: str) -> None:
    flag = "--" + parameter.name.replace("_", "-")
    default = parameter.default
    if kind is bool:
        # None means undecided: --flag and --no-flag decide
        action = argparse.BooleanOptionalAction if default is None else "store_true"
        parser.add_argument(flag, action=action, default=default, help=text.replace("%", "%%"))
        return
    shown = "" if default in (None, ()) else f" (default: {default})"
    required = default is inspect.Parameter.empty
    options = {"help": (text + ("" if required else shown)).replace("%", "%%"), **_converter(kind)}
    parser.add_argument(flag, required=required, default=None if required else default, **options)


def _add_input(parser: _Parser, parameter: inspect.Parameter, kind: Any, text: str) -> None:
    options = {"help": text.replace("%", "%%"), "metavar": parameter.name.upper(), **_converter(kind)}
    if parameter.default is not inspect.Parameter.empty:
        options |= {"nargs": "*" if "nargs" in options else "?", "default": parameter.default}
    parser.add_argument(parameter.name, **options)
