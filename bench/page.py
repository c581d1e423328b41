"""docs/performance.md, from what the parts have saved and the prose of performance.md beside this module.

python -m bench.page       writes it again without measuring
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

import orjson

from bench import contest, pgai
from bench.parts import names
from bench.report import CHECKOUT, Record, Result, directory, machine, saved

PAGE = CHECKOUT / "docs/performance.md"
TEMPLATE = Path(__file__).with_name("performance.md")
COSTS = "profile"  # the part whose results are the largest costs
MARK = "<!-- Made by `make bench` from bench/performance.md and what it measured. Do not edit. -->\n\n"

_HEADER = ("what", "walvec", "beside", "it", "ratio", "to reach", "reached")


def write(versions: Mapping[str, str] | None = None) -> None:
    """Write the page; `versions` are of the programs measured, those of the last run unless given."""
    kept = directory() / "machine.json"
    if versions is not None:
        kept.write_bytes(orjson.dumps(machine() | dict(versions), option=orjson.OPT_INDENT_2))
    described: dict[str, str] = orjson.loads(kept.read_bytes()) if kept.exists() else {}
    PAGE.write_text(render({name: saved(name) for name in names()}, described), encoding="utf-8")


def render(records: Mapping[str, Record | None], described: Mapping[str, str]) -> str:
    """Fill the template: with every part's results (None: there are none yet) and the machine's description.

    Raises KeyError where the template asks for something that is not there.
    """
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    measured = [record for record in records.values() if record]
    missed = [
        result for record in measured for result in record.results if not result.reached and result.target
    ]
    costs = records.get(COSTS)
    return MARK + template.substitute(
        machine=_table(("what", "is"), described.items()),
        walvec_settings=", ".join(
            f"`{name} = {value}`" for name, value in (contest.BEST | contest.BEST_PIPELINE).items()
        ),
        pgai_settings=f"batches of {pgai.BEST.batch:,} rows, {pgai.BEST.tasks} tasks",
        parts="\n\n".join(_part(name, record) for name, record in records.items() if name != COSTS),
        costs="\n".join(map(_cost, costs.results)) if costs and costs.results else "Not measured yet.",
        costs_measured=f"`make bench PART={COSTS}`",
        missed="\n".join(map(_missed, missed)) or "All targets of this run are reached.",
    )


def _part(name: str, record: Record | None) -> str:
    return f"### {name}\n\n{_description(name)}\n\n{_measured(record)}"


def _measured(record: Record | None) -> str:
    if record is None:
        return "Not measured yet."
    if record.skipped:
        return f"Not measured: {record.skipped}."
    rows = [
        (
            result.what,
            result.ours,
            result.beside,
            result.theirs,
            f"{result.ratio:.2f}",
            result.target,
            ("yes" if result.reached else "**no**") if result.target else "",
        )
        for result in record.results
    ]
    notes = [f"- {result.what} ({result.beside}): {result.note}" for result in record.results if result.note]
    rounds = f"medians of {record.rounds} rounds" if record.rounds > 1 else "one round"
    quick = ", QUICK=1" if record.quick else ""
    how = f"{record.date}, commit {record.commit}, {rounds}{quick}."
    return "\n\n".join(filter(None, [_table(_HEADER, rows), "\n".join(notes), how]))


def _description(name: str) -> str:
    """A part's docstring, as prose: lines that an indented block does not begin are joined."""
    source = (Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8")
    return re.sub(r"(?<!\n)\n(?![\n -])", " ", ast.get_docstring(ast.parse(source)) or "")


def _cost(result: Result) -> str:
    return f"1. **{result.what}**: {result.ours}. {result.note}"


def _missed(result: Result) -> str:
    was = f"{result.ratio:.2f}, {result.target} was to be reached"
    return f"- {result.part}, {result.what}: {was}. {result.note}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    write()
