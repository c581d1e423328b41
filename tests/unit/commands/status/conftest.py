from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from walvec.commands.status.reading import Report, SlotStatus, VectorizerStatus

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)

SLOT = SlotStatus(
    name="walvec",
    exists=True,
    active=True,
    reader_pid=4711,
    writer=True,
    holder="session 4712 (role walvec, application walvec writer)",
    wal_status="reserved",
    confirmed_lsn="0/3000000",
    checkpoint_lsn="0/3000000",
    source_lsn="0/3000100",
    same_server=True,
    old_primary=False,
    promoted=False,
    failover=None,
    failover_gaps=(),
    lag_bytes=256,
    checkpoint_seconds=3.0,
    lag_seconds=0.0,
    stalled_seconds=None,
    waits_for=None,
    newest_commit_seconds=None,
    retained_bytes=16 * 2**20,
    safe_wal_bytes=None,
)
VECTORIZER = VectorizerStatus(
    name="blog",
    source_table="public.blog",
    target_table="public.blog_embedding",
    phase="done",
    paused=None,
    applied_lsn="0/3000000",
    rows_done=1000,
    rows_estimated=1000,
    rows_per_second=500.0,
    seconds_left=None,
    embedded_rows=1000,
    embedded_chunks=1200,
    estimated=False,
    rows_without_text=0,
    chunks_written=1300,
    dead_letters=0,
    dead_letters_retried=0,
)


class Reported(Protocol):
    """Makes a report of a healthy walvec, but for these fields of its slot, its vectorizer, or both gone."""

    def __call__(self, *, after: float = 0.0, vectorizer: dict[str, Any] | None = ..., **slot: Any) -> Report:
        """Make it, `after` so many seconds; `vectorizer` None: there is none."""


@pytest.fixture
def reported() -> Callable[..., Report]:
    """A function that makes reports."""

    def make(*, after: float = 0.0, vectorizer: dict[str, Any] | None = {}, **slot: Any) -> Report:  # noqa: B006
        vectorizers = () if vectorizer is None else (replace(VECTORIZER, **vectorizer),)
        return Report(NOON + timedelta(seconds=after), replace(SLOT, **slot), vectorizers)

    return make
