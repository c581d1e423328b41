"""What is done to a blog under walvec, and what a fault may not have done to it, seen from outside."""

from typing import Any

from psycopg import sql

from slots.lsn import Lsn
from tests.fix_walvec import Sidecar


def insert(sidecar: Sidecar, first: int, count: int, text: str = "row") -> None:
    """Commit so many rows of the blog, from id `first`, in one transaction."""
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
