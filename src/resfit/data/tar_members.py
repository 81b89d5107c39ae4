"""The samples in one tar file, and the bytes of each where they lie."""

import contextlib
import functools
import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from resfit.data.folders import EXTENSIONS
from resfit.data.origin import SPLIT_NAMES
from resfit.errors import DataError

LABEL_ENDINGS = ("cls", "label", "cls.txt", "label.txt")
JSON_LABELS = ("label", "class", "cls", "target", "class_name", "category")
MAX_LABEL_BYTES = 1_000_000  # of one label file
MAX_IMAGE_BYTES = 1_000_000_000  # of one encoded image


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image in a tar: member name, place and size in bytes, and its label's text, empty without one.

    `split` is the role that a folder in the member's name declares, empty without one.
    """

    tar: Path
    name: str
    offset: int
    num_bytes: int
    label: str
    split: str = ""


@dataclass
class _Parts:
    """What one key holds while the tar is gone through."""

    image: tarfile.TarInfo | None = None
    label: str = ""


def samples_of(path: Path) -> list[Sample]:
    """The images of a tar in their order, each with its label's text.

    Where no image of the tar has a label file, the folders that images lie in are their classes. Other members
    are passed over; links, devices and sparse members are counted on standard error and left out. DataError
    for what is no uncompressed tar, for one that is damaged or says what cannot be, two images of one name, or
    members that point outside.
    """
    parts: dict[str, _Parts] = {}
    odd: list[str] = []
    with _refusals(path), path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        end = path.stat().st_size
        for member in tar:
            if member.isreg() and not member.issparse():
                _refuse_member(path, member, end)
                _add(parts, path, member, file)
            elif not member.isdir():
                odd.append(member.name)
        _refuse_rest(path, file, tar.offset)
    if odd:
        print(f"{path.name}: left out {len(odd)} members that are no files: {', '.join(odd[:3])}", file=sys.stderr)
    by_folder = not any(found.label for found in parts.values())
    return [_sample(path, found.image, found.label, by_folder) for found in parts.values() if found.image is not None]


def image_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The images of a tar in their order, a name and a way to the encoded bytes each; labels do not matter.

    They come while the tar is gone through, and none is held. DataError as from `samples_of`, once what comes
    before the fault has come.
    """
    with _refusals(path), path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
        end = path.stat().st_size
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined] # which would grow with the tar
            name = PurePosixPath(member.name)
            if not member.isreg() or member.issparse() or name.suffix.lower() not in EXTENSIONS:
                continue
            _refuse_member(path, member, end)
            if not name.name.startswith("."):
                place = Sample(
                    tar=path,
                    name=member.name,
                    offset=member.offset_data,
                    num_bytes=_image_bytes(path, member),
                    label="",
                )
                yield member.name, functools.partial(read_member, place)
        _refuse_rest(path, file, tar.offset)


def read_member(sample: Sample) -> bytes:
    """The encoded image; OSError when the file has become shorter."""
    with sample.tar.open("rb") as file:
        file.seek(sample.offset)
        content = file.read(sample.num_bytes)
    if len(content) < sample.num_bytes:
        raise OSError(f"{sample.tar.name} is shorter than when it was opened")
    return content


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What goes wrong while a tar is read, as a DataError that names it."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    # Headers that lie make tarfile raise many kinds: all mean a damaged file.
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError, EOFError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from error


def _sample(path: Path, image: tarfile.TarInfo, label: str, by_folder: bool) -> Sample:
    folders = PurePosixPath(image.name).parent.parts
    split = SPLIT_NAMES.get(folders[-2].lower(), "") if by_folder and len(folders) > 1 else ""
    return Sample(
        tar=path,
        name=image.name,
        offset=image.offset_data,
        num_bytes=image.size,
        label=folders[-1] if by_folder and folders else label,
        split=split,
    )


def _refuse_member(path: Path, member: tarfile.TarInfo, end: int) -> None:
    name = PurePosixPath(member.name.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"{path}: the member {member.name!r} points outside", hint="pack it again with names inside its folder"
        )
    if member.offset_data + member.size > end:
        raise _damaged(path, f"it ends within its member {member.name}")


def _refuse_rest(path: Path, file: BinaryIO, offset: int) -> None:
    """tarfile ends without a word at a header it cannot read: only zeros may follow a whole tar."""
    file.seek(offset)
    while chunk := file.read(1 << 20):
        if any(chunk):
            raise _damaged(path, f"what follows byte {offset} is no member")


def _damaged(path: Path, why: str) -> DataError:
    with path.open("rb") as file:
        compressed = file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"))
    if compressed:
        return DataError(f"{path} is a compressed tar, which cannot be read in places", hint="uncompress it to a .tar")
    return DataError(f"{path} is not a whole tar ({why})", hint="fetch or pack it again")


def _add(parts: dict[str, _Parts], path: Path, member: tarfile.TarInfo, file: BinaryIO) -> None:
    """Sort a member to its sample, whose key is the name up to the first dot of its last part."""
    folder, _, last = member.name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    ending = ending.lower()
    if not stem:  # hidden files, and what macOS packs beside every file
        return
    found = parts.setdefault(f"{folder}/{stem}", _Parts())
    if f".{ending}" in EXTENSIONS:
        if found.image is not None:
            raise DataError(f"{path}: {found.image.name} and {member.name} are both the image of one sample")
        _image_bytes(path, member)
        found.image = member
    elif ending in LABEL_ENDINGS or (ending == "json" and not found.label):
        if member.size > MAX_LABEL_BYTES:
            raise DataError(f"{path}: the label {member.name} takes {member.size / 1e6:.1f} MB, too much to be one")
        file.seek(member.offset_data)
        found.label = _label_text(path, member.name, file.read(member.size)) or found.label


def _image_bytes(path: Path, member: tarfile.TarInfo) -> int:
    """The size of an encoded image; DataError for one that no image has."""
    if member.size > MAX_IMAGE_BYTES:
        raise DataError(f"{path}: the image {member.name} takes {member.size / 1e9:.1f} GB, too much to read")
    return member.size


def _label_text(path: Path, name: str, content: bytes) -> str:
    """The label in a label file's bytes; empty where a JSON file holds none."""
    try:
        text = content.decode("utf-8-sig").strip()
        if not name.lower().endswith(".json"):
            return text
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {name} is not readable as a label ({error})") from error
    known = [values[key] for key in JSON_LABELS if key in values] if isinstance(values, dict) else []
    return next((str(value) for value in known if isinstance(value, str | int) and value != ""), "")
