"""Tables with identified rows are followed; the others are refused, with a fix."""

from collections.abc import Iterator

import pytest

from tests.fix_sidecar import Sidecar
from walvec_slots.errors import PreconditionFailed

# What identifies a row, and the key's columns that walvec makes of it.
IDENTITIES: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "primary key": (["ALTER TABLE {t} ADD PRIMARY KEY (id)"], ("id",)),
    "primary key of two columns": (["ALTER TABLE {t} ADD PRIMARY KEY (slug, id)"], ("slug", "id")),
    "index": (
        [
            "CREATE UNIQUE INDEX {t}_slug ON {t} (slug)",
            "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_slug",
        ],
        ("slug",),
    ),
    "index beside a primary key": (
        [
            "ALTER TABLE {t} ADD PRIMARY KEY (id)",
            "CREATE UNIQUE INDEX {t}_slug ON {t} (slug) INCLUDE (views)",
            "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_slug",
        ],
        ("slug",),
    ),
    "index of two columns": (
        [
            "CREATE UNIQUE INDEX {t}_ix ON {t} (slug, id)",
            "ALTER TABLE {t} REPLICA IDENTITY USING INDEX {t}_ix",
        ],
        ("slug", "id"),
    ),
    "full with a primary key": (
        ["ALTER TABLE {t} ADD PRIMARY KEY (id)", "ALTER TABLE {t} REPLICA IDENTITY FULL"],
        ("id",),
    ),
    "full with a unique index": (
        ["CREATE UNIQUE INDEX ON {t} (slug)", "ALTER TABLE {t} REPLICA IDENTITY FULL"],
        ("slug",),
    ),
    "full with a deferrable primary key": (
        [
            "ALTER TABLE {t} ADD PRIMARY KEY (id) DEFERRABLE",
            "CREATE UNIQUE INDEX ON {t} (slug)",
            "ALTER TABLE {t} REPLICA IDENTITY FULL",
        ],
        ("slug",),
    ),
}

COLUMNS = "id int NOT NULL, slug text NOT NULL, maybe text, body text, views int DEFAULT 0"


def table(kind: str) -> str:
    """Return the name of that identity's table."""
    return "by_" + kind.replace(" ", "_")


@pytest.fixture(scope="module")
def tables(shared_sidecar: Sidecar) -> Iterator[Sidecar]:
    """Return a followed table for each identity, with short and TOASTed texts."""
    for kind, (statements, key) in IDENTITIES.items():
        shared_sidecar.source.execute(f"CREATE TABLE {table(kind)} ({COLUMNS})".encode())
        shared_sidecar.source.execute(f"ALTER TABLE {table(kind)} ALTER body SET STORAGE EXTERNAL".encode())
        for statement in statements:
            shared_sidecar.source.execute(statement.format(t=table(kind)).encode())
        shared_sidecar.follow(table(kind), key=key, text="body || views", index="none", chunk="none")
    shared_sidecar.setup()
    with shared_sidecar.running():
        yield shared_sidecar


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("SELECT", id="insert"),
        pytest.param("UPDATE {t} SET body = 'now short' WHERE id IN (1, 2)", id="update of the text"),
        pytest.param("UPDATE {t} SET views = views + 1", id="update beside a TOASTed text"),
        pytest.param("UPDATE {t} SET id = id + 100, slug = slug || '!'", id="change of key"),
        pytest.param("UPDATE {t} SET slug = upper(slug)", id="change of a part of the key"),
        pytest.param("DELETE FROM {t} WHERE id > 2", id="delete"),
        pytest.param("TRUNCATE {t}", id="truncate"),
    ],
)
@pytest.mark.parametrize("kind", IDENTITIES)
def test_identity(tables: Sidecar, kind: str, change: str) -> None:
    """A row's embedding follows its changes, whatever identifies it."""
    name = table(kind)
    with tables.source.transaction():
        tables.source.execute(f"DELETE FROM {name}".encode())
        tables.source.execute(
            f"""
            INSERT INTO {name}
            SELECT i, 'slug ' || i, NULL, repeat('body ' || i || ' ', CASE i % 2 WHEN 0 THEN 900 ELSE 1 END)
            FROM generate_series(1, 4) AS i
            """.encode()
        )
    tables.source.execute(change.format(t=name).encode())
    tables.in_step()
    assert tables.actual_of(name) == tables.expected_of(name)


@pytest.mark.parametrize(
    ("statements", "hint"),
    [
        pytest.param([], "ALTER TABLE {t} ADD PRIMARY KEY (...)", id="none"),
        pytest.param(
            ["ALTER TABLE blog ADD PRIMARY KEY (id)", "ALTER TABLE blog REPLICA IDENTITY NOTHING"],
            "ALTER TABLE {t} REPLICA IDENTITY DEFAULT",
            id="nothing",
        ),
        pytest.param(
            ["CREATE UNIQUE INDEX by_slug ON blog (slug)"],
            'ALTER TABLE {t} REPLICA IDENTITY USING INDEX "by_slug"',
            id="default without a primary key",
        ),
        pytest.param(
            ["ALTER TABLE blog ADD PRIMARY KEY (id) DEFERRABLE"],
            'CREATE UNIQUE INDEX ON {t} ("id"), then ALTER TABLE {t} REPLICA IDENTITY FULL',
            id="deferrable primary key",
        ),
        pytest.param(
            [
                "CREATE UNIQUE INDEX ON blog (maybe)",
                "CREATE UNIQUE INDEX ON blog (slug) WHERE id > 0",
                "CREATE UNIQUE INDEX ON blog (lower(slug))",
                "ALTER TABLE blog REPLICA IDENTITY FULL",
            ],
            "ALTER TABLE {t} ADD PRIMARY KEY (...)",
            id="full with no index that could serve",
        ),
        pytest.param(
            ["ALTER TABLE blog ADD PRIMARY KEY (id)", "ALTER TABLE blog SET UNLOGGED"],
            "ALTER TABLE {t} SET LOGGED",
            id="unlogged",
        ),
    ],
)
def test_refusal(sidecar: Sidecar, statements: list[str], hint: str) -> None:
    """Setup ends with 3 and the exact statement, and creates nothing."""
    sidecar.source.execute(f"CREATE TABLE blog ({COLUMNS})".encode())
    for statement in statements:
        sidecar.source.execute(statement.encode())
    sidecar.follow()
    error = sidecar.refusal(sidecar.setup)
    made = sidecar.source.execute(
        "SELECT count(*) FROM pg_publication, pg_replication_slots WHERE slot_name = %s", [sidecar.slot]
    ).fetchone()
    assert (type(error), error.exit_code, error.hint, made) == (
        PreconditionFailed,
        3,
        hint.format(t='"public"."blog"'),
        (0,),
    )


def test_refused_then_mended(sidecar: Sidecar) -> None:
    """Once the hint's statements are run, setup succeeds and the table is followed."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY DEFERRABLE, body text)")
    sidecar.follow()
    for statement in (sidecar.refusal(sidecar.setup).hint or "").split(", then "):
        sidecar.source.execute(statement.encode())
    sidecar.setup()
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one')")
    sidecar.source.execute("UPDATE blog SET id = 2")
    sidecar.once()
    assert sidecar.actual() == sidecar.expected()


def test_key_column_with_a_name_of_the_target(sidecar: Sidecar) -> None:
    """A key column named like one of the target's own columns is refused."""
    sidecar.source.execute("CREATE TABLE blog (chunk int PRIMARY KEY, body text)")
    sidecar.follow(key=("chunk",))
    error = sidecar.refusal(sidecar.setup)
    assert (error.exit_code, "chunk" in error.what, "REPLICA IDENTITY" in (error.hint or "")) == (
        3,
        True,
        True,
    )


def test_partition_without_the_roots_identity(sidecar: Sidecar) -> None:
    """The refusal names a leaf whose replica identity does not carry the key."""
    sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    sidecar.source.execute("CREATE TABLE blog_all PARTITION OF blog DEFAULT")
    sidecar.source.execute("ALTER TABLE blog_all REPLICA IDENTITY NOTHING")
    sidecar.follow()
    error = sidecar.refusal(sidecar.setup)
    assert (error.exit_code, error.hint) == (3, 'ALTER TABLE "public"."blog_all" REPLICA IDENTITY DEFAULT')
