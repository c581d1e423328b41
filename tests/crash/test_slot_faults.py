"""A slot that is lost, moved or of another server: exit 4, what happened, and the command that fixes it.

Going on would lose changes without a word, so nothing is read and nothing is written.
"""

from collections.abc import Callable

import pytest

from tests.crash.observe import checkpoint, committed_texts, follow_blog, insert
from tests.fix_postgres import Cluster
from tests.fix_process import Process, until
from tests.fix_sidecar import Sidecar
from walvec_slots.errors import SlotLost

DROP = "SELECT pg_drop_replication_slot(%s)"
RECREATE = "SELECT pg_create_logical_replication_slot(%s, 'wal2json')"
ADVANCE = "SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())"


@pytest.fixture
def rested(sidecar: Sidecar) -> Sidecar:
    """Give a walvec that was in step and has stopped; a change has come since."""
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    sidecar.once()
    insert(sidecar, 6, 5)
    return sidecar


def refuses(sidecar: Sidecar, process: Process, words: str) -> None:
    """Wait for exit code 4: `words` say what happened, and nothing is written.

    The command that fixes it is named.
    """
    assert process.wait() == SlotLost.exit_code == 4
    said = " ".join(line["event"] for line in process.log[-4:])
    assert words in said
    assert sidecar.slot in said
    assert "walvec resync" in said
    assert committed_texts(sidecar) == {f"row {n}" for n in range(1, 6)}


def test_slot_was_dropped(rested: Sidecar) -> None:
    """A slot that is gone has lost every change since the checkpoint, which is named."""
    rested.source.execute(DROP, [rested.slot])
    refuses(rested, rested.start("run"), f"changes since {checkpoint(rested)} are missing")


def test_slot_was_made_again(rested: Sidecar) -> None:
    """A slot of the same name that begins later than the checkpoint is another one."""
    rested.source.execute(DROP, [rested.slot])
    rested.source.execute(RECREATE, [rested.slot])
    refuses(rested, rested.start("run"), "somebody else moved it or recreated it")


def test_slot_was_advanced(rested: Sidecar) -> None:
    """A slot past the checkpoint has forgotten changes that were never embedded."""
    rested.source.execute(ADVANCE, [rested.slot])
    refuses(rested, rested.start("run"), f"past the checkpoint {checkpoint(rested)}")


def test_target_was_restored(rested: Sidecar) -> None:
    """A target restored from a backup has an older checkpoint than the slot was told."""
    rested.target.execute("UPDATE walvec.checkpoint SET lsn = lsn - 1000 WHERE slot = %s", [rested.slot])
    refuses(rested, rested.start("run"), "changes between are missing")


def test_source_was_restored(rested: Sidecar) -> None:
    """A source restored from a backup ends before the checkpoint."""
    rested.target.execute("UPDATE walvec.checkpoint SET lsn = 'FFFFFFFF/0' WHERE slot = %s", [rested.slot])
    refuses(rested, rested.start("run"), "the source was restored to an earlier state")


def test_source_is_another_server(rested: Sidecar) -> None:
    """LSNs of another server mean nothing here."""
    rested.target.execute("UPDATE walvec.checkpoint SET system_identifier = 1 WHERE slot = %s", [rested.slot])
    refuses(rested, rested.start("run"), "another server")


def test_slot_is_dropped_under_a_running_walvec(sidecar: Sidecar) -> None:
    """A slot that is dropped under a running process stops the process."""
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    process = sidecar.start("run")
    sidecar.in_step()
    end = "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s"
    sidecar.source.execute(end, [sidecar.slot])
    sidecar.source.execute(DROP, [sidecar.slot])
    refuses(sidecar, process, "does not exist")


@pytest.mark.parametrize("running", [True, False], ids=["while running", "before the start"])
def test_slot_is_invalidated(cluster: Cluster, on_cluster: Callable[[], Sidecar], *, running: bool) -> None:
    """A slot whose WAL the server had to remove, past max_slot_wal_keep_size, is lost."""
    sidecar = on_cluster()
    follow_blog(sidecar)
    insert(sidecar, 1, 5)
    process = sidecar.start("run")
    sidecar.in_step()
    if running:
        process.pause()
    else:
        assert process.stop() == 0
    insert(sidecar, 6, 5)
    cluster.set("max_slot_wal_keep_size", "1MB")

    until(lambda: is_lost(sidecar), "the slot's invalidation")

    if running:
        process.resume()
    else:
        process = sidecar.start("run")
    refuses(sidecar, process, "invalidated")


def is_lost(sidecar: Sidecar) -> bool:
    """Fill WAL segments and let the server remove what it may; whether the slot's were among them."""
    sidecar.source.execute(
        "SELECT pg_logical_emit_message(false, 'tests', repeat('x', 1000000)), pg_switch_wal()"
    )
    sidecar.source.execute("CHECKPOINT")
    query = "SELECT FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
    return bool(sidecar.source.execute(query, [sidecar.slot]).fetchall())
