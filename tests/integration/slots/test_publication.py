"""What every form of publication lets through."""

import psycopg
import pytest
from psycopg import sql

from walvec_slots import catalog, publication
from walvec_slots.errors import PreconditionFailed
from walvec_slots.publication import Published, published
from walvec_slots.relation import Relation, describe

ALL: frozenset[publication.PublishAction] = frozenset({"insert", "update", "delete", "truncate"})


@pytest.fixture
async def table(conn: psycopg.AsyncConnection) -> Relation:
    """Give a table in a schema of its own, and functions of either schema."""
    await conn.execute("""
        CREATE SCHEMA app;
        CREATE TABLE app.t (id int PRIMARY KEY, name text, secret text)""")
    return await describe(conn, "app", "t")


@pytest.fixture
async def parted(conn: psycopg.AsyncConnection) -> Relation:
    """Give a table of two leaves, one of them a level down."""
    await conn.execute("""
        CREATE TABLE p (a int PRIMARY KEY, b int) PARTITION BY RANGE (a);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
        CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (30) PARTITION BY RANGE (a);
        CREATE TABLE p21 PARTITION OF p2 FOR VALUES FROM (10) TO (20)""")
    return await describe(conn, "public", "p")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("FOR TABLE app.t", (None, None, ALL)),
        ("FOR ALL TABLES", (None, None, ALL)),
        ("FOR TABLES IN SCHEMA app", (None, None, ALL)),
        ("FOR TABLE app.t WITH (publish = 'insert, delete')", (None, None, {"insert", "delete"})),
        ("FOR TABLE app.t (id, name)", ({"id", "name"}, None, ALL)),
        ("FOR TABLE app.t WHERE (id > 5 AND id <> 7)", (None, "((id > 5) AND (id <> 7))", ALL)),
        ("FOR TABLE app.t (id) WHERE (id > 5)", ({"id"}, "(id > 5)", ALL)),
        ("FOR TABLE app.t WHERE (id > 5), TABLES IN SCHEMA app", (None, None, ALL)),
    ],
)
async def test_forms(
    form: str,
    expected: tuple[set[str] | None, str | None, set[publication.PublishAction]],
    conn: psycopg.AsyncConnection,
    table: Relation,
) -> None:
    """Tables, schemas, all tables, column lists, row filters and actions are read."""
    await conn.execute(sql.SQL("CREATE PUBLICATION pub {}").format(sql.SQL(form)))
    part = await published(conn, "pub", table)
    columns, row_filter, actions = expected
    assert part == Published(
        None if columns is None else frozenset(columns), row_filter, frozenset(actions), table.leaves
    )


@pytest.mark.parametrize(
    ("form", "leaves", "row_filter"),
    [
        ("FOR TABLE p", ["p1", "p21"], None),
        ("FOR ALL TABLES", ["p1", "p21"], None),
        ("FOR TABLES IN SCHEMA public", ["p1", "p21"], None),
        ("FOR TABLE p1", ["p1"], None),
        ("FOR TABLE p1 WHERE (b = 1)", ["p1"], "(b = 1)"),
        ("FOR TABLE p1 WHERE (b = 1), p21 WHERE (b = 1)", ["p1", "p21"], "(b = 1)"),
        ("FOR TABLE p2", ["p21"], None),
        (
            "FOR TABLE p WHERE (b = 1), p1 WHERE (b = 2) WITH (publish_via_partition_root)",
            ["p1", "p21"],
            "(b = 1)",
        ),
        ("FOR TABLE p2 WHERE (b = 1) WITH (publish_via_partition_root)", ["p21"], "(b = 1)"),
    ],
)
async def test_partitions(
    form: str, leaves: list[str], row_filter: str | None, conn: psycopg.AsyncConnection, parted: Relation
) -> None:
    """A leaf is published if any ancestor is.

    Whose filter holds depends on publish_via_partition_root.
    """
    await conn.execute(sql.SQL("CREATE PUBLICATION pub {}").format(sql.SQL(form)))
    part = await published(conn, "pub", parted)
    assert ([leaf.name for leaf in part.leaves], part.row_filter) == (leaves, row_filter)


async def test_a_leaf_by_itself_obeys_its_root(conn: psycopg.AsyncConnection, parted: Relation) -> None:
    """A partition described alone is published through its root, with its filter."""
    await conn.execute("CREATE PUBLICATION pub FOR TABLE p WHERE (b = 1) WITH (publish_via_partition_root)")
    part = await published(conn, "pub", await describe(conn, "public", "p1"))
    assert ([leaf.name for leaf in part.leaves], part.row_filter) == (["p1"], "(b = 1)")


async def test_a_root_without_leaves_is_published(conn: psycopg.AsyncConnection) -> None:
    """A partitioned table without a partition yet is published by its own name."""
    await conn.execute("CREATE TABLE empty (a int PRIMARY KEY) PARTITION BY RANGE (a)")
    await conn.execute("CREATE PUBLICATION pub FOR TABLE empty")
    part = await published(conn, "pub", await describe(conn, "public", "empty"))
    assert part == Published(None, None, ALL, ())


async def test_leaves_that_disagree_are_refused(conn: psycopg.AsyncConnection, parted: Relation) -> None:
    """Leaves with different filters are refused; the hint makes them the root's."""
    await conn.execute("CREATE PUBLICATION pub FOR TABLE p1 WHERE (b = 1), p21")
    with pytest.raises(PreconditionFailed, match="different row filters") as caught:
        await published(conn, "pub", parted)
    assert caught.value.hint == 'ALTER PUBLICATION "pub" SET (publish_via_partition_root = true)'


async def test_functions_in_filters_keep_their_schema(conn: psycopg.AsyncConnection, table: Relation) -> None:
    """A row filter has its schemas, so that it means the same in any search path."""
    await conn.execute("SET search_path = app")
    await conn.execute("CREATE PUBLICATION pub FOR TABLE t WHERE (lower(name) = 'x' AND secret IS NULL)")
    part = await published(conn, "pub", table)
    assert part.row_filter == "((lower(name) = 'x'::text) AND (secret IS NULL))"


async def test_the_hint_publishes_the_table(conn: psycopg.AsyncConnection, table: Relation) -> None:
    """A missing publication, then a missing table, is fixed by the hint."""
    with pytest.raises(PreconditionFailed, match="does not exist") as missing:
        await published(conn, "odd name", table)
    assert missing.value.hint == 'CREATE PUBLICATION "odd name" FOR TABLE "app"."t"'
    await conn.execute('CREATE PUBLICATION "odd name"')
    with pytest.raises(PreconditionFailed, match="does not publish") as unpublished:
        await published(conn, "odd name", table)
    await conn.execute((unpublished.value.hint or "").encode())
    assert (await published(conn, "odd name", table)).leaves == table.leaves


async def test_publications_are_made_and_dropped(
    conn: psycopg.AsyncConnection, table: Relation, parted: Relation
) -> None:
    """A publication takes tables and one more; dropping it can be repeated."""
    await publication.create_publication(conn, "pub", [table])
    await publication.add_table(conn, "pub", parted)
    assert (await published(conn, "pub", parted)).leaves == parted.leaves
    with pytest.raises(PreconditionFailed, match="already exists"):
        await publication.create_publication(conn, "pub", [table])
    await publication.drop_publication(conn, "pub")
    await publication.drop_publication(conn, "pub")
    assert await publication.find_publication(conn, "pub") is None


async def test_who_may_not_publish_is_told_what_to_run(
    conn: psycopg.AsyncConnection, table: Relation
) -> None:
    """A role that may not publish gets the statement for one that may."""
    await conn.execute("SET ROLE pg_read_all_data")
    with pytest.raises(PreconditionFailed) as caught:
        await publication.create_publication(conn, "pub", [table])
    assert 'CREATE PUBLICATION "pub" FOR TABLE "app"."t"' in (caught.value.hint or "")


async def test_postgresql_14_has_tables_only(conn: psycopg.AsyncConnection, parted: Relation) -> None:
    """The statement for PostgreSQL 14 finds leaves through their ancestors."""
    await conn.execute("CREATE PUBLICATION one FOR TABLE p2; CREATE PUBLICATION every FOR ALL TABLES")
    oids = {leaf.name: leaf.oid for leaf in parted.leaves}
    found = [
        await (
            await conn.execute(
                catalog.QUERIES["published_leaves_14"],
                {"publication": name, "oids": list(oids.values())},
            )
        ).fetchall()
        for name in ("one", "every")
    ]
    assert [[row[0] for row in rows] for rows in found] == [[oids["p21"]], list(oids.values())]
