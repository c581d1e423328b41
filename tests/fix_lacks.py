"""What a PostgreSQL server may lack, and the skipping of the tests that need it.

    @pytest.mark.needs("wal2json")     skips the test, or the module's, where the server has no wal2json
    require(connection, "ICU")         the same, in a test or a fixture

A test that is parametrised by `plugin` needs that plugin without saying so. pytest's end says how many tests
were skipped for which lack.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

import psycopg
import pytest

Feature = Literal["ICU", "TLS", "output_plugin_libraries", "pgoutput", "test_decoding", "wal2json", "xml"]

_SKIPPED = "the server lacks "
_lacking: dict[tuple[str, int, str], bool] = {}


def require(connection: psycopg.Connection, *features: Feature | str) -> None:
    """Skip the test unless the server has all of these; a name that is no feature is an extension's."""
    for feature in features:
        if lacks(connection, feature):
            version = connection.info.server_version // 10_000
            pytest.skip(f"{_SKIPPED}{feature} (PostgreSQL {version})")


def lacks(connection: psycopg.Connection, feature: Feature | str) -> bool:
    """Whether a server, reached by an autocommit connection, lacks a feature or an extension.

    Each server is asked once, because looking for a plugin waits for open transactions.
    """
    known = (connection.info.host, connection.info.port, feature)
    if known not in _lacking:
        _lacking[known] = not _LOOKS.get(feature, partial(_has_extension, name=feature))(connection)
    return _lacking[known]


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    """Skip the test where the server lacks what it is marked to need, or its plugin."""
    needed = [feature for mark in request.node.iter_markers("needs") for feature in mark.args]
    callspec = getattr(request.node, "callspec", None)
    if callspec and "version" in request.fixturenames and callspec.params.get("plugin") in _LOOKS:
        needed.append(callspec.params["plugin"])
    if needed:
        with psycopg.connect(request.getfixturevalue("server"), autocommit=True) as connection:
            require(connection, *needed)


def default_plugin(dsn: str) -> str:
    """Give wal2json where the server has it, else pgoutput, as `plugin = "auto"` does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return "pgoutput" if lacks(connection, "wal2json") else "wal2json"


def _has_extension(connection: psycopg.Connection, name: str) -> bool:
    query = "SELECT 1 FROM pg_available_extensions WHERE name = %s"
    return connection.execute(query, [name]).fetchone() is not None


def _has_icu(connection: psycopg.Connection) -> bool:
    """Whether initdb found ICU's collations; one named `unicode` is there without them, from 16 on."""
    query = "SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu'"
    return connection.execute(query).fetchone() is not None


def _has_tls(connection: psycopg.Connection) -> bool:
    return connection.execute("SHOW ssl_library").fetchone() != ("",)


def _has_libraries(connection: psycopg.Connection) -> bool:
    """Whether the minor release is of 2026 or later, and names the plugins that it allows."""
    query = "SELECT current_setting('output_plugin_libraries', true)"
    return connection.execute(query).fetchone() != (None,)


def _has_plugin(connection: psycopg.Connection, plugin: str) -> bool:
    """Whether a temporary slot of it can be made: since 2026 a server may have a plugin and not allow it."""
    name = f"lacks_{connection.info.backend_pid}"
    try:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, %s, true)", [name, plugin])
    except (psycopg.errors.UndefinedFile, psycopg.errors.InsufficientPrivilege):
        return False
    connection.execute("SELECT pg_drop_replication_slot(%s)", [name])
    return True


def _has_xml(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


_LOOKS: dict[str, Callable[[psycopg.Connection], bool]] = {
    "ICU": _has_icu,
    "TLS": _has_tls,
    "output_plugin_libraries": _has_libraries,
    "pgoutput": lambda _: True,
    "test_decoding": partial(_has_plugin, plugin="test_decoding"),
    "wal2json": partial(_has_plugin, plugin="wal2json"),
    "xml": _has_xml,
}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for which lack, before pytest's own last line."""
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if (found := reason.removeprefix("Skipped: ")).startswith(_SKIPPED):
            counts[found.removeprefix(_SKIPPED)] += 1
    if counts:
        terminalreporter.section("skipped for what a server lacks")
    for lack, count in sorted(counts.items()):
        terminalreporter.line(f"{lack}: {count}")
