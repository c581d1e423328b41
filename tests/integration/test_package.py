"""The wheel: what is in it, and that it works where the checkout is not."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the locked build backend."""
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", directory, CHECKOUT)
    (built,) = directory.glob("walvec-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into an environment of its own, and give its bin directory."""
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    run(sys.executable, "-m", "pip", "--python", environment, "install", "--no-deps", "--no-index", wheel)
    return environment / "bin"


def run(*command: str | Path) -> str:
    """Run a command away from the checkout; the dependencies are those of the environment under test."""
    # A directory on PYTHONPATH is searched, but its .pth files, which lead to the checkout, are not read.
    dependencies = sysconfig.get_path("purelib")
    result = subprocess.run(
        command,
        cwd="/",
        env=os.environ | {"PYTHONPATH": dependencies, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_wheel_holds_both_packages_and_the_sql(wheel: Path) -> None:
    """The wheel installs walvec and walvec_slots with the SQL inside, and nothing else of the checkout."""
    expected = {
        str(path.relative_to(CHECKOUT / root))
        for root in ("consumer", "slots")
        for path in (CHECKOUT / root).rglob("*.py")
    }
    expected |= {f"walvec_slots/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "sql").rglob("*.sql")}
    expected |= {"walvec_slots/py.typed", "walvec/py.typed"}
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_installed_wheel_finds_its_sql(installed: Path) -> None:
    """The SQL is read from beside the installed packages, without the checkout."""
    program = (
        "import walvec_slots.queries as q; "
        "print(q.FOLDER); print(bool(q.load_sql('slots.sql')) and any(q.FOLDER.glob('migrations/*.sql')))"
    )
    where, loaded = run(installed / "python", "-c", program).split()
    assert (Path(where).is_relative_to(installed.parent), loaded) == (True, "True")


def test_installed_demo_tells_its_story(installed: Path) -> None:
    """The demo needs no file of the checkout: its SQL, its watchdog and its walvec are the installed ones."""
    assert "0 missing, 0 stale, 0 orphaned" in run(installed / "walvec", "demo")


def test_wheel_names_its_extras(wheel: Path) -> None:
    """What `pip install 'walvec[demo,local]'` brings is in the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    extras = {line.partition(": ")[2] for line in lines if line.startswith("Provides-Extra: ")}
    assert extras == {"demo", "local", "otel"}


def test_packages_of_the_users_own_may_be_called_consumer_and_slots(installed: Path, tmp_path: Path) -> None:
    """The wheel takes only its own two names: an application's `consumer` and `slots` stay importable."""
    for name in ("consumer", "slots"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OWN = True\n")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "import consumer, slots, walvec.pipeline, walvec.cli.app; print(consumer.OWN and slots.OWN)"
    )
    assert run(installed / "python", "-c", program).strip() == "True"


def test_installed_command_runs(installed: Path) -> None:
    """The walvec command starts from the wheel, as a script and as a module."""
    assert "walvec" in run(installed / "python", "-m", "walvec", "--help")
    assert "walvec" in run(installed / "walvec", "--help")
