"""Arrays in .npy and .npz files, their headers checked before a byte of content is believed or held.

Nothing is unpickled: arrays of objects are refused, as their content would be a program.
"""

import contextlib
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from resfit.data.decoding import available_memory
from resfit.errors import DataError

HELD_SHARE = 0.5  # most of the free memory that a compressed array may take: it cannot be read in places
Read = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredArray:
    """An array in a file: `shape`, `dtype`, and `read(start, stop)`, its entries along the first axis."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Read

    def __len__(self) -> int:
        return self.shape[0]


def open_npy(path: Path) -> StoredArray:
    """The array of a .npy file, read in places; DataError for what is none, is cut short or holds objects."""
    with _as_data_error(path), path.open("rb") as file:
        shape, fortran, dtype = _header(file, str(path))
        offset, num_bytes = file.tell(), path.stat().st_size
    _check_size(str(path), shape, dtype, num_bytes - offset, exact=False)
    read = _whole_npy(path) if fortran else _in_places(path, offset, shape, dtype)
    return StoredArray(name=path.stem, shape=shape, dtype=dtype, read=read)


def open_npz(path: Path) -> dict[str, StoredArray]:
    """Name -> array of a .npz file: read in places where it was saved without compression, else held once read.

    DataError for what is no .npz, members whose sizes contradict their headers, and those of objects.
    """
    found: dict[str, StoredArray] = {}
    with _as_data_error(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            title = f"{path}, {member.filename}"
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file, title)
                begun = file.tell()
            _check_size(title, shape, dtype, member.file_size - begun, exact=True)
            in_places = member.compress_type == zipfile.ZIP_STORED and not fortran
            read: Read = _Unpacked(path, member, title).read
            if in_places:
                read = _in_places(path, _content_offset(path, member) + begun, shape, dtype)
            name = member.filename.removesuffix(".npy")
            found[name] = StoredArray(name=name, shape=shape, dtype=dtype, read=read)
    return found


def _in_places(path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> Read:
    """Reads entries that lie one after another in a file, from `offset` on, and holds none."""
    entry = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize

    def read(start: int, stop: int) -> np.ndarray:
        with path.open("rb") as file:
            file.seek(offset + start * entry)
            content = file.read((stop - start) * entry)
        if len(content) < (stop - start) * entry:
            raise OSError(f"{path.name} is shorter than when it was opened")
        return np.frombuffer(content, dtype=dtype).reshape(stop - start, *shape[1:])

    return read


def _whole_npy(path: Path) -> Read:
    """Reads an array in Fortran order, whose entries lie scattered over the whole file."""
    with _as_data_error(path):
        whole = np.load(path, allow_pickle=False)
    return lambda start, stop: whole[start:stop]


def _content_offset(path: Path, member: zipfile.ZipInfo) -> int:
    """Where an uncompressed member's bytes begin: after its local header, whose two last parts vary in length."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
    offset = member.header_offset + 30 + name_bytes + extra_bytes
    if offset + member.file_size > path.stat().st_size:
        raise ValueError(f"{member.filename} ends beyond the file")
    return int(offset)


class _Unpacked:
    """One array of a .npz file, unpacked whole at the first read: compressed data cannot be read in places."""

    def __init__(self, path: Path, member: zipfile.ZipInfo, title: str):
        self._path, self._member, self._title = path, member, title
        self._whole: np.ndarray | None = None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop` along the first axis; DataError for content that contradicts its header."""
        if self._whole is None:
            free = available_memory()
            if free is not None and self._member.file_size > HELD_SHARE * free:
                raise DataError(
                    f"{self._title} takes {self._member.file_size / 1e9:.1f} GB unpacked;"
                    f" {free / 1e9:.1f} GB of memory are free",
                    hint="save it without compression (numpy.savez), which is read in parts",
                )
            with _as_data_error(self._path), zipfile.ZipFile(self._path) as archive, archive.open(self._member) as file:
                self._whole = np.lib.format.read_array(file, allow_pickle=False)
        return self._whole[start:stop]


def _header(file: IO[bytes], title: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether in Fortran order, dtype) from the header of NumPy's format, of a limited length."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"format version {version}")
    if dtype.hasobject:
        raise DataError(f"{title} holds Python objects, which are never unpickled", hint="save plain numbers or text")
    if not shape or min(shape) < 0 or dtype.fields is not None:
        raise DataError(f"{title} holds {dtype} {shape}: a plain array with one entry an image expected")
    return shape, fortran, dtype


def _check_size(title: str, shape: tuple[int, ...], dtype: np.dtype, num_bytes: int, *, exact: bool) -> None:
    needed = dtype.itemsize
    for side in shape:  # in Python's own integers: a header may claim more than 64 bits hold
        needed *= side
    if num_bytes < needed or (exact and num_bytes != needed):
        raise DataError(f"{title} declares {dtype} {shape}, {needed} bytes, but holds {num_bytes}")


@contextlib.contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    """What reading an array file raises, as an error that names the file."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    # zipfile, zlib and NumPy's header parser raise many kinds on damaged bytes: all mean a bad file.
    except Exception as error:
        raise DataError(f"{path} is not readable as NumPy arrays ({str(error) or type(error).__name__})") from error
