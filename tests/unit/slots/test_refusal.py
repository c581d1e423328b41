import pytest

from walvec_slots.errors import (
    ConnectionLost,
    PreconditionFailed,
    SlotActive,
    SlotLost,
    SlotWedged,
    WalvecError,
)
from walvec_slots.lsn import Lsn
from walvec_slots.refusal import ended, managed, not_created, refused


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("55006", SlotActive),
        ("42704", SlotLost),
        ("55000", SlotLost),
        ("42501", PreconditionFailed),
        ("58P01", PreconditionFailed),
        ("22023", PreconditionFailed),
        ("57P03", ConnectionLost),
        ("53300", ConnectionLost),
        ("08006", ConnectionLost),
        ("XX000", WalvecError),
    ],
)
def test_what_keeps_a_stream_from_starting(sqlstate: str, kind: type[WalvecError]) -> None:
    """What passes is retried, what another process or the operator must do is named, the unknown stops."""
    assert type(refused("s", "wal2json", sqlstate, "so")) is kind


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("", ConnectionLost),
        ("57P01", ConnectionLost),
        ("57014", ConnectionLost),
        ("55000", SlotLost),
        ("58P01", SlotLost),
        ("XX000", WalvecError),
    ],
)
def test_what_ends_a_stream(sqlstate: str, kind: type[WalvecError]) -> None:
    """An operator's intervention is retried; WAL that is gone is not."""
    assert type(ended("s", "wal2json", sqlstate, "so", Lsn(1))) is kind


def test_a_row_past_a_gigabyte_wedges_the_slot() -> None:
    """The error says after which place, and the way past it."""
    error = ended("s", "wal2json", "54000", "out of memory", Lsn(0x16B374D848))
    assert isinstance(error, SlotWedged)
    assert (error.lsn, "16/B374D848" in error.what, "walvec resync" in (error.hint or "")) == (
        0x16B374D848,
        True,
        True,
    )


def test_a_missing_right_and_a_refused_plugin_share_a_code() -> None:
    """Which it is depends on whether the role may replicate: each has its own remedy."""
    hints = [not_created("s", "42501", "no", "joe", plugin).hint or "" for plugin in (None, "wal2json")]
    allow = "ALTER SYSTEM SET output_plugin_libraries = 'wal2json', 'pgoutput', 'test_decoding'"
    assert hints == ['ALTER ROLE "joe" REPLICATION', f"{allow}; SELECT pg_reload_conf()"]


def test_a_slot_without_logical_wal_names_the_setting() -> None:
    """wal_level takes a restart, which the hint says."""
    error = not_created("s", "55000", "wal_level", "joe", "wal2json")
    assert error.hint == "ALTER SYSTEM SET wal_level = 'logical', then restart the server"


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("55006", SlotActive),
        ("42704", PreconditionFailed),
        ("42501", PreconditionFailed),
        ("XX000", WalvecError),
    ],
)
def test_what_keeps_a_slot_from_being_managed(sqlstate: str, kind: type[WalvecError]) -> None:
    """By hand, a missing slot is a wrong name rather than a loss."""
    assert type(managed("s", sqlstate, "so", "joe")) is kind
