"""`[source] search_path`, for the names in the user's expressions. Pure."""

import re
from collections.abc import Iterable

# A name in double quotes, or a bare one, as PostgreSQL reads them in a list.
_NAME = r'(?:"(?:[^"]|"")+"|[^\s",]+)'
_OWN = "pg_catalog"
_TEMPORARY = "pg_temp"


def schemas(text: str) -> list[str]:
    """Return the schemas of a search path by name.

    Raises ValueError where it is not one, or where another schema's names would come before PostgreSQL's own.
    """
    if not re.fullmatch(rf"\s*{_NAME}(\s*,\s*{_NAME})*\s*", text):
        raise ValueError("is not a list of schemas")
    names = [
        name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
        for name in re.findall(_NAME, text)
    ]
    if _OWN in names[1:]:
        raise ValueError(f"must begin with {_OWN} or leave it out, which puts it first")
    return names


def spell_path(names: Iterable[str]) -> str:
    """Write a search path for `schemas` to read, PostgreSQL's own schema first."""
    return ", ".join(
        [_OWN, *(name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else _quoted(name) for name in names)]
    )


def search_path(text: str) -> str:
    """Return the setting that a session gets.

    PostgreSQL's own schema comes first, temporary objects last.
    """
    names = [name for name in schemas(text) if name not in (_OWN, _TEMPORARY)]
    return ", ".join([_OWN, *map(_quoted, names), _TEMPORARY])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
