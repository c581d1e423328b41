"""Tables that are described, or refused with what fixes them."""

import psycopg
import pytest

from tests.fix_lacks import require
from walvec_slots.errors import PreconditionFailed
from walvec_slots.relation import describe


async def test_columns_and_types(conn: psycopg.AsyncConnection) -> None:
    """Types have their schemas and modifiers, and the type under each domain."""
    await conn.execute("""
        CREATE SCHEMA "O'd d";
        CREATE TYPE "O'd d"."Mo,od" AS ENUM ('fine');
        CREATE DOMAIN euro AS numeric(10, 2);
        CREATE DOMAIN price AS euro;
        CREATE TABLE "O'd d"."T.x" (
            "I D" int PRIMARY KEY, gone int, moods "O'd d"."Mo,od"[], price price NOT NULL, code varchar(4),
            twice int GENERATED ALWAYS AS ("I D" * 2) STORED, embedding vector(3)
        );
        ALTER TABLE "O'd d"."T.x" DROP gone""")
    relation = await describe(conn, "O'd d", "T.x")
    columns = [(c.name, c.type_name, c.not_null, c.generated) for c in relation.columns]
    assert columns == [
        ("I D", "integer", True, False),
        ("moods", '"O\'d d"."Mo,od"[]', False, False),
        ("price", "public.price", True, False),
        ("code", "character varying(4)", False, False),
        ("twice", "integer", False, True),
        ("embedding", "public.vector(3)", False, False),
    ]
    assert relation.columns[2].base_type_oid == psycopg.adapters.types["numeric"].oid
    assert (relation.key, relation.kind, [leaf.name for leaf in relation.leaves]) == (("I D",), "r", ["T.x"])


async def test_describing_leaves_the_session_as_it_was(conn: psycopg.AsyncConnection) -> None:
    """The search path and the caller's work are kept, inside a transaction too."""
    async with conn.transaction():
        await conn.execute("SET LOCAL search_path = pg_temp, public")
        await conn.execute("CREATE TABLE public.t (id int PRIMARY KEY)")
        await describe(conn, "public", "t")
        [[path]] = await (await conn.execute("SHOW search_path")).fetchall()
    assert (path, (await describe(conn, "public", "t")).key) == ("pg_temp, public", ("id",))


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("CREATE TABLE t (a int, b int, PRIMARY KEY (b, a) INCLUDE (c), c int)", ("b", "a")),
        (
            """CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL, c int);
            CREATE UNIQUE INDEX i ON t (b) INCLUDE (c); ALTER TABLE t REPLICA IDENTITY USING INDEX i""",
            ("b",),
        ),
        (
            "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY FULL",
            ("a",),
        ),
        (
            """CREATE TABLE t (a int PRIMARY KEY DEFERRABLE, b int NOT NULL UNIQUE);
            ALTER TABLE t REPLICA IDENTITY FULL""",
            ("b",),
        ),
    ],
)
async def test_keys(definition: str, key: tuple[str, ...], conn: psycopg.AsyncConnection) -> None:
    """The key is the primary key, the chosen index, or under FULL a unique index."""
    await conn.execute(definition.encode())
    assert (await describe(conn, "public", "t")).key == key


@pytest.mark.parametrize(
    ("definition", "remedies"),
    [
        ("CREATE TABLE t (a int)", []),
        ("CREATE TABLE t (a int NOT NULL UNIQUE)", ['USING INDEX "t_a_key"']),
        ("CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", ["IDENTITY DEFAULT"]),
        (
            "CREATE TABLE t (a int PRIMARY KEY DEFERRABLE)",
            ['UNIQUE INDEX ON "public"."t" ("a")', "IDENTITY FULL"],
        ),
        ("CREATE TABLE t (a int UNIQUE); ALTER TABLE t REPLICA IDENTITY FULL", []),
        (
            """CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX ON t (a) WHERE a > 0;
            CREATE UNIQUE INDEX ON t ((a + 1)); ALTER TABLE t REPLICA IDENTITY FULL""",
            [],
        ),
        (
            """CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL); CREATE UNIQUE INDEX i ON t (b);
            ALTER TABLE t REPLICA IDENTITY USING INDEX i; DROP INDEX i""",
            ["IDENTITY DEFAULT"],
        ),
    ],
)
async def test_tables_without_a_key_are_refused(
    definition: str, remedies: list[str], conn: psycopg.AsyncConnection
) -> None:
    """The hint, carried out, makes the table usable.

    It leaves the columns open where it cannot know them.
    """
    await conn.execute(definition.encode())
    with pytest.raises(PreconditionFailed, match="cannot be followed") as caught:
        await describe(conn, "public", "t")
    hint = caught.value.hint or ""
    assert all(remedy in hint for remedy in remedies)
    if remedies:
        await conn.execute(hint.replace(", then ", "; ").encode())
        assert len((await describe(conn, "public", "t")).key) == 1
    else:
        assert hint == 'ALTER TABLE "public"."t" ADD PRIMARY KEY (...)'


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("CREATE VIEW t AS SELECT 1 AS a", "is a view"),
        ("CREATE UNLOGGED TABLE t (a int PRIMARY KEY)", "unlogged"),
        ("SELECT 1", "does not exist"),
    ],
)
async def test_what_is_not_in_the_log_is_refused(
    definition: str, reason: str, conn: psycopg.AsyncConnection
) -> None:
    """Views, unlogged tables and missing ones are refused."""
    await conn.execute(definition.encode())
    with pytest.raises(PreconditionFailed, match=reason):
        await describe(conn, "public", "t")


async def test_every_leaf_must_carry_the_key(conn: psycopg.AsyncConnection) -> None:
    """A partition whose replica identity lacks the key is refused, at any level.

    Each remedy fixes its leaf.
    """
    await conn.execute("""
        CREATE TABLE p (a int, b int NOT NULL, PRIMARY KEY (a)) PARTITION BY RANGE (a);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (a);
        CREATE TABLE p21 PARTITION OF p2 FOR VALUES FROM (10) TO (20);
        CREATE UNIQUE INDEX by_b ON p21 (b);
        ALTER TABLE p1 REPLICA IDENTITY NOTHING;
        ALTER TABLE p21 REPLICA IDENTITY USING INDEX by_b""")
    hints: list[str] = []
    for _ in range(2):
        with pytest.raises(PreconditionFailed, match="does not include the whole key") as caught:
            await describe(conn, "public", "p")
        hints.append(caught.value.hint or "")
        await conn.execute(hints[-1].encode())
    relation = await describe(conn, "public", "p")
    assert (relation.kind, relation.key, [leaf.name for leaf in relation.leaves], hints) == (
        "p",
        ("a",),
        ["p1", "p21"],
        [
            'ALTER TABLE "public"."p1" REPLICA IDENTITY DEFAULT',
            'ALTER TABLE "public"."p21" REPLICA IDENTITY DEFAULT',
        ],
    )


async def test_a_full_leaf_carries_every_key(conn: psycopg.AsyncConnection) -> None:
    """A leaf under FULL has all columns in the WAL, so the root's key too."""
    await conn.execute("""
        CREATE TABLE p (a int, b int NOT NULL, PRIMARY KEY (a)) PARTITION BY RANGE (a);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        ALTER TABLE p1 REPLICA IDENTITY FULL""")
    assert (await describe(conn, "public", "p")).key == ("a",)


@pytest.mark.parametrize(
    ("type_name", "canonical"),
    [
        ("int", True),
        ("bigint", True),
        ("text", True),
        ("varchar(5)", True),
        ("char(5)", True),
        ("uuid", True),
        ("bytea", True),
        ("timestamptz", True),
        ("mood", True),
        ("code", True),
        ("bpchar", False),
        ("numeric", False),
        ("price", False),
        ("float8", False),
        ("interval", False),
        ("jsonb", False),
        ("text[]", False),
    ],
)
async def test_canonical_keys(type_name: str, canonical: bool, conn: psycopg.AsyncConnection) -> None:  # noqa: FBT001
    """A key is canonical only if equal values always have equal text."""
    await conn.execute("""
        CREATE TYPE mood AS ENUM ('fine'); CREATE DOMAIN code AS char(3); CREATE DOMAIN price AS numeric""")
    await conn.execute(f"CREATE TABLE t (id {type_name} PRIMARY KEY)".encode())
    assert (await describe(conn, "public", "t")).key_is_canonical is canonical


async def test_a_key_of_a_nondeterministic_collation_is_not_canonical(
    conn: psycopg.AsyncConnection, source: psycopg.Connection
) -> None:
    """Where 'a' equals 'A', equal keys have different texts."""
    require(source, "ICU")
    await conn.execute("""
        CREATE COLLATION "any case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE t (id text COLLATE "any case" PRIMARY KEY)""")
    assert not (await describe(conn, "public", "t")).key_is_canonical
