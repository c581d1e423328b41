import pytest

from walvec_slots.errors import PreconditionFailed
from walvec_slots.failover import FailoverSetting, failover_wanted


@pytest.mark.parametrize(
    ("setting", "version", "wanted"),
    [
        ("auto", 160010, False),
        ("auto", 170000, True),
        (True, 180006, True),
        (False, 180006, False),
        (False, 150015, False),
    ],
)
def test_slots_are_failover_slots_where_the_server_has_them(
    setting: FailoverSetting, version: int, wanted: object
) -> None:
    """Servers have them from PostgreSQL 17 on, and false turns them off."""
    assert failover_wanted(setting, version) is wanted


def test_failover_is_refused_where_the_server_has_none() -> None:
    """An older server cannot do what true demands; the message names its version."""
    with pytest.raises(PreconditionFailed, match="PostgreSQL 16 has no failover slots"):
        failover_wanted(True, 160010)
