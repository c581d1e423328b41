"""Addresses that are misread: a part of the password becomes the host. Pure.

In `postgresql://u:p@ss@host/db` the first @ ends the password, and libpq takes `ss@host` for the host, which
every error message shows. So an impossible host, port or database is refused as a setting, without its value.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

ENCODE: Final = "percent-encode a password: @ is %40, / is %2F, : is %3A, ? is %3F, # is %23"

# libpq's variables that complete a connection string, and what they stand for.
VARIABLES: Final[Mapping[str, str]] = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
}


def misread_dsn(dsn: str) -> str | None:
    """Say what in a connection string cannot have been meant; None where all is fine.

    Raises psycopg's ProgrammingError where libpq cannot read it at all.
    """
    from psycopg.conninfo import conninfo_to_dict

    given = conninfo_to_dict(dsn)
    address, is_uri, rest = dsn.partition("://")
    if is_uri and "=" not in address:
        login, _, path = rest.partition("?")[0].partition("/")
        if login.count("@") > 1 or "@" in path:
            return "has an @ that ends the password too early, or a / within it"
    parts = {name: str(given[name]) for name in VARIABLES.values() if given.get(name)}
    return next((odd for name, value in parts.items() if (odd := misread_part(name, value))), None)


def names_part(dsn: str, part: str) -> bool:
    """Whether a connection string has this part, so that libpq's variable is not used."""
    from psycopg.conninfo import conninfo_to_dict

    return bool(conninfo_to_dict(dsn).get(part))


def misread_part(name: str, value: str) -> str | None:
    """Say why a host, hostaddr, port or dbname cannot be one; None where it can."""
    match name:
        case "host" | "hostaddr":
            return "has an @ in its host" if "@" in value else None
        case "port":
            return None if re.fullmatch(r"[0-9,]*", value) else "has a port that is not a number"
        case _:
            return "has a connection string for its database" if "://" in value else None


def misread_url(url: str) -> bool:
    """Whether an HTTP server's address has a part of its password as port or path."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- raises where it is not a number
    except ValueError:
        return True
    return "@" in parts.path
