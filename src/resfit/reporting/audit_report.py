"""audit.html: the findings of a data audit with their pictures, in one file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resfit.reporting import wording
from resfit.reporting.images import picture_uri
from resfit.reporting.report import rendered
from resfit.storage import write_atomic

AUDIT_PAGE = "audit.html"
MOST_GROUPS = 40  # groups of duplicates with pictures, leaks between splits first
MOST_OF_A_GROUP = 6
MOST_PICTURES = 48  # of suspect labels, plain and tiny images each
MOST_NAMED = 100  # paths in a list


def shown_paths(audit: Mapping[str, Any]) -> list[str]:
    """The paths whose pictures the page of `audit` (the verb's answer) wants, each once."""
    return list(dict.fromkeys(_wanted(audit)))


def write_audit_report(folder: str | Path, audit: Mapping[str, Any], pictures: Mapping[str, np.ndarray]) -> Path:
    """Write FOLDER/audit.html and return its path.

    `pictures` holds uint8 (height, width, 3) by path; a picture that is missing is left out, its path is not.
    """
    path = Path(folder) / AUDIT_PAGE
    write_atomic(path, rendered(AUDIT_PAGE, _page(audit, pictures)).encode("utf-8"))
    return path


def _wanted(audit: Mapping[str, Any]) -> Iterator[str]:
    for group in _groups(audit):
        yield from group["paths"][:MOST_OF_A_GROUP]
    for suspect in audit["suspect_labels"][:MOST_PICTURES]:
        yield suspect["path"]
    yield from audit["one_colour"][:MOST_PICTURES]
    for item in audit["tiny"][:MOST_PICTURES]:
        yield item["path"]


def _groups(audit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups to show: those across splits, those with several labels, then the others; exact ones last."""
    leaks = {tuple(leak["paths"]): leak["splits"] for leak in audit["leaks"]}
    conflicts = {tuple(item["paths"]): item["labels"] for item in audit["label_conflicts"]}
    groups = [
        {
            "paths": paths,
            "kind": kind,
            "splits": leaks.get(tuple(paths), []),
            "labels": sorted(set(conflicts.get(tuple(paths), []))),
        }
        for paths, kind in zip(audit["duplicates"], audit["duplicate_kinds"], strict=True)
    ]
    groups.sort(key=lambda group: (not group["splits"], not group["labels"], group["kind"] == "exact"))
    return groups[:MOST_GROUPS]


def _page(audit: Mapping[str, Any], pictures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    uris = {path: picture_uri(pixels) for path, pixels in pictures.items()}

    def figure(path: str, *lines: str) -> dict[str, Any]:
        return {"image": uris.get(path), "path": path, "lines": lines}

    return {
        "title": f"{Path(audit['data']).name} audited",
        "audit": audit,
        "facts": _facts(audit),
        "counts": _counts(audit),
        "groups": [
            {**group, "figures": [figure(path) for path in group["paths"][:MOST_OF_A_GROUP]]}
            for group in _groups(audit)
        ],
        "suspects": [
            figure(item["path"], f"labelled {item['label']}", f"looks like {item['suggested']}", _sure(item["score"]))
            for item in audit["suspect_labels"][:MOST_PICTURES]
        ],
        "plain": [figure(path) for path in audit["one_colour"][:MOST_PICTURES]],
        "tiny": [figure(item["path"], f"{item['width']} x {item['height']}") for item in audit["tiny"][:MOST_PICTURES]],
        "most_named": MOST_NAMED,
    }


def _sure(score: float) -> str:
    return f"at most {wording.percent(score)} sure"


def _facts(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Number and name of each kind of finding."""
    exact = audit["duplicate_kinds"].count("exact")
    return [
        (f"{audit['num_images']:,}", "images"),
        (f"{len(audit['corrupt']):,}", "unreadable"),
        (f"{exact:,}", "groups of equal files"),
        (f"{len(audit['duplicates']) - exact:,}", "groups of one picture stored differently"),
        (f"{len(audit['leaks']):,}", "groups across splits"),
        (f"{len(audit['suspect_labels']):,}", "suspect labels"),
        (f"{len(audit['one_colour']):,}", "of one colour"),
        (f"{len(audit['tiny']):,}", "tiny"),
    ]


def _counts(audit: Mapping[str, Any]) -> dict[str, Any]:
    """The table of classes by splits; a class that a split lacks is an empty cell."""
    splits = list(audit["class_counts"])
    labels = sorted({label for counts in audit["class_counts"].values() for label in counts})
    rows = [
        {
            "label": label,
            "cells": [
                {"count": "none" if count is None else f"{count:,}", "bad": not count}
                for count in (audit["class_counts"][split].get(label) for split in splits)
            ],
        }
        for label in labels
    ]
    return {"splits": splits, "rows": rows}
