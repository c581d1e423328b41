import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands.status.conftest import NOON, SLOT, VECTORIZER, Reported
from walvec.commands.status.reading import Report
from walvec.commands.status.verdict import judge, unreadable
from walvec.database.standbys import Gap

AWAY = {
    "exists": None,
    "active": False,
    "wal_status": None,
    "confirmed_lsn": None,
    "source_lsn": None,
    "lag_bytes": None,
    "lag_seconds": None,
    "retained_bytes": None,
}
AWAITED = Gap("synchronized_standby_slots", "names standby1", "ALTER SYSTEM …", holds_up=True)
GAP = Gap("sync_replication_slots", "no standby is copying slots", "ALTER SYSTEM …")
DOWN = {"active": False, "writer": False}

# State -> what makes it, its level, what its sentence tells to do. In the order in which they matter.
STATES: dict[str, tuple[dict[str, Any], str, str]] = {
    "source_away": (AWAY, "failed", "once it is back"),
    "slot_lost": ({"wal_status": "lost"}, "failed", "walvec resync"),
    "not_set_up": (
        {"checkpoint_lsn": None, "exists": False, "active": False, "vectorizer": None},
        "failed",
        "walvec setup",
    ),
    "old_primary": ({"old_primary": True, "same_server": False}, "failed", "the present one"),
    "promoted": ({"promoted": True, "same_server": False, "writer": False}, "failed", "walvec run"),
    "other_server": ({"same_server": False}, "failed", "walvec resync"),
    "slot_missing": ({"exists": False, "active": False}, "failed", "walvec resync"),
    "checkpoint_ahead": ({"checkpoint_lsn": "0/4000000"}, "failed", "walvec resync"),
    "slot_moved": ({"confirmed_lsn": "0/3000080"}, "failed", "walvec resync"),
    "slot_at_risk": ({"safe_wal_bytes": 2**20}, "warning", "raise max_slot_wal_keep_size"),
    "standby_away": ({"failover_gaps": (AWAITED,)}, "warning", "names standby1"),
    "foreign_reader": ({"active": True, "writer": False}, "failed", "stop it"),
    "not_running": (DOWN, "failed", "start `walvec run`"),
    "stalled": (
        {"stalled_seconds": 12.0, "lag_seconds": 12.0, "waits_for": "the service fails: 401"},
        "warning",
        "for 12 s: the service fails: 401",
    ),
    "starting": ({"active": False, "writer": True}, "warning", "Session 4712"),
    "no_progress": (
        {"lag_bytes": 2**20, "checkpoint_seconds": 45.0, "stalled_seconds": None},
        "warning",
        "read the log",
    ),
    "paused": ({"vectorizer": {"paused": "column x is gone"}}, "failed", "fixed"),
    "dead_letters": ({"vectorizer": {"dead_letters": 2}}, "warning", "walvec dead-letter list"),
    "wal_kept": ({"retained_bytes": 2**31}, "warning", "pg_stat_activity"),
    "failover_gap": ({"failover_gaps": (GAP, GAP)}, "warning", "1 more: `walvec check`"),
    "nothing_followed": ({"vectorizer": None}, "warning", "walvec setup"),
    "backfilling": ({"vectorizer": {"phase": "rows", "rows_done": 400}}, "ok", "Nothing to do"),
    "catching_up": ({"stalled_seconds": 7.0, "lag_seconds": 7.0}, "ok", "the oldest for 7 s"),
    "fine": ({}, "ok", "All is well"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_told_with_what_to_do(reported: Reported, state: str) -> None:
    """One sentence, its level, and the way out."""
    changes, level, act = STATES[state]
    verdict = judge(reported(**changes))
    assert (verdict.state, verdict.level) == (state, level)
    assert act in verdict.text


@pytest.mark.parametrize("state", STATES)
def test_the_verdict_is_one_sentence(reported: Reported, state: str) -> None:
    """No second sentence, and no line break."""
    text = judge(reported(**STATES[state][0])).text
    assert (text[-1], text.count(". "), "\n" in text) == (".", 0, False)


def _agree(first: str, second: str) -> bool:
    """Whether two states can hold at the same time, as they are made here."""
    one, other = STATES[first][0], STATES[second][0]
    return all(one[name] == other[name] for name in one.keys() & other.keys())


@pytest.mark.parametrize(
    ("graver", "lesser"), [pair for pair in itertools.combinations(STATES, 2) if _agree(*pair)]
)
def test_the_graver_state_is_told(reported: Reported, graver: str, lesser: str) -> None:
    """Where two hold, the one nearer to a loss is the verdict."""
    verdict = judge(reported(**{**STATES[lesser][0], **STATES[graver][0]}))
    assert list(STATES).index(verdict.state) <= list(STATES).index(graver)


def test_what_else_is_wrong_is_named(reported: Reported) -> None:
    """For programs: a stopped process does not hide parked rows."""
    verdict = judge(reported(**DOWN, vectorizer={"dead_letters": 2, "phase": "rows"}))
    assert (verdict.state, verdict.also) == ("not_running", ("dead_letters",))


@pytest.mark.parametrize(
    ("parked", "retried", "words"),
    [
        (1, 1, "1 row is parked; it is retried automatically"),
        (3, 3, "they are retried automatically"),
        (3, 2, "(2 of them retried automatically); see why"),
        (3, 0, "3 rows are parked; see why"),
    ],
)
def test_rows_that_need_attention_are_told_from_those_tried_again(
    reported: Reported, parked: int, retried: int, words: str
) -> None:
    """A cause that may pass needs nobody; a refused text does."""
    report = reported(vectorizer={"dead_letters": parked, "dead_letters_retried": retried})
    assert words in judge(report).text


def test_a_slot_without_a_checkpoint_is_no_new_one(reported: Reported) -> None:
    """A resync that was interrupted is gone on with: setup would pass over what was missed."""
    assert judge(reported(checkpoint_lsn=None)).state == "no_checkpoint"


def test_a_slot_about_to_be_lost_is_a_failure(reported: Reported) -> None:
    """`unreserved`: the server's next checkpoint takes the WAL away."""
    assert judge(reported(wal_status="unreserved", safe_wal_bytes=-1)).level == "failed"


@pytest.mark.parametrize(("safe", "state"), [(16 * 2**20, "fine"), (4 * 2**20, "slot_at_risk")])
def test_at_risk_is_four_fifths_of_what_may_be_kept(reported: Reported, safe: int, state: str) -> None:
    """Of 16 MB kept and 16 more allowed nobody needs to hear; of 4 more, somebody does."""
    assert judge(reported(safe_wal_bytes=safe)).state == state


def test_a_long_stall_is_a_failure(reported: Reported) -> None:
    """As the process itself says on /readyz after a minute."""
    assert judge(reported(stalled_seconds=61.0, waits_for="a lock")).level == "failed"


@pytest.mark.parametrize("lag", [1, 238_000, 2**31 - 1])
@pytest.mark.parametrize("age", [0.0, 29.0])
def test_wal_is_no_change(reported: Reported, lag: int, age: float) -> None:
    """WAL may be of walvec's own or another's: nothing is said to wait that the process does not say."""
    assert judge(reported(lag_bytes=lag, checkpoint_seconds=age)).state == "fine"


def test_an_idle_database_is_no_reason_to_worry(reported: Reported) -> None:
    """A checkpoint may be a day old where nothing was written since."""
    assert judge(reported(lag_bytes=60_000, checkpoint_seconds=1e5)).state == "fine"


def test_what_others_wrote_is_one_line(reported: Reported) -> None:
    """Of a service's words, and of a session's name, nothing reaches the terminal that it would obey."""
    report = reported(stalled_seconds=12.0, waits_for="503\x1b[2J\nwalvec: all is well.")
    assert judge(report).text == "Rows have been waiting for 12 s: 503?[2J walvec: all is well."


def test_what_cannot_be_read_is_not_well() -> None:
    """The verdict says why, and that nothing is known."""
    verdict = unreadable("The target database cannot be reached: refused")
    assert (verdict.level, verdict.state) == ("failed", "unreadable")
    assert verdict.text == "The target database cannot be reached: refused, so the status is unknown."


def test_wal_kept_for_a_lag_has_its_reason(reported: Reported) -> None:
    """Only WAL that walvec is done with is somebody else's doing."""
    assert (
        judge(reported(retained_bytes=2**31, lag_bytes=2**31, lag_seconds=9.0, stalled_seconds=9.0)).state
        == "catching_up"
    )


@pytest.mark.parametrize(
    ("phase", "words"),
    [("rows", "blog: 40%, 2 min left"), ("sweep", "rows that are gone"), ("index", "building the index")],
)
def test_a_backfill_says_how_far_it_is(reported: Reported, phase: str, words: str) -> None:
    """A share while rows are read, a phase afterwards."""
    report = reported(vectorizer={"phase": phase, "rows_done": 400, "seconds_left": 120.0})
    assert words in judge(report).text


def test_several_vectorizers_are_summed_up() -> None:
    """The first is named, the others are counted."""
    paused = tuple(replace(VECTORIZER, name=name, paused="x") for name in ("a", "b", "c"))
    assert judge(Report(NOON, SLOT, paused)).text.startswith("a and 2 more are paused")


def test_the_page_has_every_state() -> None:
    """Whoever reads `state` finds it among the levels that docs/operations/every-day.md lists."""
    page = (Path(__file__).parents[4] / "docs/operations/every-day.md").read_text()
    table = page.split("| verdict | state")[1].split("\n\n")[0]
    rows = re.findall(r"^\| (ok|warning|failed) \| (.*) \|$", table, re.MULTILINE)
    told = {(level, state) for level, cell in rows for state in re.findall(r"`([a-z_]+)`", cell)}
    assert {(level, state) for state, (_, level, _) in STATES.items()} <= told
    assert {state for _, state in told} - {"unreserved", "no_checkpoint", "unreadable"} == set(STATES)
