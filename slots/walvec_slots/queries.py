"""SQL by name.

The text is in `sql/`, a folder of the checkout and of the installed package, in blocks: each begins with
`-- name: some_name` and a comment that says what the statement is for. Values are `%(name)s` parameters;
identifiers are `{placeholders}` for `psycopg.sql.SQL(block).format(...)`.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import LiteralString

_HERE = Path(__file__).parent
# The wheel has `sql/` inside this package, the checkout at its top.
FOLDER = next(folder for folder in (_HERE / "sql", _HERE.parents[1] / "sql") if folder.is_dir())
_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)


@cache
def load_sql(file: str) -> Mapping[str, LiteralString]:
    """Return the statements of `sql/<file>` by name, without their leading comments.

    Raises FileNotFoundError, or ValueError where a name occurs twice or a block holds no statement.
    """
    blocks: dict[str, LiteralString] = {}
    for name, statement in _blocks((FOLDER / file).read_text(encoding="utf-8")):
        if name in blocks or not statement:
            raise ValueError(f"sql/{file}: {name} {'occurs twice' if statement else 'holds no statement'}")
        # It ships with the package, and so is as trustworthy as a literal in this file.
        blocks[name] = statement
    return MappingProxyType(blocks)


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Split at the names.

    Comments before the statement are dropped: a `%` or a brace in one would be a placeholder.
    """
    _, *parts = _NAME.split(text)
    for name, block in zip(parts[::2], parts[1::2], strict=True):
        lines = block.strip().splitlines()
        while lines and (not lines[0].strip() or lines[0].startswith("--")):
            lines.pop(0)
        yield name, "\n".join(lines).rstrip(";")
