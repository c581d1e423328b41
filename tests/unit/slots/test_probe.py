import pytest

from walvec_slots.probe import _libraries


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
