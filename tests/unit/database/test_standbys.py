from dataclasses import replace
from typing import Any

import pytest

from walvec.database.connect import single_hosts
from walvec.database.standbys import Standbys, StandbyState, find_gaps, find_standby_gaps, slot_names
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot

SLOT = Slot(
    name="walvec",
    plugin="pgoutput",
    database="app",
    active=True,
    active_pid=1,
    restart_lsn=Lsn(1),
    confirmed_flush_lsn=Lsn(2),
    wal_status="reserved",
    safe_wal_size=None,
    invalidation_reason=None,
    retained_bytes=1,
    unconfirmed_bytes=1,
    temporary=False,
    two_phase=False,
    failover=True,
    synced=False,
    inactive_since=None,
)
IN_ORDER = Standbys(listed=("a",), connected=("a",), synchronised=True, without_slot=0)
COPYING = StandbyState(
    host="b:5432",
    synchronises=True,
    feedback=True,
    primary_slot="a",
    has_slot=True,
    synced=True,
    temporary=False,
    invalidation_reason=None,
)


def on_primary(slot: Slot | None = SLOT, *, wanted: bool = True, **other: Any) -> list[tuple[str, str]]:
    """Return what is found on a primary that is in order except for `other`."""
    found = find_gaps(slot, replace(IN_ORDER, **other), "walvec", wanted=wanted)
    return [(gap.subject, gap.remedy) for gap in found]


def test_nothing_is_found_where_all_is_in_order() -> None:
    """A primary is in order with a standby, without one, or with one that cannot be seen."""
    assert on_primary() == []
    assert on_primary(listed=(), connected=(), synchronised=False) == []
    assert on_primary(synchronised=None, without_slot=None) == []
    assert on_primary(None, listed=(), connected=(), synchronised=None) == []


def test_slot_that_is_not_what_the_setting_says() -> None:
    """Setup alters the slot, in either direction."""
    remedy = ('failover of slot "walvec"', "stop walvec run, then run: walvec setup")
    assert on_primary(replace(SLOT, failover=False)) == [remedy]
    assert on_primary(wanted=False) == [remedy]


def test_standby_that_nothing_waits_for_is_named_in_the_statement() -> None:
    """The statement names every standby that is connected."""
    assert on_primary(listed=(), connected=("a", "b")) == [
        (
            "synchronized_standby_slots",
            "ALTER SYSTEM SET synchronized_standby_slots = 'a', 'b'; SELECT pg_reload_conf()",
        )
    ]


def test_standby_that_is_away_comes_first() -> None:
    """A standby that is missing holds up the stream of a failover slot only."""
    [gap] = find_gaps(SLOT, replace(IN_ORDER, listed=("a", "gone")), "walvec", wanted=True)
    assert (gap.holds_up, gap.detail) == (
        True,
        "names gone, which no standby uses, so changes wait for it",
    )
    assert gap.remedy.endswith("ALTER SYSTEM SET synchronized_standby_slots = 'a'; SELECT pg_reload_conf()")
    ordinary = replace(SLOT, failover=False)
    assert not any(
        gap.holds_up for gap in find_gaps(ordinary, replace(IN_ORDER, connected=()), "walvec", wanted=True)
    )


def test_last_standby_that_is_away_leaves_an_empty_list() -> None:
    """The stream waits for nothing once the list is empty."""
    [(_, remedy)] = on_primary(connected=())
    assert "synchronized_standby_slots = ''" in remedy


def test_standby_without_slot_and_without_copies() -> None:
    """Each of the two has a finding."""
    assert [subject for subject, _ in on_primary(without_slot=1, synchronised=False)] == [
        "primary_slot_name",
        "sync_replication_slots",
    ]


@pytest.mark.parametrize(
    ("state", "subject", "remedy"),
    [
        (
            {"synchronises": False},
            "sync_replication_slots",
            "there: ALTER SYSTEM SET sync_replication_slots = on; SELECT pg_reload_conf()",
        ),
        (
            {"feedback": False},
            "hot_standby_feedback",
            "there: ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf()",
        ),
        ({"primary_slot": ""}, "primary_slot_name", "primary_slot_name = 'standby1'"),
        ({"synced": False}, 'slot "walvec"', "there: SELECT pg_drop_replication_slot('walvec')"),
        ({"invalidation_reason": "wal_removed"}, 'slot "walvec"', "wait until the standby has copied"),
        ({"temporary": True}, 'slot "walvec"', "wait for the next commit"),
        ({"has_slot": False, "synced": False}, 'slot "walvec"', "wait for the next commit"),
    ],
)
def test_standby_says_what_it_lacks(state: dict[str, Any], subject: str, remedy: str) -> None:
    """Each lack is one finding, with what fixes it."""
    [gap] = find_standby_gaps(replace(COPYING, **state), "walvec")
    assert gap.subject == f"{subject} on b:5432"
    assert remedy in gap.remedy


def test_standby_in_order_says_nothing() -> None:
    """A standby is in order too if this role may not see which slot it uses."""
    assert list(find_standby_gaps(COPYING, "walvec")) == []
    assert list(find_standby_gaps(replace(COPYING, primary_slot=None), "walvec")) == []


@pytest.mark.parametrize(
    ("setting", "names"), [("", ()), ("a", ("a",)), ('a, "b",c', ("a", "b", "c")), (" , ", ())]
)
def test_names_of_slots_are_read_as_postgresql_reads_them(setting: str, names: tuple[str, ...]) -> None:
    """Blanks and quotes do not belong to a name."""
    assert slot_names(setting) == names


def test_hosts_are_taken_apart() -> None:
    """Each host has its port or the common one, and any server answers."""
    found = single_hosts("host=a,b port=1,2 dbname=x target_session_attrs=primary")
    assert [place for place, _ in found] == ["a:1", "b:2"]
    assert "host=b" in found[1][1]
    assert "target_session_attrs=any" in found[1][1]
    assert [place for place, _ in single_hosts("postgresql://a,b:7/x")] == ["a:5432", "b:7"]
    assert [place for place, _ in single_hosts("hostaddr=10.0.0.1,10.0.0.2 port=6")] == [
        "10.0.0.1:6",
        "10.0.0.2:6",
    ]
    assert single_hosts("host=a dbname=x") == []
