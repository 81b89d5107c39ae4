"""Every error a user can meet; `cli` maps the class to an exit code.

ResfitError            1  something failed, named with the way out
    UsageError         2  a wrong flag, path, name or value
    DataError          1  images or labels that cannot be used
    ModelError         1  a checkpoint or run folder that cannot be used
    EngineError        1  a runtime that cannot do what was asked
    MissingExtra       1  an optional package is not installed
    BudgetNotMet       3  no network found meets every budget
"""

import difflib
from collections.abc import Iterable


class ResfitError(Exception):
    """Base of all errors shown to users: one sentence that names the thing, and a hint with the way out."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ResfitError):
    """A wrong flag, path, name or value."""

    code = "usage"
    exit_code = 2


class DataError(ResfitError):
    """Images or labels that cannot be used."""

    code = "data"


class ModelError(ResfitError):
    """A checkpoint or run folder that cannot be used."""

    code = "model"


class EngineError(ResfitError):
    """A runtime that cannot do what was asked."""

    code = "engine"


class MissingExtra(ResfitError):
    """An optional package is not installed; names the extra that brings it."""

    code = "missing-extra"

    def __init__(self, package: str, *, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed",
            hint=f'install it with: pip install "resfit[{extra}]"',
        )


class BudgetNotMet(ResfitError):
    """No network found meets every budget."""

    code = "budget-not-met"
    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known names, for messages about unknown ones."""
    known = list(known)
    begun = [other for other in known if len(name) > 2 and other.startswith(name)]
    close = begun[:3] or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(sorted(known))}"
