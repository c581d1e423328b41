"""Alerts and dashboard use what walvec exports; a page explains each alert."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml

import walvec.errors
import walvec_slots.errors
from walvec.observe.metrics import METRICS, Metric

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "compose/prometheus"
GRAFANA = ROOT / "compose/grafana"
PAGE = (ROOT / "docs/operations/alerts.md").read_text(encoding="utf-8")

METRICS_BY_NAME = {metric.name: metric for metric in METRICS}
# Labels that Prometheus and histograms add.
SERVERS_OWN = {"job", "instance", "le"}
SELECTOR = re.compile(r"\b(walvec_\w+)(?:\{([^}]*)\})?")
DASHBOARD_WIDTH = 24  # Grafana's grid

Json = dict[str, Any]


def read(path: Path) -> Json:
    """Read a YAML file."""
    return cast("Json", yaml.safe_load(path.read_text(encoding="utf-8")))


RULES: Final[list[Json]] = [
    rule for group in read(PROMETHEUS / "walvec.rules.yml")["groups"] for rule in group["rules"]
]
DASHBOARD: Final[Json] = json.loads((GRAFANA / "dashboards/walvec.json").read_text(encoding="utf-8"))
PANELS: Final[list[Json]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def dashboard_expressions() -> Iterator[str]:
    """Yield every query of the dashboard with its variables filled in."""
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    for query in queries:
        yield re.sub(r'"\$\w+"', '".*"', query).replace("$__rate_interval", "5m")


EXPRESSIONS = [*(rule["expr"] for rule in RULES), *dashboard_expressions()]


def exported(name: str) -> Metric | None:
    """Return the metric that a series' name belongs to."""
    metric = METRICS_BY_NAME.get(name) or METRICS_BY_NAME.get(re.sub(r"_(bucket|sum|count)$", "", name))
    return metric if metric and (metric.name == name) != (metric.kind == "histogram") else None


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_what_is_exported_is_asked_for(expression: str) -> None:
    """Every metric and label in a query exists: otherwise an alert would never fire."""
    series = SELECTOR.findall(expression)
    assert [name for name, _ in series if exported(name) is None] == []
    for name, matchers in series:
        metric = exported(name)
        assert metric
        assert set(re.findall(r"(\w+)\s*[=!]", matchers)) <= {*metric.labels, *SERVERS_OWN}
    known = {label for name, _ in series for label in cast("Metric", exported(name)).labels}
    grouped = {
        label for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in labels.split(", ")
    }
    assert grouped <= known | SERVERS_OWN


def test_errors_that_are_left_out_exist() -> None:
    """The error classes that an alert leaves out exist in the code."""
    [classes] = re.findall(r'error!~"([\w|]+)"', " ".join(rule["expr"] for rule in RULES))
    assert all(
        hasattr(walvec.errors, name) or hasattr(walvec_slots.errors, name) for name in classes.split("|")
    )


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_how_grave_it_is_and_where_help_is(rule: Json) -> None:
    """An alert has a severity, texts, and a link to its heading on the page."""
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations/alerts.md#{rule['alert'].lower()}"


def test_every_alert_is_explained_and_no_other() -> None:
    """The page has a heading for each alert, in the rules' order, with its severity."""
    explained = re.findall(r"^## (\w+)\n\n\*(\w+)\.\* (.+?)(?=\n## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert [(name, severity.lower()) for name, severity, _ in explained] == [
        (rule["alert"], rule["labels"]["severity"]) for rule in RULES
    ]
    assert PAGE.count("\n## ") == len(RULES)


def test_every_alert_is_tried() -> None:
    """The rules' tests make each alert fire."""
    tests = read(PROMETHEUS / "walvec.rules.test.yml")["tests"]
    fired = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in RULES}


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> None:
    """Run promtool; fail with its output."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run(
        [program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_do_what_they_are_to_do() -> None:
    """Prometheus' own tool runs the rules' tests."""
    promtool("test", "rules", "walvec.rules.test.yml")


def test_prometheus_takes_its_configuration() -> None:
    """Prometheus accepts its configuration and the rules named there."""
    promtool("check", "config", "prometheus.yml")


def test_queries_of_the_dashboard_parse(tmp_path: Path) -> None:
    """Each query of the dashboard is valid as a recording rule."""
    rules = [
        {"record": f"panel:{number}", "expr": query} for number, query in enumerate(dashboard_expressions())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", "rules.yml", cwd=tmp_path)


def test_prometheus_scrapes_a_job_that_the_rules_look_for() -> None:
    """The scraped job's name is one of those in WalvecDown."""
    config = read(PROMETHEUS / "prometheus.yml")
    [job] = config["scrape_configs"]
    [pattern, _] = re.findall(r'up\{job=~"([^"]+)"\}', RULES[0]["expr"])
    assert re.fullmatch(pattern, job["job_name"])
    assert re.fullmatch(pattern, "a-namespace/walvec")  # a PodMonitor's
    assert all((PROMETHEUS / name).exists() for name in config["rule_files"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows(panel: Json) -> None:
    """A panel has a title, a sentence, a unit, and distinct queries."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [source] * (
        len(panel["targets"]) + 1
    )
    letters = [target["refId"] for target in panel["targets"]]
    assert letters
    assert len(set(letters)) == len(letters)


def test_panels_lie_side_by_side() -> None:
    """No two panels share a number or a place, and all fit the grid."""
    taken = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < DASHBOARD_WIDTH
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_variables_of_the_dashboard_are_its_own() -> None:
    """The dashboard defines each variable that a query uses, by an exported metric."""
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD["panels"])))
    assert used == set(variables)
    for name in used - {"datasource"}:
        [(metric, _)] = SELECTOR.findall(variables[name]["query"]["query"])
        assert name in {*cast("Metric", exported(metric)).labels, *SERVERS_OWN}


def test_grafana_finds_data_source_and_dashboard() -> None:
    """Grafana's provisioning matches what the compose file mounts and names."""
    [source] = read(GRAFANA / "provisioning/datasources/prometheus.yaml")["datasources"]
    [provider] = read(GRAFANA / "provisioning/dashboards/walvec.yaml")["providers"]
    services = read(ROOT / "compose/compose.yaml")["services"]
    assert source["url"] == "http://prometheus:9090"
    assert services["prometheus"]["ports"] == ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]
    mounted = {volume.split(":")[1] for volume in services["grafana"]["volumes"]}
    assert mounted == {"/etc/grafana/provisioning", provider["options"]["path"]}
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (GRAFANA / "dashboards" / home.name).exists()
