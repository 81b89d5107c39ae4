"""Figures in the documents come from results/*.json: this writes them between the documents' markers.

    python docs/render.py           rewrite README.md and docs/*.md
    python docs/render.py --check   change nothing; exit 1 and name the documents that are out of date

A document says `<!-- render:NAME KEY KEY.. -->` .. `<!-- /render -->`, and what stands between is made from
results/NAME.json: a table with a column for each KEY, of

    rows or networks   a list of objects, one a table row; or
    budgets            as resfit.fit returns them; or
    the whole object   as one row (name its KEYs)

and a line that says where the numbers come from: command, commit, machine (an object or a text), and created or
measured, a time. `columns`, {key: heading}, replaces keys as headings. Numbers whose key speaks of accuracy or
agreement are fractions, shown as percentages. Where the file is missing, the document says so.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit.reporting.wording import BUDGET_NAMES, number, percent, plain, quantity

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(
    r"(?P<marker><!-- render:(?P<name>[\w-]+)(?P<keys>(?: [\w]+)*) -->\n)(?P<body>.*?)<!-- /render -->", re.DOTALL
)
ABSOLUTE = re.compile(r"(?<!\S)/\S*/([^/\s]+)")
MOST_COLUMNS = 12
MACHINE_KEYS = ("processor", "cores", "threads")


def documents(root: Path = ROOT) -> list[Path]:
    """The documents that may hold figures."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def render_document(text: str, results: Path) -> str:
    """The document with every marked part made anew from the results folder."""

    def replace(found: re.Match[str]) -> str:
        path = results / f"{found['name']}.json"
        if not path.exists():
            words = f"Not measured yet: `{path.name}` is made by the benchmark of that name."
            return f"{found['marker']}{words}\n<!-- /render -->"
        result = json.loads(path.read_text(encoding="utf-8"))
        return f"{found['marker']}{render_result(result, path.name, found['keys'].split())}<!-- /render -->"

    return MARKED.sub(replace, text)


def render_result(result: Mapping[str, Any], name: str, keys: Sequence[str] = ()) -> str:
    """A table and a line that says where its numbers come from."""
    rows = _rows(result)
    headings = result.get("columns") or {}
    columns = list(keys or headings or rows[0])
    if len(columns) > MOST_COLUMNS:
        raise ValueError(f"{name} would make {len(columns)} columns; name the keys to show in the marker")
    titles = [headings.get(key, key.replace("_", " ")) for key in columns]
    lines = [
        "| " + " | ".join(titles) + " |",
        "|" + "|".join("--:" if _numeric(rows, key) else "---" for key in columns) + "|",
        *("| " + " | ".join(_cell(key, row[key]) for key in columns) + " |" for row in rows),
        "",
        _origin(result, name),
    ]
    return "\n".join(lines) + "\n"


def _rows(result: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    for name in ("rows", "networks"):
        if name in result:
            return result[name]
    return _budget_rows(result["budgets"]) if "budgets" in result else [result]


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


def _numeric(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    values = [row[key] for row in rows if row[key] is not None]
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and key.endswith("interval"):
        return " to ".join(_cell(key, item) for item in value)
    if isinstance(value, list):
        return ", ".join(_cell(key, item) for item in value)
    if isinstance(value, float):
        return percent(value) if "accura" in key or "agreement" in key else number(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return plain(value).replace("|", "\\|")


def _origin(result: Mapping[str, Any], name: str) -> str:
    machine = result.get("machine", "")
    if isinstance(machine, Mapping):
        machine = ", ".join(f"{key} {plain(machine[key])}" for key in MACHINE_KEYS if key in machine)
    commit = f"commit {result['commit'][:10]}" if result.get("commit") else ""
    day = str(result.get("created") or result.get("measured") or "")[:10]
    command = ABSOLUTE.sub(r"\1", result["command"])  # where the data lay on that machine says nothing
    parts = [f"`{command}`", commit, str(machine), day, f"`results/{name}`"]
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
