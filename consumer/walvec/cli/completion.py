"""Shell completion of vectorizer names, from walvec.toml and the environment.

This runs each time the tab key is pressed, so it reads the file itself and imports nothing heavy. If
anything is wrong with the settings it completes nothing, silently.
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
    """Return the configured vectorizers whose names begin with `incomplete`."""
    given = context.params.get("config") or context.find_root().params.get("config")
    path = Path(given or os.environ.get("WALVEC_CONFIG") or DEFAULT_PATH)
    try:
        return [name for name in _names(path) if name.startswith(incomplete)]
    except (OSError, ValueError):
        return []


def _names(path: Path) -> Iterator[str]:
    """Yield the names. Malformed TOML, JSON or UTF-8 raises ValueError."""
    text = os.environ.get(VECTORIZERS)
    listed: Any = json.loads(text) if text else tomllib.loads(path.read_bytes().decode()).get("vectorizer")
    for vectorizer in listed if isinstance(listed, list) else []:
        name = vectorizer.get("name") if isinstance(vectorizer, dict) else None
        if isinstance(name, str):
            yield name
