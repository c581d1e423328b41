"""The mutants: small mistakes, each with the tests that must see it.

Each breaks a guarantee. They lie beside this file, one TOML file a room:

    [[mutant]]
    name = "ack-other-lanes"
    guarantee = 1
    mistake = "The checkpoint follows one lane and passes what another one has not committed."
    file = "slots/walvec_slots/ack.py"
    old = "min(ends, default=self.planned)"
    new = "max(ends, default=self.planned)"
    tests = ["tests/unit/slots/test_ack.py::TestTwoLanes::test_the_checkpoint_is_the_least_advanced_lane"]

`old` occurs exactly once in the file. One line may be a part of one; several are whole lines without their
common indentation, so that a mutant survives that its code is moved. Comments and docstrings stay out of it.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

FOLDER = Path(__file__).parent

# Number -> name, as on the page; what each one promises in full is said there.
GUARANTEES = {
    1: "Confirm after commit",
    2: "Convergence: target = f(source)",
    3: "Order by key",
    4: "One writer",
    5: "No footprint on the source",
    6: "Nothing dropped",
    7: "Bounded memory",
    8: "Private",
}


class Misplaced(ValueError):
    """The lines that a mutant changes are not there exactly once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake, and who must see it."""

    name: str
    guarantee: int
    mistake: str  # what the code does wrong, in one sentence
    file: str  # from the checkout's top
    old: str
    new: str
    tests: tuple[str, ...]  # node ids; one of them has to fail
    room: str  # the TOML file that has it

    def apply(self, text: str) -> str:
        """Return the file's text with the mistake in it. Raises Misplaced."""
        old = self.old.strip("\n")
        if "\n" in old:
            return self._replace_lines(text, old)
        if text.count(old) != 1:
            raise Misplaced(f"{self.name}: {text.count(old)} times in {self.file}")
        return text.replace(old, self.new)

    def _replace_lines(self, text: str, old: str) -> str:
        lines, wanted = text.splitlines(keepends=True), old.splitlines()
        places = [
            (start, margin)
            for start, line in enumerate(lines)
            if (margin := _margin(line, wanted[0])) is not None
            and [each.rstrip("\n") for each in lines[start : start + len(wanted)]]
            == indent(old, margin).splitlines()
        ]
        if len(places) != 1:
            raise Misplaced(f"{self.name}: {len(places)} times in {self.file}")
        [(start, margin)] = places
        new = indent(self.new.strip("\n"), margin)
        lines[start : start + len(wanted)] = [new + "\n"] if new else []
        return "".join(lines)


def _margin(line: str, first: str) -> str | None:
    """Return the indentation of the first wanted line, None for any other line."""
    margin, found, rest = line.partition(first)
    return margin if found and not margin.strip() and not rest.strip() else None


def load_mutants() -> list[Mutant]:
    """Return all of them, file by file."""
    return [
        Mutant(**{**entry, "tests": tuple(entry["tests"])}, room=path.stem)
        for path in sorted(FOLDER.glob("*.toml"))
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    ]
