from dataclasses import replace

import pytest

from tests.unit.database.test_standbys import SLOT
from walvec.config.sections import SourceSettings
from walvec.database.checkpoint import Checkpoint
from walvec.database.continuity import Server, require_continuity
from walvec.database.promotion import parse_history
from walvec_slots.errors import SlotLost
from walvec_slots.lsn import Lsn
from walvec_slots.manage import Slot

HISTORY = """1\t0/3030E18\tno recovery target specified

2\t1/A0\tbefore 2026-01-01 00:00:00+00
"""
COPY = replace(SLOT, failover=True, synced=True, confirmed_flush_lsn=Lsn(90))
CHECKPOINT = Checkpoint(7, 1, Lsn(100), ())
PROMOTED = Server(7, 2, Lsn(200))


def test_history_says_where_each_timeline_was_left() -> None:
    """Each line has a timeline and a place; the rest of it is for people."""
    assert parse_history(HISTORY) == {1: Lsn.parse("0/3030E18"), 2: Lsn.parse("1/A0")}
    assert parse_history("") == {}


def follow(slot: Slot | None, *, fork: int | None, checkpoint: Checkpoint = CHECKPOINT) -> Slot:
    """Ask whether a promoted server can be followed."""
    slots = [slot] if slot else []
    place = None if fork is None else Lsn(fork)
    return require_continuity(SourceSettings(), "app", slots, checkpoint, PROMOTED, fork=place)


@pytest.mark.parametrize("fork", [100, 150])
def test_promoted_server_with_the_slot_is_followed(fork: int) -> None:
    """It has all WAL up to the checkpoint, and the slot has what comes after."""
    assert follow(COPY, fork=fork) is COPY


@pytest.mark.parametrize(
    ("slot", "fork", "why"),
    [
        (None, 150, "kept no copy of the slot"),
        (replace(COPY, synced=False), 150, "not a copy that a standby kept in step"),
        (replace(COPY, failover=False), 150, "not a copy that a standby kept in step"),
        (replace(COPY, temporary=True), 150, "not a copy that a standby kept in step"),
        (replace(COPY, failover=None, synced=None), 150, "not a copy that a standby kept in step"),
        (COPY, None, "no longer knows where it left timeline 1"),
        (COPY, 99, "changes were embedded that it never had"),
        (replace(COPY, confirmed_flush_lsn=Lsn(101)), 150, "the target lost its last commits"),
        (replace(COPY, invalidation_reason="wal_removed"), 150, "was invalidated"),
    ],
)
def test_other_promoted_servers_are_refused(slot: Slot | None, fork: int | None, why: str) -> None:
    """Each refusal has its reason, and its hint is `walvec resync`."""
    with pytest.raises(SlotLost, match=why) as refused:
        follow(slot, fork=fork)
    assert "walvec resync" in str(refused.value.hint)


def test_server_on_the_checkpoints_own_timeline_needs_no_copy() -> None:
    """An ordinary slot is enough where nothing was promoted."""
    ordinary = replace(SLOT, failover=False, confirmed_flush_lsn=Lsn(90))
    assert follow(ordinary, fork=None, checkpoint=replace(CHECKPOINT, timeline=2)) is ordinary
