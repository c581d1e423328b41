"""What stands in an expression, read from how EXPLAIN (VERBOSE) prints it. Pure.

PostgreSQL prints a function as its name directly followed by a parenthesis, in lower case or in double
quotes, with its schema where the name alone would not find it. What it prints in capitals is syntax. So a few
patterns find the functions, operators, types and columns, which no pattern could do in what a user writes.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_NAME = r'(?:"(?:[^"]|"")+"|[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*)'
_TOKEN = re.compile(
    rf"""
    (?P<string> '(?:[^']|'')*' )
    | ::[ ]? (?P<type> {_NAME}(?:\.{_NAME})? )
    | OPERATOR\( (?P<schema>{_NAME}) \. (?P<symbol>[-+*/<>=~!@\#%^&|`?]+) \)
    | (?P<call> {_NAME}(?:\.{_NAME})? ) (?= \( )
    | (?P<word> {_NAME}(?:\.{_NAME})* )
    | (?P<syntax> [A-Z][A-Z_]*(?:[ ]FOR\b)? )
    | (?P<operator> [-+*/<>=~!@\#%^&|`?]+ )
    | (?P<bracket> [][(),] )
    | \S
    """,
    re.VERBOSE,
)

# A text in which a date is read only when a row is evaluated: ('today'::text)::date.
_DATE_IN_TEXT = re.compile(
    r"'[^']*\b(?:now|today|tomorrow|yesterday)\b[^']*'::(?:cstring|text|character varying|bpchar)\)*::"
    r"(?:date|time)",
    re.IGNORECASE,
)

_STRING = re.compile(r"""(?P<name>"(?:[^"]|"")+")|'(?:[^']|'')*'""")


@dataclass(frozen=True, order=True, slots=True)
class Call:
    """A function by its printed name, with the number of its arguments.

    `schema` is "" where none is printed.
    """

    schema: str
    name: str
    arguments: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What stands in some printed expressions.

    `syntax` is every word in capitals: CURRENT_DATE, but CASE too. `types` are those that something is cast
    to. An operator is its schema, "" for none, and its symbol. `reads_dates_late`: a text such as 'today' is
    cast to a date when a row is evaluated.
    """

    calls: frozenset[Call]
    syntax: frozenset[str]
    types: frozenset[str]
    operators: frozenset[tuple[str, str]]
    reads_dates_late: bool


def read_printed(expressions: Iterable[str]) -> Reading:
    """Read what stands in printed expressions."""
    texts = list(expressions)
    tokens = [token for text in texts for token in _TOKEN.finditer(text)]
    return Reading(
        calls=frozenset(call for text in texts for call in _read_calls(text)),
        syntax=frozenset(token["syntax"] for token in tokens if token["syntax"]),
        types=frozenset(token["type"] for token in tokens if token["type"]),
        operators=frozenset(
            (_unquoted(token["schema"] or ""), symbol)
            for token in tokens
            if (symbol := token["operator"] or token["symbol"])
        ),
        reads_dates_late=any(_DATE_IN_TEXT.search(text) for text in texts),
    )


@dataclass(frozen=True, slots=True)
class PrintedColumn:
    """A column by its name, and as it is printed."""

    name: str
    printed: str


def joined_columns(expression: str, alias: str) -> list[PrintedColumn]:
    """List the columns that are bare operands of `||`, in their order.

    A NULL in one of them makes the whole text NULL. An operand inside coalesce or another function is left
    out: its author has already decided what becomes of NULL.
    """
    quoted = '"' + alias.replace('"', '""') + '"'
    column = rf"(?P<column>(?:{re.escape(quoted)}|{re.escape(alias)})\.(?P<name>{_NAME}))"
    cast = r"(?:\)::[a-z ]+(?:\([0-9,]+\))?)*"
    bare = _STRING.sub(lambda token: token["name"] or "''", expression)
    operands = (
        *re.finditer(rf"\(*{column}{cast} \|\|", bare),
        *re.finditer(rf"\|\| \(*{column}{cast}(?=\)|$| \|\|)", bare),
    )
    return list(
        dict.fromkeys(
            PrintedColumn(_unquoted(operand["name"]), operand["column"])
            for operand in sorted(operands, key=lambda operand: operand.start("column"))
        )
    )


def _read_calls(text: str) -> Iterator[Call]:
    """Yield each call, its arguments counted by the commas at its depth."""
    open_calls: list[tuple[re.Match[str] | None, int]] = []
    pending: re.Match[str] | None = None
    empty = False
    for token in _TOKEN.finditer(text):
        match token["bracket"]:
            case "(" | "[":
                open_calls.append((pending, 0))
                pending, empty = None, True
                continue
            case ")" | "]" if open_calls:
                call, commas = open_calls.pop()
                if call:
                    yield _read_call(call["call"], 0 if empty else commas + 1)
            case "," if open_calls:
                call, commas = open_calls.pop()
                open_calls.append((call, commas + 1))
            case _:
                pending = token if token["call"] else None
        empty = False


def _read_call(printed: str, arguments: int) -> Call:
    *schema, name = (_unquoted(part) for part in re.findall(_NAME, printed))
    return Call("".join(schema), name, arguments)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
