"""What is done to a blog under walvec, and what a fault may not have done to it, seen from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec_slots.lsn import Lsn

# Waits at the very end of a transaction that moved the checkpoint: all its statements are done by then.
_HOLD_COMMITS = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold AFTER UPDATE OF lsn ON walvec.checkpoint
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hold()"""


def insert(sidecar: Sidecar, first: int, count: int, text: str = "row") -> None:
    """Commit `count` rows of the blog, from id `first`, in one transaction."""
    sidecar.source.execute(
        "INSERT INTO blog SELECT id, %s || ' ' || id FROM generate_series(%s::int, %s::int) AS id",
        [text, first, first + count - 1],
    )


def slot_lsn(sidecar: Sidecar) -> Lsn:
    """How far the slot is confirmed."""
    ((lsn,),) = sidecar.source.execute(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [sidecar.slot]
    ).fetchall()
    return Lsn.parse(lsn)


def checkpoint(sidecar: Sidecar) -> Lsn:
    """How far the target says that all is embedded."""
    ((lsn,),) = sidecar.target.execute(
        "SELECT lsn::text FROM walvec.checkpoint WHERE slot = %s", [sidecar.slot]
    ).fetchall()
    return Lsn.parse(lsn)


def confirmed_no_more_than_saved(sidecar: Sidecar) -> bool:
    """Whether invariant 1 holds. The slot is looked at first: the checkpoint only grows meanwhile."""
    confirmed = slot_lsn(sidecar)
    return confirmed <= checkpoint(sidecar)


def committed_texts(sidecar: Sidecar) -> set[str]:
    """The texts whose vectors the targets hold."""
    texts = set()
    for followed in sidecar.followed.values():
        query = sql.SQL("SELECT chunk FROM {}").format(sql.Identifier(*followed.target))
        texts |= {chunk for (chunk,) in sidecar.target.execute(query).fetchall()}
    return texts


def follow_blog(sidecar: Sidecar, **settings: Any) -> None:
    """Make an empty table that is followed from its first row."""
    sidecar.source.execute("CREATE TABLE blog (id integer PRIMARY KEY, body text)")
    sidecar.follow("blog", **{"index": "none", **settings})
    sidecar.setup()


def wal_end(sidecar: Sidecar) -> Lsn:
    """Where the source's WAL ends now."""
    ((lsn,),) = sidecar.source.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()
    return Lsn.parse(lsn)


def differences(sidecar: Sidecar) -> list[str]:
    """Where the targets are not f(source): every row that is missing, left over or of another text."""
    found = []
    for name, expected in sidecar.expected().items():
        actual = sidecar.actual_of(name)
        found += [f"{name}{key} is missing" for key in expected.keys() - actual.keys()]
        found += [f"{name}{key} is left over" for key in actual.keys() - expected.keys()]
        found += [
            f"{name}{key} is of another text"
            for key in expected.keys() & actual.keys()
            if expected[key] != actual[key]
        ]
    return found


@contextmanager
def checkpoint_hangs(sidecar: Sidecar) -> Iterator[None]:
    """Let every COMMIT that moves the checkpoint hang for the length of a block."""
    dsn = sidecar.settings.get("target", sidecar.settings["source"])["dsn"]
    with psycopg.connect(dsn, autocommit=True) as somebody:
        somebody.execute("SELECT pg_advisory_lock(4711)")
        somebody.execute(_HOLD_COMMITS)
        try:
            yield
        finally:
            somebody.execute("SELECT pg_advisory_unlock(4711)")
            somebody.execute("DROP FUNCTION hold CASCADE")


def waits_to_commit(sidecar: Sidecar) -> bool:
    """Whether a transaction hangs that moves the checkpoint."""
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    return bool(sidecar.target.execute(query).fetchall())


def hears_a_status(sidecar: Sidecar) -> None:
    """Wait until the slot's server has dealt with a status that was sent after this moment.

    It notes that one has come before it moves the slot, so a second one is waited for.
    """
    query = """
        SELECT reply_time > %s, reply_time::text FROM pg_stat_replication
        JOIN pg_replication_slots ON active_pid = pid WHERE slot_name = %s"""

    def newer(than: str) -> str | None:
        rows = sidecar.source.execute(query, [than, sidecar.slot]).fetchall()
        return next((str(at) for is_newer, at in rows if is_newer), None)

    ((moment,),) = sidecar.source.execute("SELECT clock_timestamp()::text").fetchall()
    for _ in range(2):
        moment = until(lambda: newer(moment), "a status that was sent from here on")  # noqa: B023
