"""`walvec.toml` on disk: its tables, and the line of each key.

The line numbers are for error messages; where a line is not found, the message goes without.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from walvec.config.names import DEFAULT_PATH
from walvec.errors import ConfigInvalid

KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_-]+)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*(=|\.)")
_MULTILINE_QUOTE = re.compile(r"\"\"\"|'''")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file that was read: its TOML, and the line of each key's path, from 1."""

    path: Path
    document: dict[str, Any]
    lines: dict[KeyPath, int]

    @classmethod
    def read(cls, path: Path | None, *, required: bool = True) -> Self:
        """Read `path`, by default walvec.toml here.

        An absent file is empty unless `required`. Raises ConfigInvalid when it is absent, unreadable or not
        TOML.
        """
        path = path or Path(DEFAULT_PATH)
        try:
            text = path.read_bytes().decode()
            return cls(path, tomllib.loads(text), dict(_locate_keys(text)))
        except FileNotFoundError:
            if not required:
                return cls(path, {}, {})
            raise ConfigInvalid(
                f"{path} does not exist", hint="`walvec init SCHEMA.TABLE` writes one; --config names another"
            ) from None
        except OSError as error:
            raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise ConfigInvalid(f"{path} is not UTF-8 (byte {error.start})") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigInvalid(f"{path} is not TOML: {error}") from None

    def line_of(self, key: KeyPath) -> int | None:
        """Find the line of a key, or of the nearest table around it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key)


def _locate_keys(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield each key's path and line; tomllib does not give positions.

    Only the beginnings of lines are read.
    """
    table: KeyPath = ()
    arrays: dict[str, int] = {}
    quote = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not quote:
            if header := _HEADER.match(line):
                name = header[2]
                if header[1] == "[[":
                    arrays[name] = arrays.get(name, -1) + 1
                table = (name, arrays[name]) if name in arrays else (name,)
                yield table, number
            elif key := _KEY.match(line):
                yield (*table, key[1]), number
        for mark in _MULTILINE_QUOTE.findall(line):
            if quote in ("", mark):
                quote = "" if quote else mark
