from dataclasses import replace

import pytest

from walvec_slots.identity import ReplicaIdentity, UniqueIndex, identity_columns

PRIMARY = UniqueIndex(
    "pk", is_primary=True, is_replica_identity=False, immediate=True, not_null=True, columns=("id",)
)
DEFERRABLE = replace(PRIMARY, immediate=False)
CHOSEN = replace(PRIMARY, name="chosen", is_primary=False, is_replica_identity=True, columns=("code",))
NULLABLE = replace(PRIMARY, name="nullable", is_primary=False, not_null=False, columns=("maybe",))


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
    """Only columns that the WAL carries identify a row, if unique and never null."""
    assert identity_columns(replica_identity, indexes) == columns
