"""Which parts there are: every module here that defines `measure`, in an order that is good to read."""

import ast
from pathlib import Path

# Names that are not here come last.
ORDER = (
    "backfill",
    "stream",
    "update",
    "saturation",
    "scale",
    "decode",
    "write",
    "latency",
    "footprint",
    "idle",
    "memory",
    "startup",
    "profile",
)


def names() -> list[str]:
    """Return the names of all parts."""
    found = [path.stem for path in Path(__file__).parent.glob("*.py") if _is_part(path)]
    return sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _is_part(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in tree.body)
