import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console

from tests.unit.commands.status.conftest import Reported
from walvec.commands.status.reading import Report
from walvec.commands.status.trend import Trend
from walvec.commands.status.verdict import judge, unreadable
from walvec.commands.status.view import WIDTH, render_report, render_unread
from walvec.commands.status.words import catch_up_words, document, line
from walvec.units import duration

LONG = "x" * 63


def shown(report: Report, trend: Trend | None = None, *, terminal: bool = False) -> str:
    """What stdout gets."""
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False, force_terminal=terminal)
    console.print(render_report(report, judge(report), trend))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture
def reports(reported: Reported) -> Iterator[Report]:
    """Falling behind, two seconds apart."""
    return iter(
        reported(
            after=2 * step,
            source_lsn=f"0/{0x3000000 + step * 0x10000:X}",
            lag_bytes=step * 0x10000,
            lag_seconds=2.0 * step,
            stalled_seconds=2.0 * step if step else None,
            vectorizer={"chunks_written": 100 * step},
        )
        for step in range(4)
    )


def trend_of(reports: Iterator[Report]) -> tuple[Report, Trend]:
    """Feed a trend, and return the last report too."""
    trend, report = Trend(), None
    for report in reports:
        trend.add(report)
    assert report
    return report, trend


def test_a_usual_status_is_a_table(reported: Reported) -> None:
    """The sentence first, then slot and vectorizer, each name whole."""
    lines = shown(reported()).splitlines()
    assert lines[0] == "All is well: no change has been waiting for longer than 5 seconds."
    words = [" ".join(text.split()) for text in lines]
    assert "walvec streaming 16 MB no limit no 0/3000000" in words
    assert "blog public.blog public.blog_embedding in step 1,000 1,200 0" in words


def test_fits_whatever_the_names_are(reported: Reported) -> None:
    """100 columns, with the longest names there are and the reason of a pause."""
    report = reported(
        name=LONG,
        safe_wal_bytes=2**40,
        newest_commit_seconds=1e6,
        vectorizer={
            "name": LONG,
            "source_table": f"{LONG}.{LONG}",
            "target_table": f"{LONG}.{LONG}",
            "embedded_rows": 10**10,
            "embedded_chunks": 10**11,
            "paused": "why " * 60,
            "dead_letters": 7_000,
            "dead_letters_retried": 6_500,
        },
        wal_status="lost",
    )
    assert max(map(len, shown(report).splitlines())) <= WIDTH


def test_parked_rows_that_are_tried_again_are_counted(reported: Reported) -> None:
    """Beside all that are parked."""
    assert "7 (5 retried)" in shown(reported(vectorizer={"dead_letters": 7, "dead_letters_retried": 5}))


def test_colours_are_for_terminals(reported: Reported) -> None:
    """A pipe gets none."""
    assert ("\x1b[" in shown(reported(), terminal=True), "\x1b[" in shown(reported())) == (True, False)


def test_watching_shows_how_it_moves(reports: Iterator[Report]) -> None:
    """Sparklines of lag and rate, and that it falls behind."""
    report, trend = trend_of(reports)
    text = shown(report, trend)
    assert "▁▃▆█" in text
    assert "50.0 chunks/s" in text
    assert "not at this rate" in text


def test_when_it_is_caught_up(reported: Reported) -> None:
    """A time, now, never at this rate, or not known yet."""
    slot = reported(lag_bytes=100, lag_seconds=1.0).slot
    trend = Trend()
    trend.add(reported(confirmed_lsn="0/10", source_lsn="0/100", lag_bytes=240, lag_seconds=1.0))
    assert catch_up_words(slot, trend.motion()) == "not known yet"
    trend.add(reported(after=1, confirmed_lsn="0/60", source_lsn="0/100", lag_bytes=160, lag_seconds=1.0))
    assert catch_up_words(slot, trend.motion()) == "in 2 s"
    trend.add(reported(after=2))
    assert catch_up_words(slot, trend.motion()) == "now"


def test_what_cannot_be_known_is_not_shown(reported: Reported) -> None:
    """Without commit times there is no newest commit, without the source no WAL."""
    here = shown(reported())
    assert ("newest commit" in here, "WAL kept" in here) == (False, True)
    assert "newest commit" in shown(reported(newest_commit_seconds=3.0))
    away = dict.fromkeys(("exists", "retained_bytes", "lag_bytes", "lag_seconds", "wal_status"))
    text = shown(reported(after=0.0, vectorizer={}, **away))
    assert [word for word in ("WAL kept", "until lost", "behind", "newest commit", "?") if word in text] == []


def test_nothing_waits_in_a_line(reported: Reported) -> None:
    """WAL that nothing waits for is no lag."""
    trend = Trend()
    trend.add(report := reported(lag_bytes=2**20))
    assert "behind=no kept" in line(report, judge(report), trend)


def test_what_was_read_last_is_shown_as_such(reported: Reported) -> None:
    """While nothing can be read the last figures stay, with their time and without their sentence."""
    console = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False)
    console.print(render_unread(unreadable("It is away"), reported()))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.startswith("It is away, so the status is unknown.")
    assert ("All is well" in text, "As it was at 12:00:00 UTC" in text, "streaming" in text) == (
        False,
        True,
        True,
    )


def test_one_line_for_a_pipe(reports: Iterator[Report]) -> None:
    """A time, level and state, then figures and the sentence."""
    report, trend = trend_of(reports)
    text = line(report, judge(report), trend)
    assert text.startswith("2025-03-01T12:00:06Z ok catching_up behind=192 kB kept=16 MB chunks/s=50.0")
    assert "\n" not in text


def test_a_document_for_programs(reports: Iterator[Report]) -> None:
    """Verdict, slot, vectorizers, and the motion where one is watched."""
    report, trend = trend_of(reports)
    found = json.loads(json.dumps(document(report, judge(report), trend)))
    assert (found["verdict"]["state"], found["slot"]["name"], found["vectorizers"][0]["name"]) == (
        "catching_up",
        "walvec",
        "blog",
    )
    assert found["motion"]["chunks"] == 50.0
    assert "motion" not in document(report, judge(report))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.4, "0 s"),
        (99, "99 s"),
        (125, "2 min"),
        (3600, "1 h"),
        (5000, "1 h 23 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_times_have_at_most_two_units(seconds: float | None, text: str) -> None:
    """As precise as anybody needs."""
    assert duration(seconds) == text
