"""What several verbs check of their arguments."""

from resfit.errors import UsageError


def check_counts(**counts: int | None) -> None:
    """UsageError for a count below 1, named as its flag; None is the default of every count."""
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected at least 1")
