"""From what a table calls a file to a path inside the data folder, and nowhere else."""

import os
import posixpath
from pathlib import Path, PurePosixPath, PureWindowsPath

from resfit.data.folders import EXTENSIONS
from resfit.data.origin import SPLIT_NAMES, WHOLE


class FileIndex:
    """The files below `root`, found by path, and by name alone where that is the only one of its name."""

    def __init__(self, root: Path):
        self._root = root
        self._paths: set[str] = set()
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for folder, below, names in os.walk(root):
            below[:] = sorted(name for name in below if not name.startswith("."))
            prefix = Path(folder).relative_to(root).as_posix()
            for name in sorted(names):
                path = name if prefix == "." else f"{prefix}/{name}"
                self._paths.add(path)
                self._by_name.setdefault(name, []).append(path)
                if PurePosixPath(name).suffix.lower() in EXTENSIONS:
                    self._by_stem.setdefault(PurePosixPath(name).stem, []).append(path)

    def inside(self, table: Path, name: str) -> str | None:
        """The path from the root that `name` in `table` means, with `/`; None where it leads outside.

        Told from the text alone: no link is followed and nothing outside is looked at.
        """
        name = name.replace("\\", "/")
        if name.startswith("/") or PureWindowsPath(name).drive or "\0" in name:
            return None
        base = table.parent.relative_to(self._root).as_posix()
        path = posixpath.normpath(posixpath.join(base, name))
        return None if path in (".", "..") or path.startswith("../") else path

    def locate(self, table: Path, name: str, *, split: str) -> tuple[str, bool]:
        """(path from the root, whether a file is there) of a `name` that is `inside`.

        First beside the table, then, for a name without folders, in the split's own folder, then wherever it is
        the only file of that name; an identifier without an extension is the image of that stem.
        """
        path = self.inside(table, name)
        if path is None:
            raise ValueError(f"{name} leads outside {self._root}")
        if path in self._paths or (self._root / path).is_file():
            return path, True
        bare = posixpath.basename(path)
        for known in (self._by_name, self._by_stem):
            fitting = [other for other in known.get(bare, ()) if other.endswith(path) or "/" not in name]
            own = [other for other in fitting if split != WHOLE and _in_split(other, split)] or fitting
            if len(own) == 1:
                return own[0], True
        return path, False


def _in_split(path: str, split: str) -> bool:
    return any(SPLIT_NAMES.get(part.lower()) == split for part in path.split("/")[:-1])
