"""Minor releases of PostgreSQL with a known fault of logical decoding; pure.

Each entry comes from a section of PostgreSQL's release notes, https://www.postgresql.org/docs/release/. The
notes of every major version that has the fault contain the same item.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class KnownFault:
    """A fault that a minor release fixes.

    `fixed_in` maps each major version to its first minor release without the fault. `since` maps it to the
    first minor release with the fault; a major version that is absent there has it from 0 on. `section` names
    the item in the release notes.
    """

    what: str
    fixed_in: Mapping[int, int]
    section: str
    since: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))


KNOWN_FAULTS: Final = (
    KnownFault(
        "changes are lost if ALTER PUBLICATION or ALTER TYPE runs beside an open transaction",
        fixed_in={17: 5, 16: 9, 15: 13, 14: 18},
        section="17.5, cache invalidations that reach open transactions during logical decoding",
    ),
    KnownFault(
        "decoding fails permanently if many statements alter tables at the same time",
        fixed_in={17: 6, 16: 10, 15: 14, 14: 19},
        section="17.6, cache invalidation messages from other transactions during logical replication",
        since={17: 5, 16: 9, 15: 13, 14: 18},
    ),
    KnownFault(
        "after a crash, decoding can wait forever for the rest of a WAL record",
        fixed_in={17: 6, 16: 10, 15: 14, 14: 19},
        section="17.6, infinite wait in logical decoding when reading a partially-written WAL record",
    ),
    KnownFault(
        "after a crash, the WAL at which a slot begins can be missing",
        fixed_in={17: 6, 16: 10, 15: 14, 14: 19},
        section="17.6, premature removal of old WAL during checkpoints",
    ),
)


def faults_of(version: int) -> list[KnownFault]:
    """Return the faults of a server version, which is 170005 for 17.5."""
    major, minor = divmod(version, 10_000)
    return [
        fault for fault in KNOWN_FAULTS if fault.since.get(major, 0) <= minor < fault.fixed_in.get(major, 0)
    ]


def minor_to_upgrade_to(faults: list[KnownFault], version: int) -> str:
    """Return the first release of the major version without these faults: "17.6"."""
    major = version // 10_000
    return f"{major}.{max(fault.fixed_in[major] for fault in faults)}"
