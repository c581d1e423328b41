"""WALVEC_SECTION__KEY variables, as a pydantic-settings source that wins over the file.

    WALVEC_EMBEDDER__TIMEOUT=10              [embedder] timeout
    WALVEC_VECTORIZER__BLOG__WHERE=…         where of the [[vectorizer]] named blog
    WALVEC_VECTORIZER__BLOG__CHUNK__SIZE=…   size in its chunk
    WALVEC_VECTORIZER='[{"name": …}]'        all vectorizers, in place of the file's

pydantic-settings' own source would pass over a misspelt section in silence and knows no lists of
tables by name; here a variable that means nothing is refused. One without a double underscore
(WALVEC_CONFIG, WALVEC_TRACEBACK, WALVEC_TEST_DSN) is no setting.
"""

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from walvec.config.file import KeyPath
from walvec.config.problems import did_you_mean, keys_of, model_in
from walvec.errors import ConfigInvalid

PREFIX = "WALVEC_"
VECTORIZERS = "WALVEC_VECTORIZER"


class Environment(PydanticBaseSettingsSource):
    """Reads `environ` for `settings`, over the `document` that the file holds."""

    def __init__(
        self, settings: type[BaseSettings], document: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        super().__init__(settings)
        self._document = document
        self._environ = environ

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Answer the base class, which asks field by field; `__call__` needs no such question."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the tables that the variables make up. Raises ConfigInvalid for an unknown one."""
        tables: dict[str, Any] = {}
        vectorizers = self._vectorizers()
        for variable, text in sorted(self._environ.items()):
            section, separator, rest = variable.removeprefix(PREFIX).lower().partition("__")
            if not variable.startswith(PREFIX) or not separator:
                continue
            if section == "vectorizer":
                table, rest = _named(variable, rest, vectorizers)
                _put(model_in(self.settings_cls, ("vectorizer",)), table, rest.split("__"), variable, text)
            else:
                _put(self.settings_cls, tables, [section, *rest.split("__")], variable, text)
        return tables | ({"vectorizer": vectorizers} if vectorizers else {})

    def _vectorizers(self) -> list[Any]:
        """Copy the vectorizers that named variables may alter."""
        given = self._document.get("vectorizer")
        if not isinstance(given, list):
            return []  # the model says what is wrong with it
        return [dict(each) if isinstance(each, dict) else each for each in given]


def with_vectorizers(document: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Put the vectorizers that WALVEC_VECTORIZER holds in place of the document's.

    Raises ConfigInvalid when the variable is not JSON.
    """
    if not (text := environ.get(VECTORIZERS)):
        return dict(document)
    try:
        return {**document, "vectorizer": json.loads(text)}
    except json.JSONDecodeError as error:
        raise ConfigInvalid(f"{VECTORIZERS} is not JSON (character {error.pos})") from None


def spelling(name: str) -> str:
    """Spell a vectorizer's name as its variables do."""
    return name.upper().replace("-", "_")


def origin(key: KeyPath, document: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Name the variable that set the key at this path, if one did."""
    if key[0] == "vectorizer" and environ.get(VECTORIZERS):
        return VECTORIZERS
    parts = [str(part) for part in key]
    if key[0] == "vectorizer" and len(key) > 1:
        table = document["vectorizer"][key[1]]
        parts[1] = str(table.get("name")) if isinstance(table, dict) else ""
    variable = PREFIX + "__".join(spelling(part) for part in parts)
    return variable if variable in environ else None


def _named(variable: str, rest: str, vectorizers: list[Any]) -> tuple[dict[str, Any], str]:
    """Find the vectorizer whose name `rest` begins with (the longest), and what follows the name."""
    names = {
        f"{spelling(each['name'])}__".lower(): each
        for each in vectorizers
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    }
    found = max((name for name in names if rest.startswith(name)), key=len, default=None)
    if found is None:
        raise ConfigInvalid(
            f"{variable} belongs to no vectorizer",
            hint="write WALVEC_VECTORIZER__NAME__KEY, with the name of a [[vectorizer]] in the file",
        )
    return names[found], rest.removeprefix(found)


def _put(
    model: type[BaseModel] | None, table: dict[str, Any], keys: list[str], variable: str, text: str
) -> None:
    """Set `text` in `table`, at the path that `keys` spell below `model`."""
    *tables, last = keys
    for key in tables:
        _known(key, model, variable)
        inner = table.get(key)
        table[key] = table = dict(inner) if isinstance(inner, dict) else {}
        model = model and model_in(model, (key,))
    _known(last, model, variable)
    table[last] = _from_text(keys_of(model)[last], text)


def _known(key: str, model: type[BaseModel] | None, variable: str) -> None:
    if key not in (known := keys_of(model)):
        raise ConfigInvalid(f"{variable} is no setting", hint=did_you_mean(key, known) if known else None)


def _from_text(kind: type[Any] | None, text: str) -> object:
    """Turn the text of a number or a boolean into that value.

    Anything else stays text, and the model judges it.
    """
    if kind is int or kind is float:
        try:
            return kind(text)
        except ValueError:
            pass
    if any(isinstance(choice, bool) for choice in get_args(kind)):
        return {"true": True, "false": False}.get(text, text)
    return text
