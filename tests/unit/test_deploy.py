"""The systemd unit and the Kubernetes manifests fit the program: settings, exit codes, ports, bounds."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, cast

import pytest
import typer.main
import yaml
from typer import Typer

from walvec.cli.app import app
from walvec.config.load import Config, load_config
from walvec.config.sections import PipelineSettings
from walvec.errors import ConfigInvalid, TooManyDeadLetters, UsageInvalid
from walvec.observe.health import routes
from walvec.observe.telemetry import Telemetry
from walvec.stages.timing import TIMING
from walvec_slots.errors import ConnectionLost, MalformedMessage, PreconditionFailed, SlotActive, SlotLost

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "compose/systemd/walvec.service"
KUBERNETES = ROOT / "compose/kubernetes"
DOCKERFILE = (ROOT / "compose/walvec/Dockerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")

PROGRAM_BYTES = 150 * 10**6  # that the program may hold besides max_buffer_bytes: tests/crash/test_bounds.py
UNITS = {"Mi": 2**20, "Gi": 2**30, "M": 2**20, "G": 2**30}

Json = dict[str, Any]


def manifest(name: str) -> Json:
    """Read the one document of a manifest."""
    return cast("Json", yaml.safe_load((KUBERNETES / f"{name}.yaml").read_text(encoding="utf-8")))


def pod(name: str) -> Json:
    """Return the pod's specification in a manifest."""
    return cast("Json", manifest(name)["spec"]["template"]["spec"])


def container(name: str) -> Json:
    """Return the pod's one container in a manifest."""
    [only] = pod(name)["containers"]
    return cast("Json", only)


def size(text: str) -> int:
    """Return bytes."""
    number, unit = re.fullmatch(r"(\d+)([A-Z]i?)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def assert_is_a_command_line(arguments: list[str], program: Typer = app) -> str:
    """Fail unless walvec takes these arguments; return the command's name."""
    command, *rest = arguments
    commands = typer.main.get_command(program).commands  # type: ignore[attr-defined]
    commands[command].make_context(command, rest, resilient_parsing=False)
    return command


UNIT_LINES: Final = [
    line.partition("=")[::2]
    for line in UNIT.read_text(encoding="utf-8").splitlines()
    if "=" in line and not line.startswith("#")
]


def of_unit(key: str) -> list[str]:
    """Return the values of a key of the unit."""
    return [value for name, value in UNIT_LINES if name == key]


class TestUnit:
    """compose/systemd/walvec.service."""

    def test_a_restart_is_kept_for_what_it_may_mend(self) -> None:
        """Settings, preconditions and a lost slot need somebody; anything else may pass."""
        [codes] = of_unit("RestartPreventExitStatus")
        final = {each.exit_code for each in (ConfigInvalid, UsageInvalid, PreconditionFailed, SlotLost)}
        passing = {
            each.exit_code for each in (ConnectionLost, SlotActive, MalformedMessage, TooManyDeadLetters)
        }
        assert set(map(int, codes.split())) == final
        assert not final & passing
        assert of_unit("Restart") == ["on-failure"]

    def test_it_is_given_time_to_stop(self) -> None:
        """The service manager waits for longer than walvec takes."""
        [seconds] = of_unit("TimeoutStopSec")
        assert int(seconds) > TIMING.drain_limit + 5

    def test_it_runs_a_command_that_is_there(self) -> None:
        """The command line is one of walvec's, and the settings are what systemd hands over."""
        [line] = of_unit("ExecStart")
        program, *arguments = shlex.split(line)
        assert Path(program).name == "walvec"
        assert assert_is_a_command_line(arguments) == "run"
        assert arguments[-1] == "${CREDENTIALS_DIRECTORY}/walvec.toml"

    def test_secrets_are_handed_over_and_used(self) -> None:
        """Each credential is read by a line of the unit, and told of on the page."""
        credentials = dict(each.split(":") for each in of_unit("LoadCredential"))
        used = " ".join([*of_unit("ExecStart"), *of_unit("ExecStartPre")])
        assert set(re.findall(r"\$\{CREDENTIALS_DIRECTORY\}/([\w.]+)", used)) == set(credentials)
        files = {*credentials.values(), *(each.lstrip("-") for each in of_unit("EnvironmentFile"))}
        assert all(path in PAGE for path in files)

    def test_memory_is_enough(self) -> None:
        """The bounds are above what walvec holds with its default settings."""
        assert size(*of_unit("MemoryHigh")) > PipelineSettings().max_buffer_bytes + PROGRAM_BYTES

    def test_systemd_takes_it(self, tmp_path: Path) -> None:
        """No key that it does not know, no value that it does not understand."""
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("systemd-analyze is not installed")
        [line] = of_unit("ExecStart")
        text = UNIT.read_text(encoding="utf-8").replace(line.split()[0], sys.executable)
        (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [program, "verify", str(tmp_path / UNIT.name)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        said = [each for each in done.stderr.splitlines() if UNIT.name in each]
        assert (done.returncode, said) == (0, [])


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """Load the settings as the container of the Deployment does."""
    secret = manifest("secret.example")["stringData"]
    given = {each["name"]: each["value"] for each in container("deployment")["env"]}
    for name, value in {**secret, **given}.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "walvec.toml"
    path.write_text(manifest("configmap")["data"]["walvec.toml"], encoding="utf-8")
    return load_config(path)


class TestKubernetes:
    """compose/kubernetes/."""

    @pytest.mark.parametrize("path", sorted(KUBERNETES.glob("*.yaml")), ids=lambda path: path.stem)
    def test_a_manifest_is_one_object_that_is_told_of(self, path: Path) -> None:
        """Version, kind, name and label; and the page says what it is for."""
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"apiVersion", "kind", "metadata"} < set(document)
        assert document["metadata"]["name"] in {"walvec", "walvec-setup"}
        assert document["metadata"]["labels"]["app.kubernetes.io/name"] == "walvec"
        assert path.name in PAGE

    def test_settings_are_valid(self, deployed: Config) -> None:
        """The file of the ConfigMap, the variables of the Secret and the container pass every check."""
        assert [vectorizer.name for vectorizer in deployed.vectorizers] == ["blog"]
        assert deployed.source_dsn
        assert deployed.embedder.api_key_env in manifest("secret.example")["stringData"]

    def test_no_secret_is_in_the_settings(self) -> None:
        """The ConfigMap, which many may read, holds no connection string."""
        assert "dsn =" not in manifest("configmap")["data"]["walvec.toml"]

    @pytest.mark.parametrize("name", ["deployment", "setup"])
    def test_settings_and_secrets_come_from_the_objects_beside(self, name: str) -> None:
        """Their names are those of the manifests, and the image looks where the file is mounted."""
        [source] = container(name)["envFrom"]
        [volume], [mount] = pod(name)["volumes"], container(name)["volumeMounts"]
        assert source["secretRef"]["name"] == manifest("secret.example")["metadata"]["name"]
        assert volume["configMap"]["name"] == manifest("configmap")["metadata"]["name"]
        assert mount["name"] == volume["name"]
        assert f"\nWORKDIR {mount['mountPath']}\n" in DOCKERFILE

    def test_probes_ask_what_is_answered(self, deployed: Config) -> None:
        """Paths are the server's, the port is the one that it listens on, on every interface."""
        [port] = container("deployment")["ports"]
        assert deployed.http.address == ("0.0.0.0", port["containerPort"])
        probes = {
            key: container("deployment")[key]["httpGet"] for key in container("deployment") if "Probe" in key
        }
        assert {key: probe["path"] for key, probe in probes.items()} == {
            "startupProbe": "/livez",
            "livenessProbe": "/livez",
            "readinessProbe": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {port["name"]}

    def test_probed_paths_exist(self) -> None:
        """And so does the one that is scraped."""
        import asyncio

        [endpoint] = manifest("podmonitor")["spec"]["podMetricsEndpoints"]
        assert {"/livez", "/readyz", endpoint["path"]} == set(routes(Telemetry("hashing"), asyncio.Event()))

    def test_there_is_one_process_at_a_time(self) -> None:
        """One replica, and the old one goes before the new one comes."""
        spec = manifest("deployment")["spec"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert pod("deployment")["terminationGracePeriodSeconds"] > TIMING.drain_limit + 5

    def test_labels_choose_the_deployments_pod_and_no_other(self) -> None:
        """The Job's pod is neither the Deployment's nor scraped."""
        labels = {
            name: manifest(name)["spec"]["template"]["metadata"]["labels"] for name in ("deployment", "setup")
        }
        for chooser in ("deployment", "podmonitor"):
            wanted = manifest(chooser)["spec"]["selector"]["matchLabels"]
            chosen = {name for name, given in labels.items() if wanted.items() <= given.items()}
            assert chosen == {"deployment"}

    @pytest.mark.parametrize(("name", "command"), [("deployment", "run"), ("setup", "setup")])
    def test_commands_are_there(self, name: str, command: str) -> None:
        """The image's entry point is walvec, and it takes these arguments."""
        assert '\nENTRYPOINT ["walvec"]\n' in DOCKERFILE
        assert "command" not in container(name)
        assert assert_is_a_command_line(container(name)["args"]) == command

    @pytest.mark.parametrize("name", ["deployment", "setup"])
    def test_it_has_no_right_that_it_does_not_need(self, name: str) -> None:
        """Not root, nothing to write, no capability, no token; variables of Services stay out."""
        security, of_container = pod(name)["securityContext"], container(name)["securityContext"]
        user = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
        assert security["runAsNonRoot"] is True
        assert [(str(security["runAsUser"]), str(security["runAsGroup"]))] == user
        assert of_container == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod(name)["automountServiceAccountToken"] is False
        assert pod(name)["enableServiceLinks"] is False

    def test_the_job_ends(self) -> None:
        """It is not started again in place, and not for ever."""
        assert pod("setup")["restartPolicy"] == "Never"
        assert manifest("setup")["spec"]["backoffLimit"] < 6

    def test_memory_is_enough(self) -> None:
        """What is asked for covers the buffer and the program, the limit a good deal more."""
        bound = PipelineSettings().max_buffer_bytes + PROGRAM_BYTES
        resources = container("deployment")["resources"]
        assert size(resources["requests"]["memory"]) > bound
        assert size(resources["limits"]["memory"]) > 2 * bound

    def test_other_commands_run_as_a_job(self) -> None:
        """What the page makes of setup.yaml is a Job of another name for another command."""
        [line] = re.findall(r"^(sed .+?) \|", PAGE, re.MULTILINE)
        done = subprocess.run(shlex.split(line), cwd=ROOT, capture_output=True, text=True, check=True)
        job = yaml.safe_load(done.stdout)
        assert job["metadata"]["name"] == "walvec-resync"
        [only] = job["spec"]["template"]["spec"]["containers"]
        assert assert_is_a_command_line(only["args"]) == "resync"


def test_files_that_are_named_exist() -> None:
    """A path on the page is one of the checkout's."""
    named = re.findall(r"(?<![/\w])(?:compose|docs|sql)/[\w./-]*\w", PAGE)
    assert [path for path in named if not (ROOT / path).exists()] == []
