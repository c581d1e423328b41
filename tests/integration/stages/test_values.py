"""Values of many types: the text made of a row image is, byte for byte, the one made of the row itself."""

from collections.abc import Iterator

import pytest
from psycopg import sql

from tests.fix_process import SELDOM_LOOKING
from tests.fix_sidecar import Sidecar, new_sidecar
from walvec_slots.plugin import PLUGINS

# Each type with values as PostgreSQL reads them; each is read by the backfill and comes with the stream too.
VALUES: dict[str, list[str | None]] = {
    "smallint": ["-32768", "0", "32767"],
    "bigint": ["9007199254740993", "-9223372036854775808", "9223372036854775807", "0", None],
    "numeric": [
        *("1.50", "0.000", "-0.1", "1e20", "9007199254740993", "12345678901234567890.123456789012345678901"),
        *("1e308", "1e309", "1e400", "-1e400", "1e-400", "NaN", "Infinity", "-Infinity", None),
    ],
    "numeric(30,10)": ["1.5", "1", "99999999999999999999.9999999999", "NaN", None],
    "float4": ["0.1", "16777217", "3.4e38", "1e-45", "-0", "1", "NaN", "Infinity", "-Infinity", None],
    "float8": ["0.1", "1e22", "1e300", "5e-324", "-0", "1", "9007199254740993", "NaN", "Infinity", None],
    "money": ["1234567.89", "-0.01", None],
    "bool": ["t", "f", None],
    "oid": ["0", "4294967295"],
    "text": [
        *(
            "",
            " ",
            " lead and trail ",
            "null",
            '"quoted"',
            "a\\b\\u0041",
            "tab\tnewline\nreturn\r",
            "\x01\x1f\x7f",
        ),
        *("ünï", "☃ \U0001f600 e\u0301", "\u2028\u2029\ufeff", "{}[]%s%(x)s$1", None),
    ],
    "varchar(9)": ["a", " a ", ""],
    "char(5)": ["a", " a", ""],
    '"char"': ["a", "\\", '"', ""],
    "name": ["a", "A b"],
    "bytea": [r"\x", r"\x00ff", r"\x5c785c", None],
    "bit(3)": ["101"],
    "bit varying": ["", "1"],
    "json": [
        *('{"b":1,  "a": 2,"b":3}', ' {"outer": "space"}\n', "null", '"text"', " 1.50 ", "[1, 1e400]"),
        *('{"\\u00fc": "\\ud83d\\ude00"}', "{}", '"\\u0000"', None),
    ],
    "jsonb": ['{"b": 1.50, "a": [null, 1e400]}', "null", '"text"', "1.0", '{"\\u00fc": "\\u2603"}', None],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "xml": ["<a b='c'>&lt;</a>"],
    "date": ["2024-02-29", "0044-03-15 BC", "infinity"],
    "time": ["24:00", "12:30:00.000001"],
    "timetz": ["24:00+02", "12:30-03:30"],
    "timestamp": ["2024-01-01 12:00:00.5", "infinity", "0044-03-15 BC"],
    "timestamptz": ["2024-01-01 12:00+02", "-infinity", "2024-01-01 BC"],
    "interval": ["1 year -2 days +03:04:05.6", "-1 us", "0"],
    "inet": ["10.0.0.1/8", "::1"],
    "macaddr": ["08:00:2b:01:02:03"],
    "point": ["(0.1,-1e300)", "(NaN,Infinity)"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "tsvector": ["'a':1A 'b c':2"],
    "tsquery": ["'a' & !'b'"],
    "pg_lsn": ["16/B374D848"],
    "txid_snapshot": ["10:20:10,14"],
    "int[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}", None],
    "text[]": ['{a,"b c",NULL,"NULL","",",","{}","\\"","\\\\"}', None],
    "numeric[]": ["{1.50,NaN,1e400}"],
    "float8[]": ["{0.1,NaN,-Infinity}"],
    "bytea[]": ['{"\\\\x00ff",NULL}'],
    "json[]": ['{"{\\"a\\":  1, \\"a\\": 2}","null",NULL}'],
    "timestamptz[]": ["{2024-01-01 12:00+02,infinity}"],
    "int4range": ["empty", "[1,3]", "(,)"],
    "numrange": ["[1.50,2.0)", "(,1e400]"],
    "tstzrange": ["[2024-01-01+02,infinity)"],
    "int4multirange": ["{[1,3],[5,6]}", "{}"],
    "vector": ["[1,2.5,-3e-10]"],
    "regclass": ["pg_class", "4294967295", None],
    # A type with a cast from text that is not its input function.
    "rank": ["high", "low"],
    "mood": ["sad", "so 'so'", "null"],
    "pair": ['(1,"a ""b"",")', "(,)", "(,NULL)", None],
    "pair[]": ['{"(1,a)","(2,\\"b c\\")",NULL}'],
    "wide": ['(1.50,"{""b"":1,  ""a"": 2}","\\\\x00ff","{NULL,1}")', "(NaN,,,)"],
    "slug": ["a", " b "],
    "price": ["1.50", "NaN", "1e400", "9007199254740993"],
    "ratio": ["0.1", "NaN", "-Infinity"],
    "digest": [r"\x00ff", r"\x"],
    "document": ['{"b":1,  "a": 2,"b":3}', ' "outer space" ', "null"],
    "documentb": ['{"b": 1.50}', "null"],
    "numbers": ["{1,2}", "{}"],
    "price[]": ["{1.50,NaN}"],
    "deep": ["1.50", "NaN"],
}

TYPES = (
    "CREATE TYPE rank AS ENUM ('low', 'high')",
    "CREATE FUNCTION to_rank(text) RETURNS rank LANGUAGE sql IMMUTABLE AS $$ SELECT 'low'::rank $$",
    "CREATE CAST (text AS rank) WITH FUNCTION to_rank(text)",
    "CREATE TYPE mood AS ENUM ('sad', 'so ''so''', 'null')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE TYPE wide AS (n numeric, j json, b bytea, a int[])",
    "CREATE DOMAIN slug AS text",
    "CREATE DOMAIN price AS numeric",
    "CREATE DOMAIN deep AS price CHECK (VALUE > 0)",
    "CREATE DOMAIN ratio AS float8",
    "CREATE DOMAIN digest AS bytea",
    "CREATE DOMAIN document AS json",
    "CREATE DOMAIN documentb AS jsonb",
    "CREATE DOMAIN numbers AS int[]",
)

ROWS = max(map(len, VALUES.values()))
LATER = 1000  # what is added to the id of a row that comes with the stream


def column(kind: str) -> str:
    """The name of the column, and the vectorizer, of a type."""
    return "v_" + "".join(letter if letter.isalnum() else "_" for letter in kind) + ("_" * kind.count('"'))


def insert(sidecar: Sidecar, offset: int) -> None:
    """Insert every value, in as many rows as it takes, together: sixty lanes have work of each."""
    columns = sql.SQL(", ").join(sql.Identifier(column(kind)) for kind in VALUES)
    with sidecar.source.transaction():
        for number in range(ROWS):
            values = [each[number] if number < len(each) else None for each in VALUES.values()]
            sidecar.source.execute(
                sql.SQL("INSERT INTO zoo (id, {}) VALUES ({}, {})").format(
                    columns, offset + number, sql.SQL(", ").join(map(sql.Literal, values))
                )
            )


@pytest.fixture(scope="module", params=sorted(PLUGINS))
def zoo(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Sidecar]:
    """A table with a column of each type, and a vectorizer on each column; NULL shows in its text."""
    with new_sidecar(server, template, tmp_path_factory.mktemp("zoo")) as sidecar:
        sidecar.timing = SELDOM_LOOKING
        sidecar.settings["source"]["plugin"] = request.param
        for statement in TYPES:
            sidecar.source.execute(statement.encode())
        columns = ", ".join(f'"{column(kind)}" {kind}' for kind in VALUES)
        sidecar.source.execute(f"CREATE TABLE zoo (id int PRIMARY KEY, {columns})".encode())
        for kind in VALUES:
            sidecar.follow(
                column(kind),
                table="zoo",
                text=f"""coalesce('>' || "{column(kind)}"::text || '<', 'null')""",
                chunk="none",
                index="none",
            )
        insert(sidecar, 0)
        sidecar.setup()
        with sidecar.running():
            sidecar.in_step()
            insert(sidecar, LATER)
            sidecar.in_step()
            yield sidecar


@pytest.mark.parametrize("kind", VALUES)
def test_text_of_a_value(zoo: Sidecar, kind: str) -> None:
    """Backfill and stream give the text that the source itself gives."""
    assert zoo.actual_of(column(kind)) == zoo.expected_of(column(kind))
