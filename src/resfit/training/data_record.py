"""data.jsonl.gz of a run folder: which images a training was started with, so that a resume can say what changed.

One line an image, as JSON: role, label, name, first half of the sha256 of its content in hexadecimal.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

from resfit import storage
from resfit.data.dataset import ArrayDataset, Splits
from resfit.data.images import in_parts

RECORD = "data.jsonl.gz"
DIGEST_BYTES = 16  # enough that no two of a billion images share one by chance
NAMED = 5

Image = tuple[str, str]  # role and name
Content = tuple[str, str]  # label and digest


def write_record(folder: Path, splits: Splits) -> None:
    """Writes the record; equal data give equal bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as file:
        for (role, name), (label, digest) in _images(splits):
            file.write(json.dumps([role, label, name, digest], ensure_ascii=False).encode("utf-8", "surrogatepass"))
            file.write(b"\n")
    storage.write_atomic(folder / RECORD, buffer.getvalue())


def changes(folder: Path, splits: Splits) -> list[str]:
    """What `splits` differ in from the folder's record, a sentence a kind; empty where the record cannot tell."""
    try:
        with gzip.open(folder / RECORD, "rb") as file:
            rows = [json.loads(line.decode("utf-8", "surrogatepass")) for line in file]
        before: dict[Image, Content] = {(role, name): (label, digest) for role, label, name, digest in rows}
    except (OSError, EOFError, ValueError):  # none was written, or it is damaged: the fingerprint has told enough
        return []
    now = dict(_images(splits))
    found: dict[str, list[str]] = {}
    for image in before.keys() | now.keys():
        if before.get(image) != now.get(image):
            found.setdefault(_kind(before.get(image), now.get(image)), []).append(" ".join(image))
    return [_sentence(kind, sorted(found[kind])) for kind in sorted(found)]


def _kind(before: Content | None, now: Content | None) -> str:
    if before is None:
        return "added"
    if now is None:
        return "removed"
    return "changed" if before[1] != now[1] else "with another label"


def _sentence(kind: str, names: list[str]) -> str:
    more = ", .." if len(names) > NAMED else ""
    return f"{len(names)} {kind}: {', '.join(names[:NAMED])}{more}"


def _images(splits: Splits) -> Iterator[tuple[Image, Content]]:
    """Every image of every role, by its place in the data."""
    for role in splits.roles():
        data = splits.role(role)
        digests = _digests(data)
        for index, target in enumerate(data.targets.tolist()):
            yield (role, data.name(index)), (data.labels[target], next(digests))


def _digests(data: ArrayDataset) -> Iterator[str]:
    """Digests in the order of the images: of the encoded files, of the pixels where those are not known."""
    if data.digests is not None:
        for digest in data.digests:
            yield digest.tobytes()[:DIGEST_BYTES].hex()
        return
    for part in in_parts(data.images):
        for image in part:
            yield hashlib.sha256(image.tobytes()).hexdigest()[: 2 * DIGEST_BYTES]
