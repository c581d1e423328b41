import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from walvec_slots.settle import startup


def options(conninfo: str, settings: dict[str, str]) -> str:
    """Return the options of a completed connection string."""
    return str(conninfo_to_dict(startup(conninfo, settings))["options"])


def test_what_is_pinned_stands_after_what_the_connection_string_has() -> None:
    """The pinned settings come last, because PostgreSQL takes the last of two."""
    found = options("host=h options='-c search_path=public -c work_mem=1MB'", {"lock_timeout": "2s"})
    assert found.startswith("-c search_path=public -c work_mem=1MB -c search_path=pg_catalog,\\ pg_temp ")
    assert "-c lock_timeout=2s" in found
    assert "-c lock_timeout=0" not in found


def test_the_environment_s_options_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """PGOPTIONS counts where the connection string has no options, as for libpq."""
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=1MB")
    assert options("", {}).startswith("-c work_mem=1MB -c ")
    assert not options("options='-c geqo=off'", {}).startswith("-c work_mem")


def test_text_is_utf_8_whatever_the_connection_string_says() -> None:
    """The client encoding is always UTF-8."""
    assert conninfo_to_dict(startup("client_encoding=latin1", {}))["client_encoding"] == "UTF8"


@pytest.mark.parametrize("words", ["", "target_session_attrs=any", "target_session_attrs=read-write"])
def test_only_a_primary_will_do(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection string and the environment cannot ask for another server."""
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "prefer-standby")
    found = conninfo_to_dict(startup(f"host=a,b {words}", {}))
    assert found["target_session_attrs"] == "primary"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_a_value_cannot_end_its_option(value: str) -> None:
    """White space and backslashes in a value are escaped as pg_split_opts() reads."""
    found = options("", {"walvec.search_path": value})
    (_, _, rest) = found.partition("-c walvec.search_path=")
    read, escaped = "", False
    for character in rest:
        if escaped or not (character == "\\" or character.isspace()):
            read, escaped = read + character, False
        elif character == "\\":
            escaped = True
        else:
            break
    assert read == value
