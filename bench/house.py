"""How the product's code reads, in numbers: `python -m bench.house` prints them, with `--check` refuses.

What is counted: files on the top floor, public names in two modules, names of one word, docstrings whose
first line breaks or passes 80 characters, long comments behind code, assignments to another object's
attribute, lines of code, and the words of the longest page.
"""

import ast
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (ROOT / "consumer" / "walvec", ROOT / "slots" / "walvec_slots")

FIRST_LINE = 80  # characters of a docstring's first line
BEHIND_CODE = 5  # words of a comment behind code

# A command bears one name twice: in `cli`, and in `commands` where the work is done.
VERBS = ("cli", "commands")


@dataclass
class House:
    """What was found; each list holds places as `file:line`."""

    files: int = 0
    lines: int = 0
    top_floor: list[str] = field(default_factory=list)
    homonyms: dict[str, list[str]] = field(default_factory=dict)
    functions: int = 0
    one_word: int = 0
    broken: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)
    trailing: list[str] = field(default_factory=list)
    reached_into: list[str] = field(default_factory=list)


def survey() -> House:
    """Read every module of both packages."""
    house = House(top_floor=sorted(path.name for path in PACKAGES[0].glob("*.py")))
    names: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            place = str(path.relative_to(package.parent))
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            house.files += 1
            house.lines += text.count("\n")
            for name in public_names(tree):
                names[name].append(place)
            _read_docstrings(house, place, tree)
            _read_code(house, place, tree)
            house.trailing += [f"{place}:{line}" for line in long_comments(text)]
    house.homonyms = {name: places for name, places in sorted(names.items()) if is_homonym(places)}
    return house


def long_comments(text: str) -> Iterator[int]:
    """Yield the lines with a long comment behind code."""
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT and token.line[: token.start[1]].strip():
            words = token.string.lstrip("# ")
            if not words.startswith(("noqa", "type:")) and len(words.split()) > BEHIND_CODE:
                yield token.start[0]


def public_names(tree: ast.Module) -> Iterator[str]:
    """Yield what a module defines for others: classes, functions, constants and types."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                defined = [name]
            case ast.Assign(targets=targets):
                defined = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined = [name]
            case _:
                defined = []
        yield from (name for name in defined if not name.startswith("_"))


def is_homonym(places: list[str]) -> bool:
    """Whether a name of these modules means two things; that of a command and its function is one."""
    rest = [place for place in places if place.split("/")[1] not in VERBS]
    return len(places) > 1 and bool(rest)


def _read_docstrings(house: House, place: str, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if docstring := ast.get_docstring(node):
            first, *more = docstring.splitlines()
            where = f"{place}:{getattr(node, 'lineno', 1)}"
            if len(first) > FIRST_LINE:
                house.long.append(where)
            if more and more[0].strip():
                house.broken.append(where)


def _read_code(house: House, place: str, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            house.functions += 1
            house.one_word += "_" not in node.name.strip("_")
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and not is_own(target):
                    house.reached_into.append(f"{place}:{node.lineno}")


def is_own(target: ast.Attribute) -> bool:
    """Whether the attribute is one of the object whose method assigns it."""
    return isinstance(target.value, ast.Name) and target.value.id in {"self", "cls"}


def longest_page() -> tuple[int, str]:
    """Return the words of the longest page, and its name; rendered measurements are no page to read."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    read = [page for page in pages if page.name not in {"performance.md", "CHANGELOG.md"}]
    return max((len(page.read_text(encoding="utf-8").split()), str(page.relative_to(ROOT))) for page in read)


def main() -> int:
    """Print the numbers; with `--check` the places too, and 1 where a rule is broken that holds already."""
    house = survey()
    words, page = longest_page()
    rules: dict[str, list[str]] = {
        "public names in two modules": [f"{name}: {', '.join(at)}" for name, at in house.homonyms.items()],
        "docstrings whose first line breaks": house.broken,
        f"docstrings whose first line passes {FIRST_LINE} characters": house.long,
        f"comments of more than {BEHIND_CODE} words behind code": house.trailing,
        "assignments to another object's attribute": house.reached_into,
    }
    if "--check" in sys.argv:
        for rule, places in rules.items():
            for place in places:
                print(f"{place}: {rule}")
        return 1 if any(rules.values()) else 0
    print(f"{len(house.top_floor):6} files on the top floor of walvec")
    for rule, places in rules.items():
        print(f"{len(places):6} {rule}")
    print(f"{house.one_word:6} of {house.functions} functions with a name of one word")
    print(f"{words:6} words in the longest page, {page}")
    print(f"{house.lines:6} lines of code in {house.files} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
