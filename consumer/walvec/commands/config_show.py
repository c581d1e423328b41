"""`walvec config show`: every setting in force, and where it comes from.

Secrets are masked.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, SecretStr

from walvec.commands.output import print_json
from walvec.config.environment import find_variable, replace_vectorizers
from walvec.config.file import ConfigFile, KeyPath
from walvec.config.load import Config
from walvec.config.masking import mask_dsn, mask_url
from walvec.config.problems import keys_of

# Columns for a setting; a longer one pushes its comment to the right.
_REMARK_AT = 50


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: its path, its value in TOML (None: absent), and where it is set."""

    path: KeyPath
    value: str | int | float | None
    origin: str


def show(config: Config, path: Path | None, *, as_json: bool) -> None:
    """Print the settings as TOML, with their origins as comments, or as JSON.

    `path` is the settings file.
    """
    file = ConfigFile.read(path, required=False)
    settings = list(settings_of(config, file))
    if as_json:
        print_json(
            {
                "file": str(file.path) if file.document else None,
                "settings": [_entry(setting) for setting in settings],
            }
        )
        return
    typer.echo("\n".join(_lines(settings)))


def settings_of(config: Config, file: ConfigFile) -> Iterator[Setting]:
    """Yield every setting in the order of the models, vectorizers last."""
    document = replace_vectorizers(file.document, os.environ)
    for section in keys_of(Config):
        if section != "vectorizer":
            yield from _table((section,), getattr(config, section), file, document)
    for number, vectorizer in enumerate(config.vectorizers):
        yield from _table(("vectorizer", number), vectorizer, file, document)


def _table(path: KeyPath, table: BaseModel, file: ConfigFile, document: dict[str, Any]) -> Iterator[Setting]:
    for key in keys_of(type(table)):
        value, where = getattr(table, key), (*path, key)
        if isinstance(value, BaseModel):
            yield from _table(where, value, file, document)
        else:
            yield Setting(where, _plain(value, key), _origin(where, value, file, document))


def _plain(value: Any, key: str) -> str | int | float | None:
    """Return a value as TOML writes it, with secrets masked."""
    if isinstance(value, SecretStr):
        return mask_dsn(value.get_secret_value())
    if key == "base_url" and value is not None:
        return mask_url(value)
    return value if value is None or isinstance(value, int | float) else str(value)


def _origin(path: KeyPath, value: Any, file: ConfigFile, document: dict[str, Any]) -> str:
    """Name the variable, or file and line, that a setting comes from."""
    remark = _pointed_to(path, value)
    if variable := find_variable(path, document, os.environ):
        return variable + remark
    if _stands_in(file.document, path):
        line = file.line_of(path)
        return (f"{file.path} line {line}" if line else str(file.path)) + remark
    return ("default" if value is not None else "absent") + remark


def _pointed_to(path: KeyPath, value: Any) -> str:
    """Say whether the variables that a setting refers to are set, never their values."""
    if path[-1] == "api_key_env" and value is not None:
        return ", which is set" if os.environ.get(value) else ", which is not set"
    if path == ("source", "dsn"):
        given = sorted(name for name in os.environ if name.startswith("PG") and name[2:].isalpha())
        return f"; set: {', '.join(given)}" if given else ""
    return ""


def _stands_in(document: Any, path: KeyPath) -> bool:
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _entry(setting: Setting) -> dict[str, Any]:
    return {**asdict(setting), "path": list(setting.path)}


def _lines(settings: list[Setting]) -> Iterator[str]:
    """Write TOML that walvec can read back; an absent key becomes a comment."""
    table: KeyPath = ()
    for setting in settings:
        depth = 2 if setting.path[0] == "vectorizer" else 1
        if setting.path[:depth] != table:
            if table:
                yield ""
            table = setting.path[:depth]
            yield f"[[{table[0]}]]" if depth > 1 else f"[{table[0]}]"
        key = ".".join(map(str, setting.path[depth:]))
        text = f"# {key} =" if setting.value is None else f"{key} = {_toml(setting.value)}"
        yield f"{text:<{_REMARK_AT}}  # {setting.origin}"


def _toml(value: str | float) -> str:
    """Write a TOML value; JSON's escapes are a subset of TOML's."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)
