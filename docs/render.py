"""Figures in the documents come from results/*.json: this writes them between the documents' markers.

    python docs/render.py           rewrite README.md and docs/*.md
    python docs/render.py --check   change nothing; exit 1 and name the documents that are out of date

A document says `<!-- render:NAME -->` .. `<!-- /render -->`, and what stands between is made from
results/NAME.json, an object with

    command    how to make it again
    machine    an object or a text that says where it was measured
    created    when
    rows       a list of objects, one a table row; the keys of the first are the columns
    columns    optional: {key: heading}, which columns and in which order
    budgets    instead of rows, as resfit.fit returns them

Keys ending in `accuracy` and `agreement` are fractions and are shown as percentages.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resfit.reporting.wording import BUDGET_NAMES, number, percent, plain, quantity

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"<!-- render:(?P<name>[\w.-]+) -->\n(?P<body>.*?)<!-- /render -->", re.DOTALL)
MACHINE_KEYS = ("processor", "cores", "threads")


def documents(root: Path = ROOT) -> list[Path]:
    """The documents that may hold figures."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def render_document(text: str, results: Path) -> str:
    """The document with every marked part made anew from the results folder."""

    def replace(found: re.Match[str]) -> str:
        path = results / f"{found['name']}.json"
        result = json.loads(path.read_text(encoding="utf-8"))
        return f"<!-- render:{found['name']} -->\n{render_result(result, path.name)}<!-- /render -->"

    return MARKED.sub(replace, text)


def render_result(result: Mapping[str, Any], name: str) -> str:
    """A table and a line that says where its numbers come from."""
    rows = _budget_rows(result["budgets"]) if "budgets" in result and "rows" not in result else result["rows"]
    columns = result.get("columns") or {key: key.replace("_", " ") for key in rows[0]}
    lines = [
        "| " + " | ".join(columns.values()) + " |",
        "|" + "|".join("--:" if _numeric(rows, key) else "---" for key in columns) + "|",
        *("| " + " | ".join(_cell(key, row.get(key)) for key in columns) + " |" for row in rows),
        "",
        _origin(result, name),
    ]
    return "\n".join(lines) + "\n"


def _budget_rows(budgets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "budget": BUDGET_NAMES.get(row["name"], row["name"]),
            "limit": quantity(row["name"], row["limit"]),
            "measured": quantity(row["name"], row["measured"]),
            "holds": row["holds"],
        }
        for row in budgets
    ]


def _numeric(rows: list[dict[str, Any]], key: str) -> bool:
    values = [row.get(key) for row in rows]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return percent(value) if key.endswith(("accuracy", "agreement")) else number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return plain(value).replace("|", "\\|")


def _origin(result: Mapping[str, Any], name: str) -> str:
    machine = result.get("machine", "")
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{key} {plain(machine[key])}" for key in MACHINE_KEYS if key in machine)
    parts = [f"`{result['command']}`", str(machine), str(result.get("created", ""))[:10], f"`results/{name}`"]
    return "; ".join(part for part in parts if part) + "."


def main(arguments: list[str]) -> int:
    """Rewrite, or with --check compare; the exit code."""
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        made = render_document(text, ROOT / "results")
        if made != text:
            stale.append(path.relative_to(ROOT))
            if "--check" not in arguments:
                path.write_text(made, encoding="utf-8")
    for path in stale:
        print(f"{path}: {'out of date' if '--check' in arguments else 'rewritten'}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
