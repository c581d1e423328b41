"""Identifiers with anything in them that PostgreSQL allows, in every place where walvec names one."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from psycopg import sql

from tests.fix_sidecar import Sidecar

NAMES = {
    "space": "a b",
    "dot": "a.b",
    "comma": "a,b",
    "quote": 'a"b',
    "apostrophe": "a'b",
    "backslash": "a\\b",
    "star": "*",
    "percent": "100%s %(x)s",
    "braces": "{t} {} {{",
    "dollar": "$1 $$",
    "upper case": "Blog",
    "keyword": "select",
    "unicode": "Bücher☃",
    "tab and newline": "a\tb\nc",
    "comment": "--a/*b",
    "semicolon": "a;b",
    "brackets": "a[b](c)",
    "longest": "x" * 63,
    "longest in bytes": "ü" * 31,
}


def quote(name: str) -> str:
    """The name as SQL has it, and as the settings have it."""
    return '"' + name.replace('"', '""') + '"'


@dataclass
class Place:
    """A schema, a table and its columns that all bear one name."""

    sidecar: Sidecar
    name: str

    @property
    def vectorizer(self) -> str:
        """What the settings call it: a plain word."""
        return f"v{list(NAMES.values()).index(self.name)}"

    def create(self) -> None:
        """Make it, with a table in two partitions of such names, and follow it."""
        other = self.name[:-2] + "_"
        self._run("CREATE SCHEMA {n}")
        self._run("CREATE TABLE {n}.{n} ({n} int PRIMARY KEY, {other} text) PARTITION BY RANGE ({n})", other)
        self._run("CREATE TABLE {n}.{other} PARTITION OF {n}.{n} FOR VALUES FROM (0) TO (10)", other)
        self._run("CREATE TABLE {n}.{leaf} PARTITION OF {n}.{n} DEFAULT", other)
        self._run("INSERT INTO {n}.{n} VALUES (1, 'one'), (20, 'twenty')")
        self.sidecar.follow(
            self.vectorizer,
            table=f"{quote(self.name)}.{quote(self.name)}",
            target=f"{quote(self.name)}.{quote(self.name[:-4] + '_emb')}",
            text=f"{quote(self.name)}.{quote(other)} || {quote(self.name)}.{quote(self.name)}",
            where=f"{quote(other)} <> ''",
            key=(self.name,),
        )

    def change(self) -> None:
        """Change it in every way."""
        other = self.name[:-2] + "_"
        self._run("INSERT INTO {n}.{n} VALUES (2, 'two'), (30, 'thirty'), (3, '')")
        self._run("UPDATE {n}.{n} SET {other} = {other} || '!' WHERE {n} = 1", other)
        self._run("UPDATE {n}.{n} SET {n} = 3 * {n} WHERE {n} > 10")
        self._run("DELETE FROM {n}.{n} WHERE {n} = 2")

    def _run(self, statement: str, other: str = "") -> None:
        names = {"n": self.name, "other": other, "leaf": self.name[:-1] + "~"}
        identifiers = {key: sql.Identifier(name) for key, name in names.items()}
        self.sidecar.source.execute(sql.SQL(statement).format(**identifiers))


@pytest.fixture(scope="module")
def places(shared_sidecar: Sidecar) -> Iterator[dict[str, Place]]:
    """A schema of each name, followed by one sidecar with a slot and a publication of odd names."""
    shared_sidecar.settings["source"]["publication"] = 'wal"vec. {}%s'
    found = {kind: Place(shared_sidecar, name) for kind, name in NAMES.items()}
    for place in found.values():
        place.create()
    shared_sidecar.setup()
    with shared_sidecar.running():
        shared_sidecar.in_step()
        for place in found.values():
            place.change()
        shared_sidecar.in_step()
        yield found


@pytest.mark.parametrize("kind", NAMES)
def test_name(places: dict[str, Place], kind: str) -> None:
    """Schema, table, partitions, columns, key and target may all have such a name."""
    sidecar, name = places[kind].sidecar, places[kind].vectorizer
    assert sidecar.actual_of(name) == sidecar.expected_of(name)


def test_truncate(places: dict[str, Place]) -> None:
    """A truncate finds the table by its odd name, too."""
    sidecar = next(iter(places.values())).sidecar
    for place in places.values():
        sidecar.source.execute(sql.SQL("TRUNCATE {0}.{0}").format(sql.Identifier(place.name)))
    sidecar.in_step()
    assert sidecar.actual() == {name: {} for name in sidecar.followed}
