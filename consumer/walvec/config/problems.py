"""What is wrong with the settings, in the operator's words.

pydantic's own report shows values, classes and URLs. This one names the key as the file spells it
(`[embedder] dimensions`), the line or the variable that it came from, and the fix. It never shows a value.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from walvec.config.file import ConfigFile, KeyPath
from walvec.errors import ConfigInvalid


def refusal(what: str, hint: str, key: str | KeyPath = ()) -> PydanticCustomError:
    """Build the error that a validator raises.

    `what` completes "[section] key …", and `hint` says what to write. `key` is the path below the model,
    where several keys are checked together.
    """
    path = (key,) if isinstance(key, str) else key
    return PydanticCustomError("walvec", "{what}", {"what": what, "hint": hint, "key": path})


def suggest_word(word: str, known: Iterable[str]) -> str:
    """Suggest the known word nearest to this one, or list them all."""
    known = list(known)
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"


def keys_of(model: type[BaseModel] | None) -> dict[str, Any]:
    """Map the keys that a table may have, as the file spells them, to what they hold.

    None stands for something that is not a table, and has no keys.
    """
    fields = model.model_fields if model else {}
    return {field.alias or name: field.annotation for name, field in fields.items()}


def model_in(settings: type[BaseModel], path: KeyPath) -> type[BaseModel] | None:
    """Return the model of the table at `path`; None where there is no such table."""
    model: type[BaseModel] | None = settings
    for key in path:
        if isinstance(key, str):
            model = _model(keys_of(model).get(key))
    return model


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `tuple[Vectorizer, ...]`, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model(part))), None)


def explain_problems(
    errors: list[ErrorDetails],
    settings: type[BaseModel],
    file: ConfigFile,
    variable: Callable[[KeyPath], str | None],
) -> ConfigInvalid:
    """Turn pydantic's findings into one error that lists them.

    `variable` returns the name of the environment variable that set a key, None when the file did.
    """
    problems = []
    for error in errors:
        path = _path(error)
        what, hint = words_for(error, settings, path)
        problems.append((f"{place_of(path, file, variable)}: {_spell_key(path, file)} {what}", hint))
    if len(problems) == 1:
        return ConfigInvalid(problems[0][0], hint=problems[0][1])
    lines = (f"  {what}; {hint}" if hint else f"  {what}" for what, hint in problems)
    return ConfigInvalid("\n".join([f"{len(problems)} settings are wrong", *lines]))


def _path(error: ErrorDetails) -> KeyPath:
    """Return the key at fault, without pydantic's <tag> of a union."""
    below = error.get("ctx", {}).get("key", ())
    return (*(part for part in error["loc"] if not str(part).startswith("<")), *below)


def place_of(path: KeyPath, file: ConfigFile, variable: Callable[[KeyPath], str | None]) -> str:
    """Say where a key was set: in a variable, or on a line of the file."""
    if name := variable(path):
        return name
    line = file.line_of(path)
    return f"{file.path} line {line}" if line else str(file.path)


def _spell_key(path: KeyPath, file: ConfigFile) -> str:
    """Spell a key as the file has it: `[[vectorizer]] blog chunk.size`."""
    section, *keys = path
    if section != "vectorizer" or not keys:
        return " ".join([f"[{section}]", ".".join(map(str, keys))]).strip()
    return " ".join([f"[[{section}]]", _vectorizer_name(file, keys[0]), ".".join(map(str, keys[1:]))]).strip()


def _vectorizer_name(file: ConfigFile, number: str | int) -> str:
    """Return the vectorizer's name, or its number in the file where it has none."""
    try:
        name = file.document["vectorizer"][number]["name"]
    except (KeyError, IndexError, TypeError):
        name = None
    return name if isinstance(name, str) and name.isidentifier() else f"number {int(number) + 1}"


# By pydantic's type of error: what is wrong, and what to write instead.
_WORDS: Mapping[str, tuple[str, str | None]] = {
    "int_type": ("must be a whole number", None),
    "int_from_float": ("must be a whole number", None),
    "float_type": ("must be a number", None),
    "string_type": ("must be a string", "put it in quotes"),
    "tuple_type": ("must be an array of tables", "write [[vectorizer]], with two brackets"),
    "model_type": ("must be a table", None),
    "model_attributes_type": ("must be a table", None),
}


def words_for(error: ErrorDetails, settings: type[BaseModel], path: KeyPath) -> tuple[str, str | None]:
    """Say what is wrong with the key at `path`, and what to write instead."""
    match error["type"]:
        case "walvec":
            return error["ctx"]["what"], error["ctx"]["hint"]
        case "extra_forbidden":
            return "is not a setting", suggest_word(str(path[-1]), keys_of(model_in(settings, path[:-1])))
        case "missing":
            return "is missing", f"write {path[-1]} = …"
        # What is not listed is a bound or a choice: "Input should be greater than or equal to 1".
        case kind:
            return _WORDS.get(kind) or (error["msg"].replace("Input should be", "must be"), None)
