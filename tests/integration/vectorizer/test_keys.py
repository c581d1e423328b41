"""Keys of many types and any number of columns, in backfill, stream and look-ups."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from psycopg import sql

from tests.fix_sidecar import Sidecar

# The key's columns and six keys, as PostgreSQL reads them: three rows for the backfill, three for the stream.
KEYS: dict[str, tuple[str, Sequence[str | tuple[str, ...]]]] = {
    "smallint": ("k smallint", ["-32768", "0", "1", "2", "3", "32767"]),
    "bigint": (
        "k bigint",
        ["-9223372036854775808", "9007199254740993", "9007199254740992", "0", "1", "9223372036854775807"],
    ),
    "oid": ("k oid", ["0", "1", "2", "3", "4294967294", "4294967295"]),
    "bool and int": (
        "a bool, b int",
        [("t", "1"), ("f", "1"), ("t", "2"), ("f", "2"), ("t", "3"), ("f", "3")],
    ),
    "numeric": ("k numeric", ["1.5", "1.10", "12345678901234567890.123456789", "1e400", "-0.00001", "2.0"]),
    "numeric of one scale": ("k numeric(12,4)", ["1", "1.5", "-0.0001", "10", "99999999.9999", "7.7"]),
    "numeric not a number": ("k numeric", ["NaN", "Infinity", "1", "-Infinity", "2", "3"]),
    "float4": ("k float4", ["0.1", "16777217", "1e-30", "3.4e38", "-2.5", "1e10"]),
    "float8": ("k float8", ["0.1", "1e300", "5e-324", "1e22", "123456789.123456789", "-0"]),
    "float8 not a number": ("k float8", ["NaN", "Infinity", "1", "-Infinity", "2", "3"]),
    "money": ("k money", ["1", "2.50", "-3", "1234567.89", "0", "0.01"]),
    "text": ("k text", ["", " \ta\n", 'ünï"☃\\ {}%s', "null", "\x01'", "a"]),
    "varchar": ("k varchar(20)", ["a", "a ", " a", "A", "b", "NULL"]),
    "char(n)": ("k char(5)", ["a", "ab", "", "  c", "abcde", "ü"]),
    "char": ('k "char"', ["a", "b", " ", '"', "c", "\\"]),
    "name": ("k name", ["a", "B c", "d.e", "f", "g", "h"]),
    "nondeterministic collation": ("k text COLLATE any_case", ["a", "b", "c", "D", "E", "f"]),
    "citext": ("k citext", ["a", "B", "c", "D", "e", "F"]),
    "uuid": ("k uuid", [f"{i}0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" for i in range(6)]),
    "bytea": ("k bytea", [r"\x", r"\x00", r"\xff00", r"\x5c78", r"\xdeadbeef", r"\x78"]),
    "bit": ("k bit varying", ["", "0", "1", "01", "10", "000"]),
    "date": ("k date", ["2024-02-29", "0044-03-15 BC", "infinity", "-infinity", "epoch", "12345-06-07"]),
    "time": ("k time", ["00:00", "24:00", "12:30:00.000001", "12:30", "23:59:59.999999", "1:02"]),
    "timetz": ("k timetz", ["00:00+00", "24:00+02", "12:30-03:30", "12:30+00", "23:59:59.9+00", "1:02+1"]),
    "timestamp": (
        "k timestamp",
        ["2024-01-01", "0044-03-15 BC", "infinity", "2024-01-01 12:00:00.5", "epoch", "-infinity"],
    ),
    "timestamptz": (
        "k timestamptz",
        [
            "2024-01-01+02",
            "2024-01-01 BC",
            "infinity",
            "epoch",
            "-infinity",
            "2024-07-01 12:00:00.000001-3:30",
        ],
    ),
    "interval": ("k interval", ["1 day", "25:00", "1 mon -1 day", "-1 us", "0", "-1 year +2 days -03:04"]),
    "inet": ("k inet", ["10.0.0.1", "10.0.0.1/8", "::1", "::ffff:1.2.3.4", "0.0.0.0", "::"]),
    "enum": ("k mood", ["sad", "so 'so'", "happy, really", "null", "über", '"']),
    "jsonb": ("k jsonb", ["1", "1.50", '"a"', '{"b": [null, 1e3], "a": {}}', "null", "[]"]),
    "array": ("k text[]", ["{}", "{a,NULL}", '{"a,b"}', "{{1,2},{3,4}}", '{"\\""}', '{""}']),
    "range": ("k int4range", ["empty", "[1,2]", "(,5)", "[3,)", "(,)", "[1,5)"]),
    "composite type": ("k pair", ["(1,)", "(1,a)", '(1,"a,""b")', "(2,)", '(3," ")', '(4,"")']),
    "domain over text": ("k slug", ["a", "b", "c", "d", "e", "f"]),
    "domain over numeric": ("k price", ["1.50", "2", "0.10", "1e20", "3", "4.0"]),
    "domain over bytea": ("k digest", [r"\x01", r"\x02", r"\x", r"\x5c", r"\xff", r"\x78"]),
    "array of a domain": ("k slug[]", ["{a}", "{b}", "{}", "{a,b}", "{c}", "{d}"]),
    "many columns": (
        "a int, b text, c date, d numeric(5,1), e uuid, f bytea, g bool",
        [(i, "x" * int(i), f"2024-01-0{i}", f"{i}.5", i * 32, rf"\x0{i}", "t") for i in "123456"],
    ),
}

TYPES = (
    "CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    "CREATE EXTENSION citext",
    "CREATE TYPE mood AS ENUM ('sad', 'so ''so''', 'happy, really', 'null', 'über', '\"')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN slug AS text CHECK (VALUE <> '')",
    "CREATE DOMAIN price AS numeric",
    "CREATE DOMAIN digest AS bytea",
)


@dataclass
class Table:
    """A followed table with one of these keys."""

    sidecar: Sidecar
    kind: str

    @property
    def name(self) -> str:
        """The table's name, and its vectorizer's."""
        return "key_" + "".join(letter if letter.isalnum() else "_" for letter in self.kind)

    @property
    def key(self) -> tuple[str, ...]:
        """The names of the key's columns."""
        return tuple(column.split()[0] for column in self.columns)

    @property
    def columns(self) -> list[str]:
        """The key's columns with their types."""
        return KEYS[self.kind][0].split(", ")

    def values(self, number: int) -> tuple[str, ...]:
        """The key of a row, numbered from 0."""
        values = KEYS[self.kind][1][number]
        return (values,) if isinstance(values, str) else values

    def create(self) -> None:
        """Create the table; a text that an update of another column lacks is read by key."""
        columns = sql.SQL(", ").join(map(sql.SQL, self.columns))
        table = "CREATE TABLE {t} ({columns}, body text, views int DEFAULT 0, PRIMARY KEY ({k}))"
        self._run(table, columns=columns)
        self._run("ALTER TABLE {t} ALTER body SET STORAGE EXTERNAL")
        for number in range(3):
            self.insert(number)
        self.sidecar.follow(self.name, key=self.key, text="body || views", chunk="none", index="none")

    def insert(self, number: int) -> None:
        """Insert a row with a text that is kept out of line."""
        row = "INSERT INTO {t} ({k}, body) VALUES ({values}, repeat({body}, 2000))"
        self._run(row, number, body=f"{number} ")

    def view(self, number: int) -> None:
        """Update a column other than the text, whose value the stream then lacks."""
        self._run("UPDATE {t} SET views = views + 1 WHERE ({k}) = ({values})", number)

    def delete(self, number: int) -> None:
        """Delete a row."""
        self._run("DELETE FROM {t} WHERE ({k}) = ({values})", number)

    def move(self, number: int, to: int) -> None:
        """Change a row's key."""
        pairs = zip(self.key, self.values(to), strict=True)
        changes = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(k), v) for k, v in pairs)
        self._run("UPDATE {t} SET {changes} WHERE ({k}) = ({values})", number, changes=changes)

    def _typed(self, number: int) -> sql.Composed:
        """Return the key as SQL, each part cast to its type."""
        types = [column.partition(" ")[2].partition(" COLLATE")[0] for column in self.columns]
        values = zip(map(sql.Literal, self.values(number)), map(sql.SQL, types), strict=True)
        return sql.SQL(", ").join(sql.SQL("{}::{}").format(value, type_) for value, type_ in values)

    def _run(self, statement: str, number: int = 0, **parts: object) -> None:
        self.sidecar.source.execute(
            sql.SQL(statement).format(
                t=sql.Identifier(self.name),
                k=sql.SQL(", ").join(map(sql.Identifier, self.key)),
                values=self._typed(number),
                **parts,
            )
        )


@pytest.fixture(scope="module")
def tables(shared_sidecar: Sidecar) -> Iterator[dict[str, Table]]:
    """Return a followed table for each kind of key, three rows of each backfilled."""
    for statement in TYPES:
        shared_sidecar.source.execute(statement.encode())
    found = {kind: Table(shared_sidecar, kind) for kind in KEYS}
    for table in found.values():
        table.create()
    shared_sidecar.setup()
    with shared_sidecar.running():
        shared_sidecar.in_step()
        yield found


def check(table: Table) -> None:
    """Compare a table's target with its rows, once it is in step."""
    table.sidecar.in_step()
    assert table.sidecar.actual_of(table.name) == table.sidecar.expected_of(table.name)


@pytest.mark.parametrize("kind", KEYS)
def test_key(tables: dict[str, Table], kind: str) -> None:
    """Rows with this key are backfilled, inserted, read by key, moved and deleted."""
    table = tables[kind]
    check(table)
    table.insert(3)
    table.insert(4)
    table.view(0)
    check(table)
    table.delete(1)
    table.move(3, to=5)
    table.view(2)
    check(table)
    table.move(5, to=3)
    table.delete(0)
    check(table)


@pytest.mark.parametrize("kind", ["nondeterministic collation", "citext"])
def test_key_changed_to_an_equal_one(tables: dict[str, Table], kind: str) -> None:
    """Where 'a' equals 'A', the target holds only the newest of them."""
    table = tables[kind]
    for text in "xXx":
        row = f"INSERT INTO {table.name} VALUES ('{text}', 'row') ON CONFLICT (k) DO UPDATE SET k = '{text}'"
        table.sidecar.source.execute(row.encode())
        check(table)


@pytest.mark.parametrize("kind", ["numeric", "jsonb"])
def test_key_written_in_another_way(tables: dict[str, Table], kind: str) -> None:
    """1.0 and 1.00 are one key: a change between them leaves one row, a delete none."""
    table = tables[kind]
    run = table.sidecar.source.execute
    run(f"INSERT INTO {table.name} VALUES ('77.0', 'as 77.0')".encode())
    check(table)
    run(f"UPDATE {table.name} SET k = '77.00', body = 'as 77.00' WHERE k = '77'".encode())
    check(table)
    run(f"DELETE FROM {table.name} WHERE k = '77'".encode())
    check(table)
