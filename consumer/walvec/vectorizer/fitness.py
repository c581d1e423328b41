"""Whether PostgreSQL's plan shows an expression to be a function of the row. Pure.

It may depend on the row's values, and on settings that walvec pins in all of its sessions. So a function that
came with PostgreSQL must be immutable, or stable and in the list below: others may read anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from walvec.vectorizer.deparsed import Reading, read_printed
from walvec.vectorizer.unfit import Reason, Unfit, judge_own_function, word_reason

# Settings that alter what stable functions and output functions print, and what constants mean. They must be
# the same in every session that evaluates an expression.
SETTINGS_THAT_SHAPE_TEXT: Final = (
    "array_nulls",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "bytea_output",
    "default_text_search_config",
    "extra_float_digits",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "quote_all_identifiers",
    "standard_conforming_strings",
    "timezone_abbreviations",
    "transform_null_equals",
    "xmlbinary",
    "xmloption",
)

# Stable functions of PostgreSQL that depend on no more than these.
_SHAPED_BY_SETTINGS = frozenset(
    {
        "age", "anytextcat", "array_to_json", "array_to_string", "concat", "concat_ws", "convert",
        "convert_from", "convert_to", "date", "date_add", "date_part", "date_subtract", "date_trunc",
        "extract", "format", "generate_series", "in_range", "json_build_array", "json_build_object",
        "json_populate_record", "json_populate_recordset", "json_to_record", "json_to_recordset",
        "json_to_tsvector", "jsonb_build_array", "jsonb_build_object", "jsonb_path_exists_tz",
        "jsonb_path_match_tz", "jsonb_path_query_array_tz", "jsonb_path_query_first_tz",
        "jsonb_path_query_tz", "jsonb_populate_record", "jsonb_populate_recordset", "jsonb_to_record",
        "jsonb_to_recordset", "jsonb_to_tsvector", "length", "make_timestamptz", "money", "numeric",
        "overlaps", "phraseto_tsquery", "plainto_tsquery", "quote_literal", "quote_nullable",
        "row_to_json", "textanycat", "time", "timestamp", "timestamptz", "timetz", "timezone", "to_char",
        "to_date", "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsquery", "to_tsvector",
        "ts_headline", "websearch_to_tsquery", "xml", "xml_is_well_formed",
    }
)  # fmt: skip
_CLOCK = frozenset(
    {"now", "age", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday"}
)
# What the names of functions begin with that depend on the session.
_SESSION = (
    "current",
    "session_",
    "getpgusername",
    "inet_",
    "txid_",
    "pg_current",
    "pg_backend",
    "set_config",
)

_SYNTAX: Final[Mapping[str, Reason]] = {
    **dict.fromkeys(
        ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP"), "clock"
    ),
    **dict.fromkeys(
        (
            "CURRENT_CATALOG",
            "CURRENT_ROLE",
            "CURRENT_SCHEMA",
            "CURRENT_USER",
            "SESSION_USER",
            "SYSTEM_USER",
            "USER",
        ),
        "session",
    ),
    "COLLATION FOR": "catalog",
}  # fmt: skip

# Types whose text is a name in the catalog. Text search configurations are left out: they are chosen by one.
_CATALOG_TYPES = frozenset(
    {
        "regclass", "regcollation", "regnamespace", "regoper", "regoperator", "regproc", "regprocedure",
        "regrole", "regtype",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """A plan as far as it shows what the expression does.

    `value` is the expression as it is printed. `volatile` does not cover sub-selects, for which the planner
    does not tell. `tables` are those that sub-selects read; `nodes` are those outside of sub-selects.
    """

    value: str
    reading: Reading
    volatile: bool
    sub_selects: bool
    tables: tuple[str, ...]
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """What the catalog says of one function, operator, cast or check of a domain."""

    kind: str
    name: str
    arguments: int
    signature: str
    own: bool
    in_catalog: bool
    volatility: str
    sort: str
    gives_rows: bool


# The planner finds something volatile that has no name: an input or output function.
_BEHIND_A_TYPE = CatalogEntry(
    kind="type",
    name="the conversion of a type",
    arguments=1,
    signature="",
    own=False,
    in_catalog=False,
    volatility="v",
    sort="f",
    gives_rows=False,
)


def sight_of(plan: Mapping[str, Any]) -> Sight:
    """Read the plan that EXPLAIN gave for one of the statements over no rows."""
    nodes = list(_walk_plan(plan, within=False))
    return Sight(
        value=plan["Output"][0],
        reading=read_printed([text for node, _ in nodes for text in _expressions_of(node)]),
        volatile=plan["Node Type"] == "Result",
        sub_selects=any(within for _, within in nodes),
        tables=tuple(
            dict.fromkeys(
                f"{node['Schema']}.{node['Relation Name']}" for node, _ in nodes if "Relation Name" in node
            )
        ),
        nodes=frozenset(node["Node Type"] for node, within in nodes if not within),
    )


def sight_of_check(reading: Reading) -> Sight:
    """Treat a domain's check as a sub-select: neither's volatility is known."""
    return Sight("", reading, volatile=False, sub_selects=True, tables=(), nodes=frozenset())


def _walk_plan(plan: Mapping[str, Any], *, within: bool) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Yield every node, and whether it is within a sub-select."""
    within = within or plan.get("Parent Relationship") in {"InitPlan", "SubPlan"}
    yield plan, within
    for child in plan.get("Plans", ()):
        yield from _walk_plan(child, within=within)


# What of a node is a plain name and no expression.
_NAMES = {
    "Alias",
    "Schema",
    "Relation Name",
    "Function Name",
    "CTE Name",
    "Index Name",
    "Subplan Name",
    "Plans",
}


def _expressions_of(node: Mapping[str, Any]) -> Iterator[str]:
    """Yield the expressions of a node: all of its texts except plain names."""
    for label, value in node.items():
        if label not in _NAMES:
            yield from ([value] if isinstance(value, str) else value if isinstance(value, list) else ())


def find_unfitness(sight: Sight, called: Sequence[CatalogEntry], table: str, written: str) -> Iterator[Unfit]:
    """Yield what keeps an expression from being a function of a row of `table`.

    `written` is the author's own text: a name that is absent from it stands in a function that it calls.
    """

    def named(name: str, parentheses: str = "") -> str:
        inside = "" if name.lower() in written.lower() else ", in a function that it calls,"
        return f"{name}{parentheses}{inside}"

    for name in sight.tables:
        yield word_reason("table", name, table)
    if "WindowAgg" in sight.nodes:
        yield word_reason("window", "", table)
    if "ProjectSet" in sight.nodes:
        names = [
            f"{entry.name}()" for entry in called if entry.gives_rows and f"{entry.name}(" in sight.value
        ]
        yield word_reason("rows", ", ".join(dict.fromkeys(names)) or "a function", table)
    for word in sorted(sight.reading.syntax & _SYNTAX.keys()):
        yield word_reason(_SYNTAX[word], named(word), table)
    if sight.reading.reads_dates_late:
        yield word_reason("clock", "a date written as now, today, tomorrow or yesterday", table)
    for suspect in _find_suspects(sight, called):
        name = suspect.name if suspect.kind == "type" else named(suspect.name, "()")
        yield (
            judge_own_function(suspect.signature, volatile=_is_volatile(suspect))
            if suspect.own
            else word_reason(_reason_against(suspect), name, table)
        )
    for name in sorted(sight.reading.types & _CATALOG_TYPES):
        yield word_reason("catalog", f"the text of a {name}", table)


def _find_suspects(sight: Sight, called: Sequence[CatalogEntry]) -> Iterator[CatalogEntry]:
    """Yield the functions whose results may differ while the row stays the same."""
    suspects = [entry for entry in called if entry.kind != "cast" and _is_volatile(entry)]
    if sight.volatile and not suspects:
        # A cast is printed by its type alone.
        suspects = [
            entry for entry in called if entry.kind == "cast" and entry.name.split()[0] in sight.reading.types
        ]
    # Where nothing is volatile, the name means another function.
    if sight.volatile or sight.sub_selects:
        yield from suspects
    if sight.volatile and not suspects:
        yield _BEHIND_A_TYPE
    for entry in called:
        if (
            entry.volatility == "s"
            and entry.sort not in "aw"
            and (entry.own or not _is_shaped_by_settings(entry))
        ):
            yield entry


def _is_volatile(called: CatalogEntry) -> bool:
    return called.volatility == "v"


def _is_shaped_by_settings(called: CatalogEntry) -> bool:
    lonely_age = called.name == "age" and called.arguments == 1
    return called.in_catalog and called.name in _SHAPED_BY_SETTINGS and not lonely_age


def _reason_against(called: CatalogEntry) -> Reason:
    if called.name in _CLOCK:
        return "clock"
    if called.name.startswith(_SESSION):
        return "session"
    return "chance" if _is_volatile(called) else "catalog"
