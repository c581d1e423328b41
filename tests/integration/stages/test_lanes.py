"""Vectorizers that share a slot: one confirmed LSN for all, and no waiting for each other."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.fix_embedding_service import Silent
from tests.fix_process import until
from tests.fix_sidecar import Sidecar


@pytest.fixture
def two(sidecar: Sidecar) -> Iterator[Sidecar]:
    """A sidecar that runs, in step with two tables, with little room in memory and less patience."""
    sidecar.timing = replace(sidecar.timing, stuck_after=0.3, drain_limit=0.3)
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("CREATE TABLE page (id bigint PRIMARY KEY, body text)")
    sidecar.follow("blog", chunk="none")
    sidecar.follow("page", chunk="none")
    sidecar.settings["pipeline"] = {"max_buffer_bytes": 200_000, "batch_rows": 50}
    sidecar.settings["embedder"]["timeout"] = 60.0
    sidecar.setup()
    with sidecar.running():
        sidecar.in_step()
        yield sidecar


def test_service_that_fails_for_one_vectorizer_does_not_stop_another(two: Sidecar) -> None:
    """One vectorizer is followed while another waits, past all that memory holds of it."""
    two.service.refuse, two.service.poison = "stuck", Silent(60)
    two.source.execute("INSERT INTO blog SELECT g, 'stuck ' || g FROM generate_series(1, 2000) AS g")
    for each in range(20):
        two.source.execute(
            "INSERT INTO page SELECT %s * 50 + g, 'page ' || g FROM generate_series(1, 50) AS g", [each]
        )
    until(lambda: two.actual()["page"] == two.expected_of("page"), "page is followed")
    held_back = two.state_is("lsn < (SELECT lsn FROM walvec.vectorizer WHERE name = 'page')")
    assert (held_back, two.actual()["blog"]) == (True, {})


def test_vectorizer_that_fell_behind_catches_up_without_a_restart(two: Sidecar) -> None:
    """Once its service answers, only the one that fell behind reads its changes again."""
    two.service.refuse, two.service.poison = "stuck", Silent(3)
    two.source.execute("INSERT INTO blog SELECT g, 'stuck ' || g FROM generate_series(1, 2000) AS g")
    two.source.execute("INSERT INTO page SELECT g, 'page ' || g FROM generate_series(1, 900) AS g")
    until(lambda: two.actual()["page"] == two.expected_of("page"), "page is followed")
    two.service.refuse = None
    two.in_step()
    pages = sum(text.startswith("page") for text in two.service.embedded)
    assert (two.actual(), pages) == (two.expected(), 900)
