"""report.html: one file that needs nothing else, readable on a telephone, in light and in dark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resfit.reporting import tables, wording
from resfit.reporting.charts import candidates_picture, interval_picture
from resfit.reporting.content import Answer, ReportContent
from resfit.reporting.curves import training_picture
from resfit.reporting.images import overlay_uri, picture_uri
from resfit.reporting.network_drawing import network_picture
from resfit.reporting.reliability import calibration_words, reliability_picture
from resfit.storage import write_atomic

REPORT_NAME = "report.html"


def write_report(folder: str | Path, content: ReportContent, *, name: str = REPORT_NAME) -> Path:
    """Write FOLDER/NAME and return its path; the file refers to nothing outside itself."""
    path = Path(folder) / name
    write_atomic(path, render_report(content).encode("utf-8"))
    return path


def render_report(content: ReportContent) -> str:
    """The page as text. Every value is escaped; a section without content is left out."""
    return rendered("report.html", _page(content))


def rendered(template: str, values: Mapping[str, Any]) -> str:
    """A template of this room filled in; a name that is missing from `values` is an error, never a gap."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("resfit.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def _page(content: ReportContent) -> dict[str, Any]:
    return {
        "title": content.title,
        "content": content,
        **_fit_sections(content),
        **_test_sections(content),
        "curve": training_picture(content.curve),
        "network": network_picture(content.network) if content.network else None,
        "audit": tables.audit_table(content.audit) if content.audit else None,
        "provenance": worded(content.provenance),
    }


def _fit_sections(content: ReportContent) -> dict[str, Any]:
    return {
        "budgets": [tables.budget_row(verdict) for verdict in content.budgets],
        "nearest": tables.table(content.nearest),
        "candidates": candidates_picture(
            content.candidates,
            latency_limit_ms=content.latency_limit_ms,
            file_limit_bytes=content.file_limit_bytes,
            min_accuracy=content.min_accuracy,
        ),
        "race": tables.race_rows(content.candidates, len(content.rungs)),
        "dropped": tables.dropped_rows(content.candidates),
        "rungs": [tables.rung_words(rung) for rung in content.rungs],
    }


def _test_sections(content: ReportContent) -> dict[str, Any]:
    test, calibration = content.test, content.calibration
    return {
        "accuracy": tables.accuracy_words(test) if test else None,
        "interval": interval_picture(test, content.min_accuracy) if test else None,
        "confusion": tables.confusion_table(test) if test else None,
        "mix_ups": tables.mix_ups(test) if test else [],
        "classes": tables.class_rows(content.classes),
        "reliability": reliability_picture(calibration) if calibration else None,
        "calibration": calibration_words(calibration) if calibration else "",
        "mistakes": answers(content.mistakes),
        "right": answers(content.right),
    }


def worded(provenance: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, str]]:
    """Every fact of every section that has some, as text."""
    return {
        section: {name: wording.plain(value) for name, value in facts.items()}
        for section, facts in provenance.items()
        if facts
    }


def answers(items: Sequence[Answer]) -> list[dict[str, Any]]:
    """Pictures and words of some answers."""
    return [
        {
            "image": picture_uri(item.pixels),
            "overlay": None if item.looked is None else overlay_uri(item.pixels, item.looked),
            "name": item.name,
            "short": wording.short_path(item.name),
            "label": item.label,
            "predicted": item.predicted,
            "probability": wording.percent(item.probability),
        }
        for item in items
    ]
