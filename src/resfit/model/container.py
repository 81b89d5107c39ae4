"""The `.resfit` file: a model in as few bytes as its encodings need, without loss. docs/container.md gives every byte.

No part of a file is trusted: lengths, checksum, directory and shapes are checked before anything is decoded, what
decoding may take is bounded by the file's size, and any disagreement is a ModelError that names the file.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resfit.coding.codecs import CODECS
from resfit.errors import MissingExtra, ModelError, ResfitError, UsageError, nearest
from resfit.model.container_bytes import CODEC_NUMBERS, Sections, write_sections
from resfit.model.container_description import described, parts_of
from resfit.model.container_directory import Directory, Entry, pack, too_dense
from resfit.model.container_numbers import centred, entry_of, least_exponent, side_numbers
from resfit.model.container_reading import (
    STREAMS,
    TYPES,
    Numbers,
    decoded,
    encodings_of,
    float_bytes,
    opened,
    weights_of,
)
from resfit.model.encoding import Encoding
from resfit.model.model import Model
from resfit.model.run_folder import check_finite
from resfit.model.state import state_shapes
from resfit.nn import plan
from resfit.nn.spec import ResNetSpec

FALLBACK = "raw"  # what codes a model so uniform that a reader would take its file for a trap


def save_container(model: Model, path: str | Path, *, codec: str = "range") -> None:
    """Write a model as one file, atomically; `load_container` gives the same model back.

    codec: what codes the symbols of encodings: range, huffman, lzw, zstd or raw. A tensor without an encoding is
    stored as it is. ModelError where a tensor does not hold the values of its encoding, or no finite ones.
    """
    path = Path(path)
    if codec not in CODEC_NUMBERS:
        raise UsageError(f"there is no codec {codec!r}", hint=nearest(codec, CODEC_NUMBERS))
    check_finite(path, model.weights)
    directory, numbers, floats = _taken_apart(model)
    streams = _coded(numbers, codec)
    if too_dense({name: _count(numbers[name]) for name in STREAMS}, {name: len(streams[name]) for name in STREAMS}):
        codec, streams = FALLBACK, _coded(numbers, FALLBACK)
    packed, plain_bytes = pack(directory)
    contents = {"directory": packed, **streams, "floats": floats}
    write_sections(path, Sections(codec=codec, contents=contents, directory_bytes=plain_bytes))


def load_container(path: str | Path) -> Model:
    """The model of a file that `save_container` wrote; anything else is a ModelError that names the file."""
    path = Path(path)
    with _naming(path):
        sections, directory, spec = opened(path)
        numbers = decoded(sections, directory)
        encodings = encodings_of(directory, numbers)
        weights = weights_of(directory, encodings, numbers, sections.contents["floats"])
        parts = parts_of(directory.description, spec)
        model = Model(spec=spec, weights=weights, encodings=encodings, **parts)
    check_finite(path, weights)
    return model


def container_sizes(path: str | Path) -> dict[str, Any]:
    """Where the bytes of a file are: {file_bytes, overhead_bytes, codec, layers}; overhead and layers add up to it.

    layers: name, kind (convolution, classifier, bias, norm, squeeze_excite or activation), encoding, number of
    symbols and bytes of each tensor, its scales or centers included. Overhead is header, directory and checksum. How
    far a stream had come after a tensor is found by coding it once more.
    """
    path = Path(path)
    with _naming(path):
        sections, directory, spec = opened(path)
        numbers = decoded(sections, directory)
        streams = {name: iter(_shares(sections, name, numbers[name])) for name in STREAMS}
        kinds = _kinds(spec)
        layers: list[dict[str, Any]] = []
        for entry in directory.entries:
            size = float_bytes(entry, directory) if entry.stream == "floats" else next(streams[entry.stream])
            size += next(streams["scales"]) if entry.side_numbers else 0
            layers.append(
                {"name": entry.name, "kind": kinds[entry.name], "symbols": entry.elements, "bytes": size,
                 "encoding": _encoding_name(entry, directory)}
            )  # fmt: skip
    overhead = sections.file_bytes - sum(layer["bytes"] for layer in layers)
    return {"file_bytes": sections.file_bytes, "overhead_bytes": overhead, "codec": sections.codec, "layers": layers}


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What is wrong with a file, as an error that names it; a missing package stays what it is."""
    try:
        yield
    except MissingExtra:
        raise
    except ResfitError as error:
        raise ModelError(f"{path}: {error.message}", hint=error.hint) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:  # values of other types than described
        raise ModelError(f"{path}: its description is not that of a model ({error!r:.200})") from error


def _taken_apart(model: Model) -> tuple[Directory, Numbers, bytes]:
    """The directory of a model's file, the whole numbers of its streams, and its floats without an encoding."""
    float_type = next(name for name, kind in TYPES.items() if kind in {item.dtype for item in model.weights.values()})
    encodings = model.encodings
    entries = []
    floats = []
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in STREAMS}
    for name, shape in state_shapes(model.spec).items():  # one order, whoever made the model
        tensor, encoding = model.weights[name], encodings.get(name)
        if encoding is None:
            entries.append(Entry(name=name, shape=shape, kind="float" if tensor.is_floating_point() else "int64"))
            floats.append(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            entries.append(entry_of(name, shape, encoding))
            numbers[entries[-1].stream].append(centred(encoding, _symbols(name, tensor, encoding)))
    exponent = least_exponent(encodings.values())
    sided = [entry for entry in entries if entry.side_numbers]
    numbers["scales"] = [side_numbers(encodings[item.name], shift=item.shift, exponent=exponent) for item in sided]
    directory = Directory(
        float_type=float_type, entries=tuple(entries), scale_exponent=exponent, description=described(model)
    )
    return directory, numbers, b"".join(floats)


def _symbols(name: str, tensor: Tensor, encoding: Encoding) -> np.ndarray:
    """A tensor's symbols; ModelError unless they stand for its very values (zero has no sign)."""
    symbols = encoding.symbols(tensor.detach().float().numpy())
    if not torch.equal(torch.from_numpy(encoding.values(symbols)).to(tensor.dtype), tensor.detach()):
        raise ModelError(
            f"{name} holds values that its encoding does not have",
            hint="quantise it anew, or take its encoding away: fine-tuning moves weights off their grid",
        )
    return symbols


def _coded(numbers: Numbers, codec: str) -> dict[str, bytes]:
    return {name: CODECS[codec].encode(numbers[name])[0] if numbers[name] else b"" for name in STREAMS}


def _shares(sections: Sections, name: str, arrays: list[np.ndarray]) -> list[int]:
    """The bytes of a stream that each of its arrays takes; they add up to the stream, whoever wrote it."""
    length = len(sections.contents[name])
    ends = [min(end, length) for end in CODECS[sections.codec].encode(arrays)[1]] if arrays else []
    ends[-1:] = [length] if ends else []
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _kinds(spec: ResNetSpec) -> dict[str, str]:
    """What each tensor of a network's state is, by its name."""
    operations = dict(plan.walk(plan.plan(spec)))
    return {name: _kind(name, operations) for name in state_shapes(spec)}


def _kind(name: str, operations: Mapping[str, plan.Operation]) -> str:
    owner = next(operations[part] for part in _parents(name) if part in operations)
    match owner:
        case plan.Norm():
            return "norm"
        case plan.SqueezeExcite():
            return "squeeze_excite"
        case plan.Activation():
            return "activation"
    if name.endswith(".bias"):
        return "bias"
    return "classifier" if isinstance(owner, plan.Linear) else "convolution"


def _parents(name: str) -> Iterator[str]:
    """The dotted names that a tensor's name begins with, the longest first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _encoding_name(entry: Entry, directory: Directory) -> str:
    """How a tensor is stored, in a word."""
    match entry.kind:
        case "float":
            return directory.float_type
        case "grid":
            return f"int{entry.bits}"
        case "codebook":
            return f"{entry.centers} values"
    return entry.kind


def _count(arrays: list[np.ndarray]) -> int:
    return sum(array.size for array in arrays)
