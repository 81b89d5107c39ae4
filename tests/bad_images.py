"""Class folders with images that cannot be read."""

import shutil
from pathlib import Path

from resfit.data.sources import open_data


def with_bad_images(source: Path, folder: Path, role: str, count: int) -> tuple[str, list[str]]:
    """A copy of class folders in which so many images of a role cannot be read, and the names of these."""
    shutil.copytree(source, folder)
    names = open_data(str(folder), roles=(role,)).role(role).names
    assert names is not None
    bad = [path for path in folder.rglob("*.png") if str(path) in names[:count]]
    assert len(bad) == count
    for path in bad:
        path.write_bytes(b"no picture")
    return str(folder), [path.name for path in bad]
