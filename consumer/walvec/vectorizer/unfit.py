"""Why an expression is not a function of the row, and what to write instead. Pure.

These are the words of `walvec check` and of the errors; `fitness` and `expressions` find the reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["clock", "session", "catalog", "chance", "aggregate", "window", "rows", "table"]

_COLUMN = "Keep the value in a column of {table}, and use that."
_PARTS = "(SELECT string_agg(part, ' ') FROM unnest(array_column) AS part)"
_REASONS: Final[Mapping[Reason, tuple[str, str]]] = {
    "clock": (
        "{} depends on the clock, and no event reports that time has passed",
        "Keep a column in {table} that the application updates when the moment comes, and use that.",
    ),
    "session": ("{} depends on the session, and walvec's is not the application's", _COLUMN),
    "catalog": ("{} depends on more than the row's values, and no event reports when that changes", _COLUMN),
    "chance": ("{} gives another result at each call", _COLUMN),
    "aggregate": (
        "an aggregate takes several rows, and a change of another row brings no event for this one",
        f"Keep the value in a column of {{table}}, by a trigger. For parts of one row: {_PARTS}.",
    ),
    "window": (
        "a window function takes several rows, and a change of another row brings no event for this one",
        "Keep the value in a column of {table}, by a trigger.",
    ),
    "rows": (
        "{} can return several rows, and a row has one text",
        f"Join them: array_to_string(array_column, ' '), or {_PARTS}.",
    ),
    "table": (
        "a sub-select reads {}, and a change there brings no event for this row",
        "Keep what it reads in a column of {table}, by a trigger on {}.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why an expression is not a function of the row.

    One that is `bearable` is only warned of: its author may know better.
    """

    what: str
    hint: str
    bearable: bool = False


def word_reason(reason: Reason, name: str, table: str) -> Unfit:
    """Word a reason against an expression over a row of `table`, for what `name` is."""
    what, hint = _REASONS[reason]
    return Unfit(what.format(name), hint.format(name, table=table))


def judge_own_function(signature: str, *, volatile: bool) -> Unfit:
    """Judge a function that did not come with PostgreSQL by its declared volatility."""
    if volatile:
        return Unfit(
            f"function {signature} is volatile, so its result may differ at each call",
            f"ALTER FUNCTION {signature} IMMUTABLE, if it is (STABLE, if it also depends on settings)",
        )
    return Unfit(
        f"function {signature} is stable, and no event reports when what it depends on changes",
        f"ALTER FUNCTION {signature} IMMUTABLE, if it is; else run `walvec backfill` after such a change",
        bearable=True,
    )


def clock_literal(value: str, table: str) -> Unfit:
    """Report a string constant that is read as a date depending on the clock."""
    return word_reason("clock", f"'{value}'", table)


def several_rows(table: str) -> Unfit:
    """Report an expression that returns rows where PostgreSQL allows none."""
    return word_reason("rows", "a function in it", table)


def aggregates(table: str) -> Unfit:
    """Report an expression that aggregates rows."""
    return word_reason("aggregate", "an aggregate", table)


def nullable_join(spot: str, columns: Sequence[str]) -> Unfit:
    """Warn that a text is NULL as a whole where one of these columns is."""
    return Unfit(
        f"{spot}: || makes the whole text NULL, and leaves the row without vectors, where "
        f"{' or '.join(columns)} is NULL",
        r"concat_ws(E'\n\n', …) leaves out what is NULL; coalesce(…, '') is for a single column",
        bearable=True,
    )
