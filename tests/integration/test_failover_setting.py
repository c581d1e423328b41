"""[source] failover and logical_decoding_work_mem on the server of the suite."""

import asyncio

import psycopg
import pytest

from tests.crash.observe import follow_blog, insert
from tests.fix_sidecar import Sidecar
from walvec.vectorizer.preconditions import examine
from walvec_slots.errors import PreconditionFailed
from walvec_slots.failover import FIRST_VERSION


@pytest.fixture
def old_server(sidecar: Sidecar) -> Sidecar:
    """Give a walvec on a server without failover slots."""
    if sidecar.source.info.server_version >= FIRST_VERSION:
        pytest.skip("this server has failover slots: tests/crash/test_failover_slots.py")
    return sidecar


def test_failover_is_refused_where_the_server_has_no_such_slots(old_server: Sidecar) -> None:
    """Check, setup and run give the same reason and remedy."""
    follow_blog(old_server)
    old_server.settings["source"]["failover"] = True
    found = asyncio.run(examine(old_server.config, offline=True))
    [failed] = [finding for finding in found if finding.level == "failed"]
    assert "has no failover slots" in failed.detail
    for command in (old_server.setup, old_server.once):
        refusal = old_server.refusal(command)
        assert isinstance(refusal, PreconditionFailed)
        assert refusal.what == failed.detail
        assert refusal.hint == failed.remedy


def test_auto_needs_no_failover_slots(old_server: Sidecar) -> None:
    """Check says what a promotion needs on such a server, and does not warn."""
    follow_blog(old_server)
    found = asyncio.run(examine(old_server.config, offline=True))
    subject = f'failover of slot "{old_server.slot}"'
    [finding] = [finding for finding in found if finding.subject == subject]
    assert (finding.level, "walvec resync" in finding.detail) == ("ok", True)


@pytest.mark.parametrize(("memory", "spills"), [("64kB", True), ("256MB", False)])
def test_memory_of_the_stream_is_as_set(sidecar: Sidecar, memory: str, *, spills: bool) -> None:
    """The server writes only larger transactions to its disk."""
    sidecar.settings["source"]["logical_decoding_work_mem"] = memory
    follow_blog(sidecar)
    insert(sidecar, 1, 3000, "x" * 100)
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()
    assert spilled(sidecar.source, sidecar.slot) is spills


def spilled(source: psycopg.Connection, slot: str) -> bool:
    """Whether the server has written transactions of a slot to its disk."""
    query = "SELECT spill_txns > 0 FROM pg_stat_replication_slots WHERE slot_name = %s"
    return source.execute(query, [slot]).fetchone() == (True,)
