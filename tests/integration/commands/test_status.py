"""`walvec status` and `walvec search`: what the databases alone tell."""

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, LiteralString

import psycopg
import pytest

from tests.fix_embedding_service import Silent, Status
from tests.fix_process import TIMEOUT, Process, until
from tests.fix_proxy import Proxy
from tests.fix_sidecar import Sidecar
from walvec.commands.status import counting
from walvec.commands.status.reading import Reader, Report
from walvec.commands.status.show import reports
from walvec.commands.status.verdict import Verdict
from walvec.database.silence import Session
from walvec_slots.errors import ConnectionLost


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


def output_of(process: Process) -> IO[str]:
    """Its stdout, while it runs."""
    stdout = process._process.stdout
    assert stdout
    return stdout


@contextmanager
def terminal(sidecar: Sidecar, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], str]]]:
    """Run `walvec` on a terminal of 120 columns; also give what reads on from it, "" at its end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", "from walvec.cli.app import main; main()", *words],
        cwd=sidecar.path.parent,
        env={**os.environ, "TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)

    def read() -> str:
        try:
            return os.read(ours, 65_536).decode(errors="replace")
        except OSError:  # Linux's way to say that nobody writes any more
            return ""

    try:
        yield process, read
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until_seen(read: Callable[[], str], condition: Callable[[str], bool]) -> str:
    """Read until the condition holds for all that was read, and return that."""
    seen = ""
    while not condition(seen):
        more = read()
        assert more, f"ended: {seen}"
        seen += more
    return seen


def test_tells_how_much_is_embedded(blog: Sidecar) -> None:
    """Rows, chunks and phase of every vectorizer, and through where its changes are applied."""
    report = status(blog)
    (vectorizer,) = report["vectorizers"]
    told = [vectorizer[name] for name in ("phase", "embedded_rows", "embedded_chunks", "dead_letters")]
    assert (told, vectorizer["applied_lsn"]) == (["done", 3, 3, 0], report["slot"]["checkpoint_lsn"])


def test_rows_without_text_are_counted(blog: Sidecar) -> None:
    """A row whose text is NULL or blank has no embedding, and status says how many there are."""
    blog.source.execute("INSERT INTO blog (id, body) VALUES (50, NULL), (51, ''), (52, '  ')")
    blog.once()
    (vectorizer,) = status(blog)["vectorizers"]
    assert (vectorizer["embedded_rows"], vectorizer["rows_without_text"]) == (3, 3)
    assert "3 rows have no text" in blog.start("status").output()


def test_idle_slot_is_not_behind(blog: Sidecar) -> None:
    """What walvec itself writes is no lag."""
    with blog.running():
        blog.in_step()
        slot = status(blog)["slot"]
    assert (slot["active"], slot["writer"], slot["lag_seconds"]) == (True, True, 0.0)


def test_small_change_that_waits_for_the_service_is_lag(blog: Sidecar) -> None:
    """However few bytes behind: a change that is not embedded after some seconds counts."""
    blog.timing = replace(blog.timing, stall_after=0.2, drain_limit=0.2)
    with blog.running():
        blog.in_step()
        blog.service.always = Silent(60)
        blog.source.execute("UPDATE blog SET body = 'waits' WHERE id = 1")
        until(lambda: blog.state_is("stalled_since IS NOT NULL"), "walvec says that it waits")
        waiting = status(blog)["slot"]["lag_seconds"]
    assert waiting > 0


def test_tells_what_rows_wait_for(blog: Sidecar) -> None:
    """The service's last error, with its hint, though no process is asked; and no longer than it lasts."""
    blog.timing = replace(blog.timing, stall_after=0.2)
    with blog.running():
        blog.in_step()
        blog.service.always = Status(401, "Incorrect API key")
        blog.source.execute("UPDATE blog SET body = 'a secret of the row' WHERE id = 1")
        until(lambda: blog.state_is("waits_for IS NOT NULL"), "walvec says what it waits for")
        report = status(blog)
        assert (report["verdict"]["state"], report["verdict"]["level"]) == ("stalled", "warning")
        assert "401" in report["verdict"]["text"] or "key" in report["verdict"]["text"]
        assert "secret of the row" not in json.dumps(report)
        blog.service.always = None
        blog.in_step()
        until(lambda: blog.state_is("waits_for IS NULL AND stalled_since IS NULL"), "it waits no more")
        assert status(blog)["verdict"]["state"] == "fine"


def test_tells_what_a_backfill_waits_for(blog: Sidecar) -> None:
    """Existing rows that wait for the service are no progress, though no checkpoint waits for them."""
    blog.timing = replace(blog.timing, stall_after=0.2)
    blog.target.execute("DELETE FROM blog_embedding")
    blog.service.always = Status(503)
    blog.backfill()
    with blog.running():
        until(lambda: blog.state_is("waits_for IS NOT NULL"), "walvec says what it waits for")
        assert status(blog)["verdict"]["state"] == "stalled"
        blog.service.always = None
        until(blog.backfilled, "the backfill's end")
        until(lambda: blog.state_is("waits_for IS NULL AND stalled_since IS NULL"), "it waits no more")


def test_a_process_takes_back_what_an_earlier_one_said(blog: Sidecar) -> None:
    """One that was killed cannot; the next one waits for nothing yet."""
    blog.target.execute(
        "UPDATE walvec.checkpoint SET stalled_since = now() - interval '1 day', waits_for = 'x'"
    )
    with blog.running():
        until(lambda: blog.state_is("waits_for IS NULL AND stalled_since IS NULL"), "it is taken back")


def test_wal_of_others_is_nothing_to_wait_for(blog: Sidecar) -> None:
    """Other slots' vectors, and whatever else is no change of a followed table, make nobody wait."""
    with blog.running():
        blog.in_step()
        blog.source.execute("CREATE TABLE other AS SELECT repeat('x', 1000) FROM generate_series(1, 500)")
        found = [status(blog) for _ in range(3)]
    assert {report["verdict"]["state"] for report in found} == {"fine"}
    assert {report["slot"]["lag_seconds"] for report in found} == {0.0}


def test_tells_what_the_target_knows_while_the_source_is_away(blog: Sidecar) -> None:
    """Without the source there is no lag to tell, but the vectorizers are there."""
    blog.settings["source"]["dsn"] = "host=127.0.0.1 port=1 dbname=away"
    report = status(blog)
    assert (report["slot"]["exists"], len(report["vectorizers"])) == (None, 1)


def test_says_that_all_is_well(blog: Sidecar) -> None:
    """While a process follows the slot and everything is embedded."""
    with blog.running():
        blog.in_step()
        verdict = status(blog)["verdict"]
    assert (verdict["level"], verdict["state"], verdict["also"]) == ("ok", "fine", [])


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT 1", "not_running"),
        ("UPDATE walvec.checkpoint SET timeline = timeline - 1", "other_server"),
        ("UPDATE walvec.checkpoint SET timeline = timeline + 1", "old_primary"),
        ("UPDATE walvec.checkpoint SET lsn = '0/1'", "slot_moved"),
        ("UPDATE walvec.checkpoint SET lsn = 'FFFFFF/0'", "checkpoint_ahead"),
        ("DELETE FROM walvec.checkpoint", "no_checkpoint"),
    ],
)
def test_says_what_is_wrong(blog: Sidecar, statement: LiteralString, state: str) -> None:
    """With nobody at work, and with records that do not fit the slot."""
    blog.target.execute(statement)
    assert status(blog)["verdict"]["state"] == state


def test_says_that_the_slot_is_gone(blog: Sidecar) -> None:
    """And what mends it."""
    blog.source.execute("SELECT pg_drop_replication_slot(%s)", [blog.slot])
    assert status(blog)["verdict"] == {
        "level": "failed",
        "state": "slot_missing",
        "text": f'Slot "{blog.slot}" no longer exists; run `walvec resync`.',
        "remedy": "walvec resync",
        "also": ["not_running"],
    }


def test_a_large_target_is_estimated(blog: Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting is given up after a while; what the statistics say is marked as such."""
    blog.target.execute("ANALYZE blog_embedding")
    monkeypatch.setattr(counting, "COUNT_LIMIT", 100)
    with blog.target.transaction():
        blog.target.execute(
            "LOCK TABLE blog_embedding IN ACCESS EXCLUSIVE MODE"
        )  # counting would take for ever

        async def read() -> Report:
            async with Reader(blog.config) as reader:
                return await reader.read()

        (vectorizer,) = asyncio.run(read()).vectorizers
    assert (vectorizer.embedded_rows, vectorizer.embedded_chunks, vectorizer.estimated) == (None, 3, True)


def test_watching_is_a_line_each_time(blog: Sidecar) -> None:
    """Off a terminal; Ctrl-C ends it in order."""
    process = blog.start("status", "--watch", "--interval", "0.1")
    stdout = output_of(process)
    lines = [stdout.readline() for _ in range(3)]
    process.interrupt()
    assert (process.wait(), {" failed not_running behind=" in line for line in lines}) == (0, {True})


def test_watching_is_an_object_each_time_for_programs(blog: Sidecar) -> None:
    """One a line, with the rates from the second on."""
    process = blog.start("status", "--watch", "--json", "--interval", "0.1")
    stdout = output_of(process)
    first, second = (json.loads(stdout.readline()) for _ in range(2))
    process.interrupt()
    assert process.wait() == 0
    assert (first["motion"]["chunks"], second["motion"]["chunks"]) == (None, 0.0)


def test_watching_outlives_its_sessions(blog: Sidecar) -> None:
    """A server that restarts is waited for."""
    process = blog.start("status", "--watch", "--json", "--interval", "0.1")
    stdout = output_of(process)
    stdout.readline()
    for session in (blog.source, blog.target):
        session.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'walvec status' AND datname = current_database()"
        )
    states = []

    def goes_on() -> bool:
        states.append(json.loads(stdout.readline())["verdict"]["state"])
        return "unreadable" in states and states[-3:] == ["not_running"] * 3

    until(goes_on, "reports of new sessions")
    process.interrupt()
    assert process.wait() == 0


@pytest.mark.parametrize("form", ["--json", "lines"])
def test_watching_says_what_it_cannot_read(
    distant_sidecar: Sidecar, proxied: Callable[[str], tuple[Proxy, str]], form: str
) -> None:
    """While the target is away each report says so; nothing is well that cannot be seen."""
    proxy, distant_sidecar.settings["target"]["dsn"] = proxied(distant_sidecar.settings["target"]["dsn"])
    distant_sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    distant_sidecar.follow()
    distant_sidecar.setup()
    with distant_sidecar.running():
        distant_sidecar.in_step()
        words = ["--json"] if form == "--json" else []
        process = distant_sidecar.start("status", "--watch", "--interval", "0.1", *words)
        stdout = output_of(process)
        stdout.readline()

        def next_is(state: str) -> bool:
            text = stdout.readline()
            found = json.loads(text)["verdict"]["state"] if form == "--json" else text.split()[2].strip(";")
            return bool(found == state)

        until(lambda: next_is("fine"), "all is well")
        proxy.refuse()
        until(lambda: next_is("unreadable"), "the target is away")
        assert next_is("unreadable")
        proxy.heal()
        until(lambda: next_is("fine"), "the target is back")
        process.interrupt()
        assert process.wait() == 0


def test_watching_live_says_what_it_cannot_read(
    blog: Sidecar, proxied: Callable[[str], tuple[Proxy, str]]
) -> None:
    """On a terminal too: the sentence goes, the last figures stay with their time."""
    proxy, blog.settings["target"]["dsn"] = proxied(blog.settings["target"]["dsn"])
    with terminal(blog, "status", "--watch", "--interval", "0.1") as (process, read):
        until_seen(read, lambda seen: "No process is running" in seen)
        proxy.refuse()
        until_seen(read, lambda seen: "the status is unknown" in seen and "As it was at" in seen)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0


def test_a_database_that_does_not_answer_is_said_to(
    blog: Sidecar, proxied: Callable[[str], tuple[Proxy, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a cable that was cut nothing answers, and what was read before says nothing of now."""
    monkeypatch.setattr("walvec.commands.status.show.ANSWER_LIMIT", 0.3)
    proxy, blog.settings["target"]["dsn"] = proxied(blog.settings["target"]["dsn"])

    async def watched() -> list[str]:
        states = []
        async with contextlib.aclosing(reports(blog.config, 0.01)) as found:
            async for report in found:
                states.append(report.state if isinstance(report, Verdict) else "read")
                if len(states) == 1:
                    proxy.silence()
                if states[-1] == "unreadable":
                    return states
        return states

    assert asyncio.run(watched())[-1] == "unreadable"


def test_watching_keeps_no_session_that_has_ended(
    blog: Sidecar, proxied: Callable[[str], tuple[Proxy, str]]
) -> None:
    """A server that comes and goes all day leaves two sessions, not a list of them."""
    proxy, blog.settings["target"]["dsn"] = proxied(blog.settings["target"]["dsn"])

    async def sessions() -> int:
        async with Reader(blog.config) as reader:
            for _ in range(5):
                await reader.read()
                proxy.reset()
                with contextlib.suppress(psycopg.OperationalError, ConnectionLost):
                    await reader.read()
            count = 10
            # A session's alarm keeps it for a while.
            async with asyncio.timeout(TIMEOUT):
                while count > 2:
                    await asyncio.sleep(0.1)
                    gc.collect()
                    count = sum(isinstance(each, Session) for each in gc.get_objects())
            return count

    assert asyncio.run(sessions()) == 2


def test_watching_ends_with_its_reader(blog: Sidecar) -> None:
    """As in `walvec status --watch | head -1`: no complaint."""
    process = blog.start("status", "--watch", "--interval", "0.1")
    stdout = output_of(process)
    stdout.readline()
    stdout.close()
    assert (process.wait(), process.log) == (0, [])


def test_watching_is_live_on_a_terminal(blog: Sidecar) -> None:
    """Drawn anew in place, within 100 columns, and Ctrl-C leaves the cursor visible."""
    with terminal(blog, "status", "--watch", "--interval", "0.1") as (process, read):
        text = until_seen(read, lambda seen: seen.count("caught up") > 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0
        text += read()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert "No process is running" in plain
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 100
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


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
    blog.target.execute("UPDATE walvec.checkpoint SET timeline = timeline - 1")
    error = blog.refusal(blog.once)
    assert (error.exit_code, "promoted or restored" in error.what, error.hint) == (
        4,
        True,
        "run: walvec resync",
    )
