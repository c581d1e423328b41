"""`walvec status` and `walvec search`: what the databases alone tell."""

import json
from typing import Any

import pytest

from tests.fix_embedding_service import Silent
from tests.fix_walvec import Sidecar, until


@pytest.fixture
def blog(distant_sidecar: Sidecar) -> Sidecar:
    """A followed table in one database, with its target in another, embedded."""
    distant_sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    distant_sidecar.source.execute("INSERT INTO blog SELECT g, 'post ' || g FROM generate_series(1, 3) AS g")
    distant_sidecar.follow()
    distant_sidecar.setup()
    distant_sidecar.once()
    return distant_sidecar


def status(sidecar: Sidecar) -> dict[str, Any]:
    """What `walvec status --json` prints."""
    document = json.loads(sidecar.start("status", "--json").output())
    assert isinstance(document, dict)
    return document


def test_tells_how_much_is_embedded(blog: Sidecar) -> None:
    """Rows, chunks and phase of every vectorizer, and through where its changes are applied."""
    report = status(blog)
    (vectorizer,) = report["vectorizers"]
    told = [vectorizer[name] for name in ("phase", "embedded_rows", "embedded_chunks", "dead_letters")]
    assert (told, vectorizer["applied_lsn"]) == (["done", 3, 3, 0], report["slot"]["checkpoint_lsn"])


def test_idle_slot_is_not_behind(blog: Sidecar) -> None:
    """What walvec itself writes is no lag."""
    with blog.running():
        blog.in_step()
        slot = status(blog)["slot"]
    assert (slot["active"], slot["writer"], slot["lag_seconds"]) == (True, True, 0.0)


def test_small_change_that_waits_for_the_service_is_lag(
    blog: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few bytes behind: a change that is not embedded after some seconds counts."""
    monkeypatch.setattr("consumer.commit.STALL_AFTER", 0.2)
    monkeypatch.setattr("consumer.pipeline.DRAIN_LIMIT", 0.2)
    with blog.running():
        blog.in_step()
        blog.service.always = Silent(60)
        blog.source.execute("UPDATE blog SET body = 'waits' WHERE id = 1")
        until(lambda: blog.state_is("stalled_since IS NOT NULL"), "walvec says that it waits")
        waiting = status(blog)["slot"]["lag_seconds"]
    assert waiting > 0


def test_tells_what_the_target_knows_while_the_source_is_away(blog: Sidecar) -> None:
    """Without the source there is no lag to tell, but the vectorizers are there."""
    blog.settings["source"]["dsn"] = "host=127.0.0.1 port=1 dbname=away"
    report = status(blog)
    assert (report["slot"]["exists"], len(report["vectorizers"])) == (None, 1)


def test_search_needs_no_source(blog: Sidecar) -> None:
    """The vectors are in the target, and so is all that a search asks."""
    blog.settings["source"]["dsn"] = "host=127.0.0.1 port=1 dbname=away"
    (hit,) = json.loads(blog.start("search", "blog", "post 2", "-k", "1", "--json").output())
    assert (hit["key"], hit["chunk"], round(hit["distance"], 6)) == ({"id": 2}, "post 2", 0.0)


@pytest.mark.parametrize(("before", "after"), [("cosine", "l2"), ("l2", "ip")])
def test_index_follows_the_metric(blog: Sidecar, before: str, after: str) -> None:
    """With another metric in the settings the index is built anew, for its operators."""
    classes = []
    for metric in (before, after):
        blog.follow(metric=metric)
        blog.once()
        classes += blog.target.execute(
            "SELECT opcname FROM pg_index JOIN pg_opclass AS o ON o.oid = indclass[0] "
            "WHERE indexrelid = 'blog_embedding_embedding_idx'::regclass"
        ).fetchall()
    assert classes == [(f"vector_{before}_ops",), (f"vector_{after}_ops",)]


def test_another_timeline_is_refused(blog: Sidecar) -> None:
    """After a promotion or a restore nobody can tell which of the embedded changes the source still has."""
    blog.target.execute("UPDATE walvec.checkpoint SET timeline = timeline + 1")
    error = blog.refusal(blog.once)
    assert (error.exit_code, "promoted or restored" in error.what, error.hint) == (
        4,
        True,
        "run: walvec resync",
    )
