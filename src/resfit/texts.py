"""Texts that a file says of a model and that are shown as they are: none can steer a terminal, or fill it."""

import re
from typing import Any

from resfit.errors import ModelError

MOST_LABEL = 1_000  # characters; a folder's name has at most 255
MOST_TEXT = 10_000  # of a note, or of where a model comes from
SHOWN = 100  # characters of a wrong value that an error repeats

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")  # in JSON only: no bytes of UTF-8 stand for one, so it cannot be printed


def labels_of(values: Any, *, what: str = "labels") -> tuple[str, ...]:
    """A list of class names as a tuple; ModelError unless each is a text that can be shown in a line.

    Any language and sign may stand in a name, up to MOST_LABEL characters, but no control characters.
    """
    if not isinstance(values, list | tuple):
        raise ModelError(f"{what} is {values!r:.{SHOWN}}, expected a list of names")
    for place, label in enumerate(values):
        check_text(label, f"{what}[{place}]", most=MOST_LABEL)
        if _SURROGATES.search(label):
            raise ModelError(f"{what}[{place}] is {label!r:.{SHOWN}}, expected a name that UTF-8 can write")
    return tuple(values)


def check_text(text: Any, what: str, *, most: int = MOST_TEXT) -> None:
    """ModelError, which says what it is of, for anything but a text of at most `most` printable characters."""
    if not isinstance(text, str):
        raise ModelError(f"{what} is {text!r:.{SHOWN}}, expected a text")
    if len(text) > most:
        raise ModelError(f"{what} has {len(text):,} characters, expected at most {most:,}")
    if _CONTROLS.search(text):
        raise ModelError(
            f"{what} is {text!r:.{SHOWN}}, expected a text without control characters",
            hint="a terminal would obey them: take them out where it was written",
        )
