import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from walvec.config.load import Config
from walvec.config.problems import keys_of, model_in

PAGE = (Path(__file__).parents[3] / "docs/configuration.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z_.]+)` \| `(WALVEC_[A-Z_]+)` \| ([a-z ]+) \| (.+?) \| (.+) \|$", re.MULTILINE)


def described() -> dict[tuple[str, ...], tuple[str, str, str]]:
    """Map each key on the page, by section, to its variable, type and default."""
    found = {}
    for section, text in re.findall(r"^## `\[+(\w+)\]+`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL):
        for key, variable, kind, default, _ in ROW.findall(text):
            found[(section, *key.split("."))] = (variable, kind, default.strip("`"))
    return found


def existing(model: type[BaseModel] = Config, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every key of the models."""
    for key in keys_of(model):
        if path:
            yield (*path, key)
        if inner := model_in(model, (key,)):
            yield from existing(inner, (*path, key))


def default_of(path: tuple[str, ...]) -> Any:
    """Return the default in the models; None where there is none to compare."""
    table = model_in(Config, path[:-1])
    assert table
    field = table.model_fields[path[-1]]
    return None if field.is_required() else field.default


def test_the_page_has_every_key_and_no_other() -> None:
    """The page describes exactly the keys that the models have."""
    assert set(described()) == set(existing())


@pytest.mark.parametrize("path", sorted(described()), ids=".".join)
def test_the_variable_is_the_key_in_capitals(path: tuple[str, ...]) -> None:
    """The page names the variable that is looked up for each key."""
    section, *keys = (part.upper() for part in path)
    named = ["NAME"] if section == "VECTORIZER" else []
    assert described()[path][0] == "WALVEC_" + "__".join([section, *named, *keys])


@pytest.mark.parametrize("path", sorted(described()), ids=".".join)
def test_type_and_default_are_the_models_own(path: tuple[str, ...]) -> None:
    """The page promises what an empty file gives."""
    _, kind, default = described()[path]
    expected = default_of(path)
    if expected is None:
        assert default in {"required", "absent", "see above", "a tenth of `size"}
        return
    value = tomllib.loads(f"value = {default}")["value"]
    if isinstance(expected, BaseModel):
        assert expected.model_dump() == value
    elif hasattr(expected, "get_secret_value"):
        assert expected.get_secret_value() == value
    else:
        assert (
            expected,
            {"string": str, "string or boolean": str, "integer": int, "number": float}[kind],
        ) == (value, type(expected))


def test_the_example_is_valid() -> None:
    """The small file on the page loads."""
    text = PAGE.split("```toml\n")[1].split("```")[0]
    assert Config(**tomllib.loads(text)).vectorizers[0].name == "blog"
