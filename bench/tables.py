"""The tables of the pages that are made from catalogues: `python -m bench.tables` (`make docs`) writes them.

A page marks the place of a table by a comment, `<!-- make docs: events -->`; the lines of a table right after
it are replaced. Catalogues are `walvec.events` and `walvec.observe.metrics`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from walvec.events import EVENTS
from walvec.observe.metrics import SECTIONS, Metric

DOCS = Path(__file__).parents[1] / "docs"

_PLACE = re.compile(r"^(<!-- make docs: (.+) -->\n)((?:\|.*\n)*)", re.MULTILINE)


def tables() -> Mapping[str, str]:
    """Return every table by its name on the pages."""
    metrics = {f"metrics, {heading}": _metrics_table(metrics) for heading, metrics in SECTIONS.items()}
    return {"events": _events_table(), **metrics}


def places(page: str) -> list[str]:
    """Return the names of the tables that a page has."""
    return [name for _, name, _ in _PLACE.findall(page)]


def fill(page: str) -> str:
    """Return the page with every table as the catalogue has it. Raises KeyError for an unknown table."""
    made = tables()
    return _PLACE.sub(lambda place: place[1] + made[place[2]], page)


def main() -> None:
    """Write the tables of every page."""
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (filled := fill(page)) != page:
            path.write_text(filled, encoding="utf-8")


def _events_table() -> str:
    rows = [(f"`{event.name}`", event.level, event.meaning) for event in EVENTS]
    return _table(("event", "level", "meaning, and what to do"), rows)


def _metrics_table(metrics: Iterable[Metric]) -> str:
    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            ", ".join(f"`{label}`" for label in metric.labels) or "-",
            metric.unit,
            f"{metric.meaning}. {metric.note}" if metric.note else metric.meaning,
        )
        for metric in metrics
    ]
    return _table(("metric", "type", "labels", "unit", "meaning"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    main()
