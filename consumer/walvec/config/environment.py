"""WALVEC_SECTION__KEY variables, as settings that win over the file's.

    WALVEC_EMBEDDER__TIMEOUT=10              [embedder] timeout
    WALVEC_VECTORIZER__BLOG__WHERE=…         where of the [[vectorizer]] named blog
    WALVEC_VECTORIZER__BLOG__CHUNK__SIZE=…   size in its chunk
    WALVEC_VECTORIZER='[{"name": …}]'        all vectorizers, in place of the file's

pydantic-settings' own source ignores a misspelled section without a word, and cannot find a table of a list
by its name. Here a variable that means nothing is refused. Variables without a double underscore
(WALVEC_CONFIG, WALVEC_TRACEBACK, WALVEC_TEST_DSN) are not settings.
"""

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from walvec.config.file import KeyPath
from walvec.config.names import VECTORIZERS
from walvec.config.problems import keys_of, model_in, suggest_word
from walvec.errors import ConfigInvalid

PREFIX = "WALVEC_"


class Environment(PydanticBaseSettingsSource):
    """Reads `environ` for the model `settings`, over the file's `document`."""

    def __init__(
        self, settings: type[BaseSettings], document: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        super().__init__(settings)
        self._document = document
        self._environ = environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Answer the base class, which asks field by field; `__call__` does not need it."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the tables that the variables make up.

        Raises ConfigInvalid for a variable that is not a setting.
        """
        tables: dict[str, Any] = {}
        vectorizers = self._copy_vectorizers()
        for variable, text in sorted(self._environ.items()):
            section, separator, rest = variable.removeprefix(PREFIX).lower().partition("__")
            if not variable.startswith(PREFIX) or not separator:
                continue
            if section == "vectorizer":
                table, rest = _find_vectorizer(variable, rest, vectorizers)
                model = model_in(self.settings_cls, ("vectorizer",))
                _put_setting(model, table, rest.split("__"), variable, text)
            else:
                _put_setting(self.settings_cls, tables, [section, *rest.split("__")], variable, text)
        return tables | ({"vectorizer": vectorizers} if vectorizers else {})

    def _copy_vectorizers(self) -> list[Any]:
        """Copy the vectorizers, which named variables may alter."""
        given = self._document.get("vectorizer")
        if not isinstance(given, list):
            # The model says what is wrong with it.
            return []
        return [dict(table) if isinstance(table, dict) else table for table in given]


def replace_vectorizers(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Replace the document's vectorizers with those in WALVEC_VECTORIZER, if any.

    Raises ConfigInvalid when the variable is not JSON.
    """
    if not (text := environ.get(VECTORIZERS)):
        return dict(document)
    try:
        return {**document, "vectorizer": json.loads(text)}
    except json.JSONDecodeError as error:
        raise ConfigInvalid(f"{VECTORIZERS} is not JSON (character {error.pos})") from None


def spell_variable(name: str) -> str:
    """Spell a key or a vectorizer's name as variables do."""
    return name.upper().replace("-", "_")


def find_variable(key: KeyPath, document: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable that set the key at this path, if one did."""
    if key[0] == "vectorizer" and environ.get(VECTORIZERS):
        return VECTORIZERS
    parts = [str(part) for part in key]
    if key[0] == "vectorizer" and len(key) > 1:
        table = document["vectorizer"][key[1]]
        parts[1] = str(table.get("name")) if isinstance(table, dict) else ""
    variable = PREFIX + "__".join(spell_variable(part) for part in parts)
    return variable if variable in environ else None


def _find_vectorizer(variable: str, rest: str, vectorizers: list[Any]) -> tuple[dict[str, Any], str]:
    """Find the vectorizer whose name `rest` begins with, and what follows the name.

    Where several names fit, it is the longest.
    """
    names = {
        f"{spell_variable(table['name'])}__".lower(): table
        for table in vectorizers
        if isinstance(table, dict) and isinstance(table.get("name"), str)
    }
    found = max((name for name in names if rest.startswith(name)), key=len, default=None)
    if found is None:
        raise ConfigInvalid(
            f"{variable} belongs to no vectorizer",
            hint="write WALVEC_VECTORIZER__NAME__KEY, with the name of a [[vectorizer]] in the file",
        )
    return names[found], rest.removeprefix(found)


def _put_setting(
    model: type[BaseModel] | None, table: dict[str, Any], keys: list[str], variable: str, text: str
) -> None:
    """Set `text` in `table`, at the path that `keys` spell below `model`."""
    *tables, last = keys
    for key in tables:
        _require_known(key, model, variable)
        inner = table.get(key)
        table[key] = table = dict(inner) if isinstance(inner, dict) else {}
        model = model and model_in(model, (key,))
    _require_known(last, model, variable)
    table[last] = _read_value(keys_of(model)[last], text)


def _require_known(key: str, model: type[BaseModel] | None, variable: str) -> None:
    if key not in (known := keys_of(model)):
        hint = suggest_word(key, known) if known else None
        raise ConfigInvalid(f"{variable} is not a setting", hint=hint)


def _read_value(kind: type[Any] | None, text: str) -> object:
    """Turn the text of a number or a boolean into it; the model judges all else."""
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            pass
    if any(isinstance(choice, bool) for choice in get_args(kind)):
        return {"true": True, "false": False}.get(text, text)
    return text
