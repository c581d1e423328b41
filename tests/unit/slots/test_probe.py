import pytest

from walvec_slots.probe import _libraries, _server


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("", []),
        ("pgoutput, test_decoding", ["pgoutput", "test_decoding"]),
        ('"wal2json, pgoutput"', ["wal2json, pgoutput"]),
        ('"$libdir/odd name",wal2json', ["$libdir/odd name", "wal2json"]),
    ],
)
def test_libraries_are_listed_as_postgresql_reads_them(setting: str, names: list[str]) -> None:
    """A quoted entry is one name, whatever commas it holds."""
    assert _libraries(setting) == names


@pytest.mark.parametrize(
    ("version", "remedies"),
    [(170005, ["upgrade to PostgreSQL 17.6 or a later minor release"]), (170006, []), (180001, [])],
)
def test_minor_release_with_a_known_fault_is_a_warning(version: int, remedies: list[str]) -> None:
    """The remedy names the release to upgrade to; walvec follows the server anyway."""
    state = {"version": "17.5", "wal_level": "logical", "role": "walvec", "allowed": True}
    found = [finding for finding in _server(state, version) if finding.subject == "minor release"]
    assert [(finding.level, finding.remedy) for finding in found] == [("warning", each) for each in remedies]
