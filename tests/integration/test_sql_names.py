"""Every name in `sql/` is PostgreSQL's own, walvec's, or has its schema.

Sessions look names up in pg_catalog alone. Those that evaluate the user's expressions have the user's search
path, so that in the statements for them PostgreSQL's own names have their schema too.
"""

import re
from pathlib import Path

import psycopg
import pytest

from walvec_slots.queries import load_sql

SQL = Path(__file__).parents[2] / "sql"
FILES = sorted(path.name for path in SQL.glob("*.sql"))
BESIDE_EXPRESSIONS = ("source.sql", "estimate.sql")

# What the grammar itself has, so that no search path decides: constructs that look like calls, and key words.
GRAMMAR = set(
    re.findall(
        r"\w+",
        """
        index null add all and any array as by case cast check coalesce conflict create current_user default
        delete distinct do else end except exists extract filter format from greatest group if in insert
        interval into is join key lateral least limit materialized not nullif on only operator or order
        over recursive references repeatable replace returning row rows select set temporary then
        union unlogged unnest update using values verbose when where with within
        """,
    )
)
# Types that the grammar knows by name: it takes them from pg_catalog whatever the search path is.
GRAMMAR_TYPES = set(
    re.findall(
        r"\w+", "bigint bit boolean float float8 int integer interval numeric real smallint time timestamp"
    )
)
# Names of subqueries, and words, that the pattern for relations takes for tables.
LOCAL = {
    "part",
    "type",
    "candidate",
    "locked",
    "setting",
    "keys",
    "concurrently",
    "of",
    "wanted",
    "gone",
    "hnsw",
}

STRING = re.compile(r"'(?:[^']|'')*'")
COMMENT = re.compile(r"--[^\n]*")
CALL = re.compile(r"(?<![\w.\"}])([a-z_][a-z0-9_]*)\s*\(")
CAST = re.compile(r"::\s*([a-z_][a-z0-9_.]*|\"char\")")
RELATION = re.compile(
    r"\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING)\s+(?:ONLY\s+)?([a-z_][a-z0-9_.]*)\b(?!\s*[(.])", re.IGNORECASE
)
ALIAS = re.compile(
    r"\bAS\s+([a-z_][a-z0-9_]*)\s*\("
    r"|\b([a-z_][a-z0-9_]*)\s*(?:\([a-z_, ]*\))?\s+AS\s+(?:MATERIALIZED\s+)?\("
)
OPERATOR = re.compile(r"(?<![<>=!~+*/|%-])(?:<>|<=|>=|=|<|>|\|\||!~|~|%%|\+|/|->>|->)(?![<>=~])")


OWN_FUNCTION = (
    "SELECT EXISTS (SELECT FROM pg_proc WHERE proname = %s AND pronamespace = 'pg_catalog'::regnamespace)"
)


def statements(file: str) -> dict[str, str]:
    """Return a file's statements without comments and strings; placeholders stay."""
    return {name: STRING.sub("''", COMMENT.sub("", text)) for name, text in load_sql(file).items()}


@pytest.mark.parametrize("file", FILES)
def test_names_without_a_schema_are_postgresql_s(file: str, source: psycopg.Connection) -> None:
    """Tables, functions and types that stand bare are found in pg_catalog; walvec's have their schema."""
    source.execute("SET search_path = pg_catalog")
    unknown = []
    for name, text in statements(file).items():
        local = {part for found in ALIAS.findall(text) for part in found if part}
        for function in set(CALL.findall(text)) - GRAMMAR - local - GRAMMAR_TYPES - LOCAL:
            known = source.execute(OWN_FUNCTION, [function]).fetchone()
            unknown += [] if known == (True,) else [f"{name}: {function}()"]
        for kind in set(CAST.findall(text)) - GRAMMAR_TYPES:
            known = source.execute("SELECT to_regtype(%s) IS NOT NULL", [kind]).fetchone()
            unknown += [] if known == (True,) else [f"{name}: ::{kind}"]
        for table in set(RELATION.findall(text)) - local - LOCAL:
            if "." in table or table.lower() in GRAMMAR:
                continue
            known = source.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
            unknown += [] if known == (True,) else [f"{name}: {table}"]
    assert unknown == []


@pytest.mark.parametrize("file", BESIDE_EXPRESSIONS)
def test_beside_expressions_every_name_has_its_schema(file: str) -> None:
    """Functions, types, tables and operators say that they are PostgreSQL's where others could be found."""
    bare = []
    for name, text in statements(file).items():
        local = {part for found in ALIAS.findall(text) for part in found if part}
        bare += [
            f"{name}: {call}()" for call in CALL.findall(text) if call not in GRAMMAR | GRAMMAR_TYPES | local
        ]
        bare += [
            f"{name}: ::{kind}"
            for kind in CAST.findall(text)
            if kind not in GRAMMAR_TYPES and not kind.startswith("pg_catalog.")
        ]
        bare += [
            f"{name}: {table}"
            for table in RELATION.findall(text)
            if table.startswith("pg_") and "." not in table
        ]
        without = re.sub(r"OPERATOR\(pg_catalog\.[^)]+\)", " ", text)
        without = re.sub(r"%\(\w+\)s", " ", without)
        bare += [f"{name}: {operator}" for operator in OPERATOR.findall(without)]
        bare += [f"{name}: IN" for _ in re.findall(r"\bIN \(", without)]
    assert bare == []
