"""What a person gives to be classified, files, folders and patterns, as a list of image files."""

import glob
from collections.abc import Sequence
from pathlib import Path

from resfit.data.folders import EXTENSIONS
from resfit.errors import UsageError


def image_paths(inputs: Sequence[str | Path]) -> list[Path]:
    """Image files in the order given; a folder stands for the images anywhere in it, in name order.

    A file is taken whatever its name ends in, and listed once if named twice. A path that does not exist, a
    pattern that matches nothing and a folder without images are UsageErrors.
    """
    if not inputs:
        raise UsageError("no images were given", hint="give image files, folders of them, or patterns like '*.jpg'")
    found: dict[Path, None] = {}
    for given in inputs:
        for path in _expand(Path(given)):
            found[path] = None
    return list(found)


def _expand(given: Path) -> list[Path]:
    if given.is_dir():
        inside = [path for path in sorted(given.rglob("*")) if _is_image(path)]
        if not inside:
            raise UsageError(f"the folder {given} has no images in it", hint=f"looked for {_suffixes()}")
        return inside
    if given.exists():
        return [given]
    if glob.has_magic(str(given)):
        matched = [Path(name) for name in sorted(glob.glob(str(given), recursive=True))]
        files = [path for path in matched if path.is_file()]
        if not files:
            raise UsageError(f"no file matches {given}", hint="put the pattern in quotes, or name the files")
        return files
    raise UsageError(f"there is no image {given}", hint="check the path; folders and patterns are taken too")


def _is_image(path: Path) -> bool:
    hidden = path.name.startswith(".")
    return path.suffix.lower() in EXTENSIONS and not hidden and path.is_file()


def _suffixes() -> str:
    return ", ".join(sorted(EXTENSIONS))
