"""README.md of a run folder: a model card that people and model hubs can read."""

from collections.abc import Mapping

from resfit.reporting.content import CardContent
from resfit.reporting.wording import plain

MOST_LABELS = 40  # the card names so many; config.json has all


def model_card(content: CardContent) -> str:
    """The card as Markdown, with the metadata block that model hubs read. Ends with a newline."""
    lines = [
        "---",
        "library_name: resfit",
        "pipeline_tag: image-classification",
        "tags:",
        "- image-classification",
        "- resnet",
        "- resfit",
        "---",
        "",
        f"# {_inline(content.name)}",
        "",
        f"A residual network ({_inline(content.architecture)}) that tells "
        f"{len(content.labels)} classes apart: {_labels(content.labels)}.",
        "",
    ]
    if not content.trained:
        lines += ["**Its weights are untrained: its answers mean nothing.**", ""]
    lines += _table("", content.facts)
    lines += [f"Input: {_inline(content.preprocessing)}", ""]
    if content.usage:
        lines += ["## Use", "", "```", *content.usage, "```", ""]
    lines += _table("Data", content.data)
    lines += _table("Training", content.training)
    if content.notes:
        lines += ["## Know before use", "", *(f"- {_inline(note)}" for note in content.notes), ""]
    made = " ".join(part for part in ("resfit", content.resfit_version) if part)
    lines.append(f"Made by {made}{f' on {content.created}' if content.created else ''}.")
    return "\n".join(lines) + "\n"


def _labels(labels: tuple[str, ...]) -> str:
    shown = ", ".join(_inline(label) for label in labels[:MOST_LABELS])
    hidden = len(labels) - MOST_LABELS
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _table(title: str, facts: Mapping[str, object]) -> list[str]:
    if not facts:
        return []
    rows = [f"| {_inline(name)} | {_inline(plain(value))} |" for name, value in facts.items()]
    heading = [f"## {title}", ""] if title else []
    return [*heading, "| | |", "|---|---|", *rows, ""]


def _inline(text: str) -> str:
    """Text that stays one line and one cell, and that Markdown and HTML leave as it is."""
    for character in "\\`*_[]|<>":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
