"""A position in the write-ahead log.

https://www.postgresql.org/docs/current/datatype-pg-lsn.html
"""

import re
from typing import Self

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)


class Lsn(int):
    """A byte position in the WAL: 64 bits, ordered.

    `Lsn(0)` is the invalid position, PostgreSQL's InvalidXLogRecPtr.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read PostgreSQL's form, two hexadecimal halves: `16/B374D848`.

        Raises ValueError for anything else.
        """
        if (halves := _TEXT.fullmatch(text)) is None:
            raise ValueError(f"not an LSN: {text!r}")
        return cls(int(halves[1], 16) << 32 | int(halves[2], 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({str(self)!r})"
