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
from walvec_slots.sqlstates import change_refused, creation_refused, start_refused, stream_ended


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
    """A refused start raises the error of its SQLSTATE; an unknown one stops."""
    assert type(start_refused("s", "wal2json", sqlstate, "so")) is kind


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
    """An operator's intervention is retried; WAL that is gone is not retried."""
    assert type(stream_ended("s", "wal2json", sqlstate, "so", Lsn(1))) is kind


def test_a_row_past_a_gigabyte_wedges_the_slot() -> None:
    """SlotWedged has the position, and a hint that leads past it."""
    error = stream_ended("s", "wal2json", "54000", "out of memory", Lsn(0x16B374D848))
    assert isinstance(error, SlotWedged)
    assert (error.lsn, "16/B374D848" in error.what, "walvec resync" in (error.hint or "")) == (
        0x16B374D848,
        True,
        True,
    )


def test_a_missing_right_and_a_refused_plugin_share_a_code() -> None:
    """The hint is another one where the role may not replicate at all."""
    hints = [creation_refused("s", "42501", "no", "joe", plugin).hint or "" for plugin in (None, "wal2json")]
    allow = "ALTER SYSTEM SET output_plugin_libraries = 'wal2json', 'pgoutput', 'test_decoding'"
    assert hints == ['ALTER ROLE "joe" REPLICATION', f"{allow}; SELECT pg_reload_conf()"]


def test_a_slot_without_logical_wal_names_the_setting() -> None:
    """The hint sets wal_level, and says that this takes a restart."""
    error = creation_refused("s", "55000", "wal_level", "joe", "wal2json")
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
    """A missing slot is a wrong name to a command, not a lost slot."""
    assert type(change_refused("s", sqlstate, "so", "joe")) is kind
