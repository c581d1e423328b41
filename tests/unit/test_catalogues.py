"""The catalogues of events and metrics are what the code logs and exports, and what the pages say."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.tables import fill, places, tables
from tests.documents import PAGES
from tests.fix_postgres import CHECKOUT
from walvec.events import EVENTS
from walvec.observe import metrics
from walvec.observe.metrics import METRICS, Metric
from walvec.observe.prometheus import Exposition
from walvec.observe.telemetry import Telemetry

MODULES = sorted(path for package in ("slots", "consumer") for path in (CHECKOUT / package).rglob("*.py"))
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGER = "_log"


class LogCall(NamedTuple):
    """A call that logs: where it is, the event, and the method."""

    place: str
    event: str | None
    level: str


def log_calls() -> Iterator[LogCall]:
    """Yield every call of a logger in the product."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="_log" | "log"), attr=level), args=[first, *_]
                ) if level in LEVELS:
                    event = first.value if isinstance(first, ast.Constant) else None
                    place = f"{path.relative_to(CHECKOUT)}:{node.lineno}"
                    yield LogCall(place, event if isinstance(event, str) else None, level)


def test_every_event_that_is_logged_is_in_the_catalogue_at_its_level() -> None:
    """A call site names an event of the catalogue by a literal, and logs it at the event's level."""
    levels = {event.name: event.level for event in EVENTS}
    assert [call for call in log_calls() if levels.get(call.event or "") != call.level] == []


def test_every_event_of_the_catalogue_is_logged_somewhere() -> None:
    """The catalogue has no event that no call site logs."""
    logged = {call.event for call in log_calls()}
    assert {event.name for event in EVENTS} - logged == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_logger_has_the_name_that_is_looked_for(path: Path) -> None:
    """No call escapes the tests above because its module calls the logger by another name."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if "structlog.get_logger(" in line:
            assert line == f"{LOGGER} = structlog.get_logger(__name__)"


def test_an_event_has_a_stable_name() -> None:
    """Names are dotted words of lower-case letters, and no name occurs twice."""
    names = [event.name for event in EVENTS]
    assert len(names) == len(set(names))
    assert [name for name in names if not all(part.isidentifier() for part in name.split("."))] == []
    assert [name for name in names if name.count(".") != 1 or name != name.lower()] == []


def test_every_metric_that_is_declared_has_a_section() -> None:
    """The sections of the page hold each metric of the module once."""
    declared = [metric for metric in vars(metrics).values() if isinstance(metric, Metric)]
    assert sorted(METRICS, key=str) == sorted(declared, key=str)


def test_every_metric_is_exported_and_no_other() -> None:
    """A process that has done nothing yet exports the name, type and meaning of all metrics."""
    exported = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in text_string_to_metric_families(Exposition(Telemetry("hashing")).text().decode())
    }
    assert exported == {(metric.name, metric.kind, metric.meaning) for metric in METRICS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_the_tables_of_the_catalogues(page: Path) -> None:
    """`make docs` would change nothing on the page."""
    text = page.read_text(encoding="utf-8")
    assert fill(text) == text


def test_every_table_is_on_one_page() -> None:
    """Each table of the catalogues is on the pages exactly once."""
    shown = [name for page in PAGES for name in places(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(tables())
