import pytest

from walvec_slots.relation import ReplicaIdentity, UniqueIndex, identity_columns

PRIMARY = UniqueIndex("pk", True, False, True, True, ("id",))
DEFERRABLE = UniqueIndex("pk", True, False, False, True, ("id",))
CHOSEN = UniqueIndex("chosen", False, True, True, True, ("code",))
NULLABLE = UniqueIndex("nullable", False, False, True, False, ("maybe",))


@pytest.mark.parametrize(
    ("replica_identity", "indexes", "columns"),
    [
        ("default", [PRIMARY, CHOSEN], ("id",)),
        ("default", [DEFERRABLE, CHOSEN], None),
        ("default", [CHOSEN], None),
        ("index", [PRIMARY, CHOSEN], ("code",)),
        ("index", [PRIMARY], None),
        ("full", [PRIMARY, CHOSEN], ("id",)),
        ("full", [DEFERRABLE, CHOSEN], ("code",)),
        ("full", [NULLABLE], None),
        ("nothing", [PRIMARY, CHOSEN], None),
    ],
)
def test_identity_columns(
    replica_identity: ReplicaIdentity, indexes: list[UniqueIndex], columns: tuple[str, ...] | None
) -> None:
    """Only columns that the log carries, and that are unique and never null, identify a row."""
    assert identity_columns(replica_identity, indexes) == columns
