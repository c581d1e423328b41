import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from walvec.observe import telemetry
from walvec.observe.prometheus import Exposition
from walvec.observe.telemetry import Metric, Telemetry

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(walvec_\w+)` \| (\w+) \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)

METRICS = {each for each in vars(telemetry).values() if isinstance(each, Metric)}


def test_every_metric_is_on_the_page_and_no_other() -> None:
    """Name, type, labels and unit are the code's, and the meaning begins with its help text."""
    by_name = {each.name: each for each in METRICS}
    described = {name: (kind, labels, unit) for name, kind, labels, unit, _ in ROW.findall(PAGE)}
    assert described == {
        each.name: (each.kind, ", ".join(f"`{label}`" for label in each.labels) or "-", each.unit)
        for each in METRICS
    }
    assert [
        name for name, *_, meaning in ROW.findall(PAGE) if not meaning.startswith(by_name[name].meaning)
    ] == []


def test_every_metric_is_exported_and_no_other() -> None:
    """A process that has done nothing yet names all of them."""
    exported = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in text_string_to_metric_families(Exposition(Telemetry("hashing")).text().decode())
    }
    assert exported == {(each.name, each.kind, each.meaning) for each in METRICS}
