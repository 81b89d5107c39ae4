"""What a person gives to be classified, as a stream of encoded pictures: never a list of them.

Given are image files, folders, patterns, tars, parquet files, and `-` for names on standard input.
"""

import fnmatch
import glob
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from resfit.data.folders import EXTENSIONS
from resfit.data.listing import read_file
from resfit.data.parquet import encoded_images
from resfit.data.tar_members import image_members
from resfit.errors import DataError, UsageError

STANDARD_INPUT = "-"
PACKED = (".tar", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image not yet read. name: its path, or `ARCHIVE/MEMBER`, or `FILE.parquet#ROW`.

    read: its encoded bytes; OSError or DataError where it has none.
    """

    name: str
    read: Callable[[], bytes]


def file_picture(path: str | Path) -> Picture:
    """The picture that an image file is."""
    return Picture(name=str(path), read=lambda: read_file(Path(path)))


def pictures(inputs: Sequence[str | Path], *, lines: Iterable[str] | None = None) -> Iterator[Picture]:
    """The pictures behind `inputs`, in the order given, found while they are asked for.

    A folder stands for the images anywhere in it, in name order, or, where there are none, for its tars and
    parquet files; hidden files and folders are passed over and links to folders not entered. A file is an image
    whatever its name ends in, but for .tar and .parquet, which are read from within. A file that two inputs
    name comes once. `-` reads paths from `lines` (by default standard input), one a line, none of them left
    out; what is wrong with one of those is found when its picture is read.

    Of the inputs themselves a path that does not exist, a pattern that matches nothing and a folder without
    images are UsageErrors, raised here. Held in memory are the names in one folder and, of several inputs, the
    names that came.
    """
    if not inputs:
        raise UsageError("no images were given", hint="give image files, folders of them, or patterns like '*.jpg'")
    given = [str(value) for value in inputs]
    if given.count(STANDARD_INPUT) > 1:
        raise UsageError("standard input is named twice", hint=f"give {STANDARD_INPUT} once")
    found = [_listed(lines) if value == STANDARD_INPUT else _found(value) for value in given]
    paths = chain.from_iterable(found)
    return _from_paths(paths if len(found) == 1 else _once(paths))


def _found(given: str) -> Iterator[str]:
    """The files behind one input, whose first is looked for at once."""
    if os.path.isdir(given):
        return _not_empty(_in_folder(given), f"the folder {given} has no images in it", f"looked for {_suffixes()}")
    if os.path.exists(given):
        return iter((given,))
    if glob.has_magic(given):
        return _not_empty(_matching(given), f"no file matches {given}", "put the pattern in quotes, or name the files")
    raise UsageError(f"there is no image {given}", hint="check the path; folders and patterns are taken too")


def _not_empty(paths: Iterator[str], message: str, hint: str) -> Iterator[str]:
    first = next(paths, None)
    if first is None:
        raise UsageError(message, hint=hint)
    return chain((first,), paths)


def _in_folder(folder: str) -> Iterator[str]:
    """Images anywhere in a folder; where it has none, tars and parquet files."""
    found = False
    for path in _walk(folder):
        if _ends_in(path, EXTENSIONS) or os.path.isdir(path):
            found = True
            yield path
    if not found:
        yield from (path for path in _walk(folder) if _ends_in(path, PACKED))


def _walk(folder: str) -> Iterator[str]:
    """Files anywhere in a folder, in the order of their names, part by part; a folder that cannot be listed comes
    itself, as a picture that cannot be read."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        yield folder
        return
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            yield path
        elif os.path.isdir(path) and not os.path.islink(path):
            yield from _walk(path)


def _matching(pattern: str) -> Iterator[str]:
    """Files that a pattern matches, in name order. Of the usual ones, FOLDER/*.jpg, only names are held."""
    folder, last = os.path.split(pattern)
    if glob.has_magic(folder) or "**" in last:
        yield from (path for path in sorted(set(glob.iglob(pattern, recursive=True))) if os.path.isfile(path))
        return
    if not os.path.isdir(folder or os.curdir):
        return
    for name in sorted(fnmatch.filter(os.listdir(folder or os.curdir), last)):
        path = os.path.join(folder, name)
        if os.path.isfile(path) and (not name.startswith(".") or last.startswith(".")):
            yield path


def _listed(lines: Iterable[str] | None) -> Iterator[str]:
    """The files behind the paths on standard input; one that does not exist comes as it is."""
    if lines is None:
        lines = sys.stdin
        if isinstance(lines, io.TextIOWrapper):  # names of files are bytes, and not all are UTF-8
            lines.reconfigure(encoding="utf-8", errors="surrogateescape")
    for line in lines:
        path = line.rstrip("\r\n")
        if not path:
            continue
        if os.path.isdir(path):
            yield from _in_folder(path)
        else:
            yield path


def _once(paths: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for path in paths:
        plain = os.path.normpath(path)
        if plain not in seen:
            seen.add(plain)
            yield path


def _from_paths(paths: Iterable[str]) -> Iterator[Picture]:
    for path in paths:
        if _ends_in(path, PACKED) and os.path.isfile(path):
            yield from _unpacked(path)
        else:
            yield file_picture(path)


def _unpacked(path: str) -> Iterator[Picture]:
    """The pictures in a tar or parquet file; what ends the file early is a picture that cannot be read."""
    try:
        if path.lower().endswith(".tar"):
            for name, read in image_members(Path(path)):
                yield Picture(name=f"{path}/{name}", read=read)
        else:
            for row, read in encoded_images(Path(path)):
                yield Picture(name=f"{path}#{row}", read=read)
    except DataError as error:
        yield Picture(name=path, read=_raising(error))


def _raising(error: DataError) -> Callable[[], bytes]:
    def read() -> bytes:
        raise error

    return read


def _ends_in(path: str, endings: Iterable[str]) -> bool:
    return os.path.splitext(path)[1].lower() in endings


def _suffixes() -> str:
    return ", ".join((*sorted(EXTENSIONS), *PACKED))
