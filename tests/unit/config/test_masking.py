import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from walvec.config.masking import mask_dsn, mask_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("dsn", "masked"),
    [
        ("", ""),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://u:hunter2@h:5432/db?sslmode=require", "postgresql://u:***@h:5432/db?sslmode=require"),
        ("postgres://u:hunter2@h1:1,h2:2/db", "postgres://u:***@h1:1,h2:2/db"),
        ("postgresql://h/db?user=u&password=hunter2", "postgresql://h/db?user=u&password=***"),
        ("postgresql://u:hunt%40er2@h/db?sslpassword=hunter2", "postgresql://u:***@h/db?sslpassword=***"),
        ("host=h dbname=db password=hunter2", "dbname=db host=h password=***"),
        ("host=h password = 'hunt er2' sslpassword=hunter2", "host=h password=*** sslpassword=***"),
    ],
)
def test_a_connection_string_keeps_its_form(dsn: str, masked: str) -> None:
    """A URI or pairs keep their form, with every secret masked."""
    shown = mask_dsn(dsn)
    assert conninfo_to_dict(shown) == conninfo_to_dict(masked)
    assert ("://" in shown, "hunt" in shown) == ("://" in dsn, False)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=4))
def test_no_password_comes_through(password: str) -> None:
    """No password comes through, whatever its characters."""
    dsn = make_conninfo("", user="u", host="h", password=password)
    assert conninfo_to_dict(mask_dsn(dsn)) == {"user": "u", "host": "h", "password": "***"}


@given(st.text(st.sampled_from("ab:/?#[]@!$&'()*+,;=%20 "), min_size=1, max_size=12))
def test_an_odd_uri_does_not_leak(middle: str) -> None:
    """An unusual URI is masked by libpq's reading of it."""
    dsn = f"postgresql://u:{middle}{SECRET}@h/db"
    try:
        given_ = conninfo_to_dict(dsn)
    except Exception:
        return  # refused as a setting
    if SECRET in str(given_.get("password")):
        assert SECRET not in mask_dsn(dsn)


def test_an_address_is_masked_too() -> None:
    """The password in a server's address is masked too."""
    assert mask_url("https://me:hunter2@h:8000/v1") == "https://me:***@h:8000/v1"
    assert mask_url("https://h/v1") == "https://h/v1"


def test_a_password_may_hold_an_at_sign() -> None:
    """The last @ ends the password."""
    assert mask_url("https://user:p@ss@host/v1") == "https://user:***@host/v1"
