"""The name of a table, as the settings spell it."""

import re
from typing import NamedTuple, Self

# PostgreSQL's NAMEDATALEN less one.
MAX_NAME_BYTES = 63

# A part in double quotes, or one without quotes and dots that neither begins nor ends with a space.
_NAME_PART = r'(?:"(?:[^"\0]|"")+"|[^\s".\0](?:[^".\0]*[^\s".\0])?)'


class TableName(NamedTuple):
    """A table's exact name, which `psycopg.sql.Identifier(*name)` takes."""

    schema: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `schema.table` or `table` (in schema public).

        Each part is taken as it is spelled, without folding to lower case. As in SQL, double quotes allow
        for dots, quotes (doubled) and spaces at the ends. Raises ValueError.
        """
        parts = [
            part[1:-1].replace('""', '"') if part.startswith('"') else part
            for part in re.findall(_NAME_PART, text)
        ]
        if not re.fullmatch(rf"{_NAME_PART}(\.{_NAME_PART})?", text):
            raise ValueError("is not a table name")
        if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
            raise ValueError(f"has a part longer than PostgreSQL's {MAX_NAME_BYTES} bytes")
        return cls(*["public", *parts][-2:])

    def __str__(self) -> str:
        """Spell the name so that `parse` reads the same one again."""
        return ".".join(
            part if re.fullmatch(r"\w+", part) else '"' + part.replace('"', '""') + '"' for part in self
        )
