"""The pair of compose/compose.yaml and the image fit each other, the settings and the program."""

import re
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml

from walvec.config.load import load_config
from walvec.config.sections import HttpSettings
from walvec.stages.timing import TIMING

COMPOSE = Path(__file__).parents[2] / "compose"
DOCKERFILE = (COMPOSE / "walvec/Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
FINAL_STAGE = DOCKERFILE.rpartition("\nFROM ")[2]

Json = dict[str, Any]
SERVICES: Final[dict[str, Json]] = yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))[
    "services"
]


def test_sample_configuration_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walvec.toml of the pair passes every check of the settings, with the variables of its service."""
    for name, value in SERVICES["walvec"]["environment"].items():
        monkeypatch.setenv(name, value)
    config = load_config(COMPOSE / "walvec/walvec.toml")
    assert [vectorizer.name for vectorizer in config.vectorizers] == ["blog"]
    assert config.http.address == ("0.0.0.0", 9187)


def test_ports_are_published_on_loopback_only() -> None:
    """Nothing of the pair asks for a password that is worth the name."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 4
    assert all(re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+", port) for port in ports)


def test_variables_that_may_be_set_are_named_at_the_top() -> None:
    """A file's own words say all that may be set from outside."""
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    head = text.partition("\nname:")[0]
    assert set(re.findall(r"\$\{(\w+):-", text)) == set(re.findall(r"\b[A-Z]+_(?:PASSWORD|PORT)\b", head))


def test_monitoring_comes_only_when_asked_for() -> None:
    """Prometheus and Grafana are of the profile `monitoring`, everything else is of none."""
    profiles = {name: service.get("profiles") for name, service in SERVICES.items()}
    asked_for = {name for name, profile in profiles.items() if profile == ["monitoring"]}
    assert asked_for == {"prometheus", "grafana"}
    assert [profiles[name] for name in profiles.keys() - asked_for] == [None] * 3


def test_what_is_mounted_is_there() -> None:
    """Every file of the checkout that a service sees exists."""
    volumes = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert [path for path in volumes if path.startswith(".") and not (COMPOSE / path).exists()] == []


def test_prometheus_is_told_where_walvec_is() -> None:
    """The target is the service, at the port that it listens on."""
    text = (COMPOSE / "prometheus/prometheus.yml").read_text(encoding="utf-8")
    [job] = cast("Json", yaml.safe_load(text))["scrape_configs"]
    [[target]] = [each["targets"] for each in job["static_configs"]]
    service, _, port = target.partition(":")
    assert SERVICES[service]["environment"]["WALVEC_HTTP__LISTEN"] == f"0.0.0.0:{port}"


def test_it_is_given_time_to_stop() -> None:
    """The engine waits for longer than walvec takes."""
    assert int(SERVICES["walvec"]["stop_grace_period"].removesuffix("s")) > TIMING.drain_limit + 5


def test_image_runs_as_nobody_in_particular() -> None:
    """The last word on the user is a number, and not root's: by a name, Kubernetes cannot tell."""
    assert re.findall(r"^USER (.+)$", FINAL_STAGE, re.MULTILINE) == ["10001:10001"]
    assert SERVICES["walvec"]["read_only"] is True


def test_image_looks_after_its_health() -> None:
    """The check asks /livez, at the port that walvec listens on unless told otherwise."""
    address = HttpSettings().address
    assert address
    [check] = re.findall(r"^HEALTHCHECK .+ CMD (\[.+\])$", FINAL_STAGE, re.MULTILINE)
    program, option, script = yaml.safe_load(check)
    assert (program, option) == ("python", "-c")
    compile(script, "HEALTHCHECK", "exec")
    assert f"HTTPConnection('{address[0]}', {address[1]}" in script
    assert "'/livez'" in script
    assert f"\nEXPOSE {address[1]}\n" in FINAL_STAGE


def test_image_is_built_from_what_it_may_see() -> None:
    """Each file that is copied by name passes the ignore file, and is there."""
    seen = (COMPOSE / "walvec/Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    patterns = [line.removeprefix("!") for line in seen if line.startswith("!")]
    copied = [name for name in re.findall(r"^COPY ([\w.-]+) ", DOCKERFILE, re.MULTILINE) if name != "."]
    root = COMPOSE.parent
    assert copied == ["requirements-dev.lock", "requirements.lock"]
    assert all(any(Path(name).match(pattern) for pattern in patterns) for name in copied)
    assert all(list(root.glob(pattern)) for pattern in patterns)
    assert "--require-hashes" in FINAL_STAGE
