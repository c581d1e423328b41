"""What a shell may complete: the names of vectorizers, as walvec.toml and the environment have them.

Runs at every press of the tab key, so it reads the file by itself and imports nothing heavy; and whatever is
wrong with the settings, it completes nothing and says nothing.
"""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from walvec.config.names import DEFAULT_PATH, VECTORIZERS


def vectorizer_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the configured vectorizers whose names begin so."""
    given = context.params.get("config") or context.find_root().params.get("config")
    path = Path(given or os.environ.get("WALVEC_CONFIG") or DEFAULT_PATH)
    try:
        return [name for name in _names(path) if name.startswith(incomplete)]
    except (OSError, ValueError):
        return []


def _names(path: Path) -> Iterator[str]:
    """Yield the names; ValueError covers what is no TOML, JSON or UTF-8."""
    text = os.environ.get(VECTORIZERS)
    listed: Any = json.loads(text) if text else tomllib.loads(path.read_bytes().decode()).get("vectorizer")
    for each in listed if isinstance(listed, list) else []:
        name = each.get("name") if isinstance(each, dict) else None
        if isinstance(name, str):
            yield name
