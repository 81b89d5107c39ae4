"""`resfit audit`: what is wrong, or looks wrong, with images and labels before anything is trained on them."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from resfit.verbs.arguments import check_counts

SHOWN = 10  # of each kind of finding; --json and audit.html have all
FOUND = 1  # exit code of --strict
AUDIT_NAME = "audit.json"
PICTURE_EDGE = 160  # pixels
GUESSED = "suspect_labels"  # a guess on natural images always has some, so these alone do not make data unclean
FINDINGS = {
    "corrupt": "unreadable files",
    "empty_classes": "classes without images",
    "class_names": "class names that differ between splits",
    "class_names_twice": "class names that look like one",
    "leaks": "pictures in more than one split",
    "duplicates": "pictures in several files",
    "label_conflicts": "pictures with several labels",
    "suspect_labels": "labels that look wrong",
    "one_colour": "images of one colour",
    "tiny": "tiny images",
}


def audit(
    data: Annotated[str, "folder of class folders, Hugging Face parquet, table, tar, arrays, or 'digits'"],
    *,
    img_size: Annotated[int | None, "the size training will use: smaller images are judged by it"] = None,
    out: Annotated[str | None, "folder for audit.json and audit.html, the page with pictures"] = None,
    strict: Annotated[bool, "end with exit code 1 where anything was found, suspect labels aside"] = False,
) -> dict[str, Any]:
    """List the bad, doubled, leaking, tiny, plain and mislabelled-looking images of a data set.

    Nothing is changed and nothing found is an error: bad files, classes and splits are all listed, and the exit
    code is 0 unless --strict is given. Near duplicates are the same picture stored again, resized or recoloured;
    mirrored and tightly cropped ones are not looked for. A suspect label is a guess: look before you change it.
    """
    from resfit.data.audit import audit_inventory
    from resfit.data.inventory import take_inventory
    from resfit.storage import prepare_folder

    check_counts(img_size=img_size)
    folder = prepare_folder(out, marker_names=(AUDIT_NAME,)) if out is not None else None
    inventory = take_inventory(data)
    result: dict[str, Any] = {"data": data, **asdict(audit_inventory(inventory, img_size=img_size))}
    result["clean"] = not result["refusal"] and not any(result[name] for name in FINDINGS if name != GUESSED)
    if folder is not None:
        result["out"] = str(folder)
        _write(folder, result, inventory)
    if strict and not result["clean"]:
        result["exit_code"] = FOUND
    return result


def _write(folder: Path, result: dict[str, Any], inventory: Any) -> None:
    """audit.json and audit.html; pictures are decoded for those images alone that the page shows."""
    from resfit.data.inventory import picture
    from resfit.reporting.audit_report import shown_paths, write_audit_report
    from resfit.storage import write_atomic

    place = {name: index for index, name in enumerate(inventory.listing.names)}
    made = {path: picture(inventory, place[path], edge=PICTURE_EDGE) for path in shown_paths(result)}
    write_audit_report(folder, result, {path: pixels for path, pixels in made.items() if pixels is not None})
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / AUDIT_NAME, text.encode("utf-8", "surrogateescape"))


def render(result: dict[str, Any]) -> str:
    """What a person sees of an audit."""
    splits = ", ".join(f"{split} {count:,}" for split, count in result["splits"].items())
    labels = {label for counts in result["class_counts"].values() for label in counts}
    ratios = ", ".join(f"{split} {ratio:g}" for split, ratio in result["imbalance"].items() if ratio is not None)
    lines = [
        f"{result['num_images']:,} images, {len(labels)} classes: {splits}",
        f"largest class to smallest: {ratios}",
    ]
    if result["refusal"]:
        lines.append(f"training would refuse this data: {result['refusal']}")
    for name, title in FINDINGS.items():
        if result[name]:
            lines += ["", f"{len(result[name])} {title}", *_shown(name, result)]
    if result["ignored"]:
        lines += ["", f"{len(result['ignored'])} entries that are no images"]
        lines += [f"  {path}" for path in result["ignored"][:SHOWN]]
    lines += [f"note: {note}" for note in result["notes"]]
    if result["clean"] and not result[GUESSED]:
        lines.append("nothing was found")
    if "out" in result:
        lines += ["", f"written: {result['out']}/audit.html and {AUDIT_NAME}"]
    return "\n".join(lines)


def _shown(name: str, result: dict[str, Any]) -> list[str]:
    lines = [f"  {line}" for line in _lines(name, result)]
    left = len(result[name]) - SHOWN
    return [*lines, f"  and {left} more"] if left > 0 else lines


def _lines(name: str, result: dict[str, Any]) -> Iterator[str]:
    """The first findings of a kind, a line each."""
    for index, item in enumerate(result[name][:SHOWN]):
        match name:
            case "corrupt":
                yield f"{item['path']}: {item['reason']}"
            case "empty_classes":
                yield f"{item['class']} in {item['split']}"
            case "class_names":
                alike = f", written there as {' or '.join(item['written_there'])}?" if item["written_there"] else ""
                yield f"{item['class']} is missing from {', '.join(item['missing_from'])}{alike}"
            case "class_names_twice":
                yield ", ".join(item)
            case "leaks":
                yield f"{item['kind']}, {' and '.join(item['splits'])}: {_few(item['paths'])}"
            case "duplicates":
                yield f"{result['duplicate_kinds'][index]}: {_few(item)}"
            case "label_conflicts":
                yield f"{' and '.join(sorted(set(item['labels'])))}: {_few(item['paths'])}"
            case "suspect_labels":
                yield f"{item['path']}: {item['label']}, looks like {item['suggested']} ({item['score']:.0%})"
            case "tiny":
                yield f"{item['path']}: {item['width']} x {item['height']}"
            case _:
                yield str(item)


def _few(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
