"""Where pgoutput differs: the server applies the publication, as it was when the WAL was written."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.fix_postgres import Cluster
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from walvec import supervise
from walvec.attach import Attachment
from walvec.attach import attach as really_attach
from walvec.commands import resync
from walvec.database.connect import connect_source
from walvec.database.continuity import read_next_xid
from walvec_slots.errors import NotUtf8, PreconditionFailed, PublicationMissing


@pytest.fixture
def pgoutput(sidecar: Sidecar) -> Sidecar:
    """A sidecar whose slots are pgoutput's."""
    sidecar.settings["source"]["plugin"] = "pgoutput"
    return sidecar


@pytest.fixture
def blog(pgoutput: Sidecar) -> Sidecar:
    """A followed table of three rows, embedded already."""
    pgoutput.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
    pgoutput.source.execute("INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 3) AS i")
    pgoutput.follow()
    pgoutput.setup()
    pgoutput.once()
    pgoutput.service.forget()
    return pgoutput


def plugin_of(sidecar: Sidecar) -> str:
    """The plugin of the sidecar's slot."""
    ((plugin,),) = sidecar.source.execute(
        "SELECT plugin FROM pg_replication_slots WHERE slot_name = %s", [sidecar.slot]
    ).fetchall()
    return str(plugin)


def generation(sidecar: Sidecar) -> int:
    """How many epochs the blog has had."""
    ((number,),) = sidecar.target.execute("SELECT generation FROM walvec.vectorizer").fetchall()
    return int(number)


@pytest.fixture
def writer(pgoutput: Sidecar) -> Iterator[psycopg.Connection]:
    """A session of the application that leaves its transactions open."""
    with psycopg.connect(pgoutput.settings["source"]["dsn"]) as connection:
        yield connection


class TestJoining:
    """A table that joins the publication is read once the transactions of that moment have ended."""

    def test_by_setup(self, blog: Sidecar, writer: psycopg.Connection) -> None:
        """A row that was written before the table joined, and committed after, is embedded."""
        blog.source.execute("CREATE TABLE page (id int PRIMARY KEY, body text)")
        blog.source.execute("INSERT INTO page VALUES (1, 'one')")
        writer.execute("INSERT INTO page VALUES (2, 'two')")
        blog.follow("page")
        blog.setup()
        with blog.running():
            until(lambda: self.waits(blog), "the table waits")
            assert blog.actual_of("page") == {}
            writer.execute("INSERT INTO page VALUES (3, 'three')")
            writer.commit()
            blog.in_step()
        assert blog.actual() == blog.expected()

    def test_youngest_transaction(self, blog: Sidecar, writer: psycopg.Connection) -> None:
        """An open transaction whose id is past that of every one that has ended is among those waited for."""

        async def next_xid() -> int:
            async with await connect_source(blog.config, role="tests") as connection:
                return await read_next_xid(connection)

        ((xid,),) = writer.execute("SELECT pg_current_xact_id()::text::bigint").fetchall()
        assert asyncio.run(next_xid()) > xid

    def test_across_a_restart(self, blog: Sidecar, writer: psycopg.Connection) -> None:
        """A process that ends meanwhile forgets nothing."""
        blog.source.execute("CREATE TABLE page (id int PRIMARY KEY, body text)")
        writer.execute("INSERT INTO page VALUES (2, 'two')")
        blog.follow("page")
        blog.setup()
        for _ in range(2):
            with blog.running():
                until(lambda: self.waits(blog), "the table waits")
                assert not blog.backfilled()
            blog.log.clear()
        writer.commit()
        blog.once()
        assert blog.actual() == blog.expected()

    def test_by_somebody_else(self, blog: Sidecar, writer: psycopg.Connection) -> None:
        """A publication that others alter is noticed, and waited for alike."""
        with blog.running():
            writer.execute("INSERT INTO blog VALUES (4, 'four')")
            blog.source.execute("ALTER PUBLICATION walvec DROP TABLE blog")
            blog.source.execute("ALTER PUBLICATION walvec ADD TABLE blog")
            until(lambda: self.waits(blog), "the table waits")
            writer.execute("INSERT INTO blog VALUES (5, 'five')")
            writer.commit()
            blog.eventually()
        assert blog.actual() == blog.expected()

    def test_nothing_is_waited_for_otherwise(self, blog: Sidecar, writer: psycopg.Connection) -> None:
        """A table that was altered, in a publication as it was, is compared at once."""
        blog.source.execute("CREATE TABLE other (id int)")
        writer.execute("INSERT INTO other VALUES (1)")
        blog.source.execute("ALTER TABLE blog ALTER body TYPE varchar USING body || '!'")
        blog.once()
        assert blog.actual() == blog.expected()

    @staticmethod
    def waits(sidecar: Sidecar) -> bool:
        """Whether the log names the session that is in the way."""
        return any(
            "process" in line["transactions"][0]
            for line in sidecar.log
            if line["event"] == "read.waiting_for_transactions"
        )


class TestMissingPublication:
    """A change that was made while the publication did not exist ends the stream at that place."""

    def test_is_past_by_resync(self, blog: Sidecar) -> None:
        """The error is its own, and `walvec resync` gets past it and embeds only what was missed."""
        blog.source.execute("ALTER PUBLICATION walvec RENAME TO other")
        blog.source.execute("INSERT INTO blog VALUES (4, 'four')")
        blog.source.execute("ALTER PUBLICATION other RENAME TO walvec")
        for _ in range(2):
            assert isinstance(blog.refusal(blog.once), PublicationMissing)
        blog.service.forget()
        compare(blog)
        assert blog.actual() == blog.expected()
        assert set(blog.service.texts) <= {"four"}

    def test_is_refused_at_the_start(self, blog: Sidecar) -> None:
        """A server does not say that there is none before the first change, so walvec does."""
        blog.source.execute("DROP PUBLICATION walvec")
        assert isinstance(blog.refusal(blog.once), PreconditionFailed)


def compare(sidecar: Sidecar) -> None:
    """`walvec resync`."""
    asyncio.run(resync.resync(sidecar.config, time_limit=30.0, compare=True, sure=True))


def test_changes_passed_over_with_a_warning_are_compared(
    blog: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL 18 warns where 17 ends the stream: one new epoch finds what was lost, and no more begin."""
    attachments: list[Attachment] = []

    async def attach(*arguments: Any, **options: Any) -> Attachment:
        attachments.append(await really_attach(*arguments, **options))
        if len(attachments) > 1:
            # The stream begins before the loss once more, and warns again.
            attachments[-1].sessions.changes_lost.set()
        return attachments[-1]

    monkeypatch.setattr(supervise, "attach", attach)
    blog.source.execute("INSERT INTO blog VALUES (4, 'four')")
    with blog.running():
        blog.in_step()
        before = generation(blog)
        blog.target.execute("DELETE FROM blog_embedding WHERE id = 1")
        attachments[0].sessions.changes_lost.set()
        blog.source.execute("INSERT INTO blog VALUES (5, 'five')")
        until(lambda: len(attachments) > 1, "it attaches again")
        blog.eventually()
        blog.source.execute("INSERT INTO blog VALUES (6, 'six')")
        blog.in_step()
    assert blog.actual() == blog.expected()
    # What lost changes begin, and what the attachment makes of it.
    assert (generation(blog), len(attachments)) == (before + 2, 2)


def test_partitions_must_come_as_themselves(pgoutput: Sidecar) -> None:
    """A publication that sends partitions as their root is refused, with the statement that fixes it."""
    pgoutput.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    pgoutput.source.execute("CREATE TABLE low PARTITION OF blog FOR VALUES FROM (0) TO (10)")
    pgoutput.source.execute("CREATE PUBLICATION walvec FOR TABLE blog WITH (publish_via_partition_root)")
    pgoutput.follow()
    refusal = pgoutput.refusal(pgoutput.setup)
    assert isinstance(refusal, PreconditionFailed)
    pgoutput.source.execute((refusal.hint or "").encode())
    pgoutput.setup()
    pgoutput.source.execute("INSERT INTO blog VALUES (1, 'one')")
    pgoutput.once()
    pgoutput.source.execute("ALTER PUBLICATION walvec SET (publish_via_partition_root = true)")
    assert isinstance(pgoutput.refusal(pgoutput.once), PreconditionFailed)


def test_truncate_of_partitions(pgoutput: Sidecar) -> None:
    """A root that is truncated is empty, and a partition's rows go alone."""
    pgoutput.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)")
    for name, first in (("low", 0), ("high", 10)):
        pgoutput.source.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF blog FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(name), first, first + 10
            )
        )
    pgoutput.follow()
    pgoutput.setup()
    for truncated in ("low", "blog"):
        pgoutput.source.execute("INSERT INTO blog SELECT i, 'body ' || i FROM generate_series(1, 19) AS i")
        pgoutput.once()
        pgoutput.source.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(truncated)))
        pgoutput.once()
        assert pgoutput.actual() == pgoutput.expected()
        pgoutput.source.execute("TRUNCATE blog")


def test_row_filter_turns_updates_into_inserts(pgoutput: Sidecar) -> None:
    """A row that comes into the filter may lack its long text, which is read by key."""
    pgoutput.source.execute("CREATE TABLE blog (id int, public bool, body text, PRIMARY KEY (id, public))")
    pgoutput.source.execute("ALTER TABLE blog ALTER body SET STORAGE EXTERNAL")
    rows = "INSERT INTO blog SELECT i, i = 1, repeat('word ', 2000) || i FROM generate_series(1, 3) i"
    pgoutput.source.execute(rows)
    pgoutput.source.execute("CREATE PUBLICATION walvec FOR TABLE blog WHERE (public)")
    pgoutput.follow(key=("id", "public"), row_filter="public")
    pgoutput.setup()
    pgoutput.once()
    pgoutput.source.execute("UPDATE blog SET public = NOT public")
    pgoutput.once()
    assert pgoutput.actual() == pgoutput.expected()


def test_long_key_that_is_stored_out_of_line(pgoutput: Sidecar) -> None:
    """A part of the key that the new row lacks is taken from the old one."""
    pgoutput.source.execute("CREATE TABLE blog (id int, slug text, body text, PRIMARY KEY (id, slug))")
    pgoutput.source.execute("ALTER TABLE blog ALTER slug SET STORAGE EXTERNAL")
    pgoutput.source.execute("INSERT INTO blog VALUES (1, repeat('s', 2500), 'one')")
    pgoutput.follow(key=("id", "slug"))
    pgoutput.setup()
    pgoutput.once()
    pgoutput.source.execute("UPDATE blog SET body = 'uno'")
    pgoutput.source.execute("UPDATE blog SET id = 2")
    pgoutput.once()
    assert pgoutput.actual() == pgoutput.expected()


def test_names_that_need_quotes(pgoutput: Sidecar) -> None:
    """The publication's name stands as an identifier within a string."""
    pgoutput.settings["source"]["publication"] = """Wal "vec", o'clock"""
    pgoutput.source.execute('CREATE TABLE "Odd, table" (id int PRIMARY KEY, "b.ody" text)')
    pgoutput.follow("odd", table='"Odd, table"', text='"b.ody"')
    pgoutput.setup()
    pgoutput.once()
    pgoutput.source.execute("""INSERT INTO "Odd, table" VALUES (1, 'one')""")
    pgoutput.once()
    assert pgoutput.actual() == pgoutput.expected()


def test_other_tables_of_the_publication_are_passed_over(blog: Sidecar) -> None:
    """A publication that holds more than is followed costs nothing but the reading."""
    blog.source.execute("CREATE TABLE other (id int PRIMARY KEY, body text)")
    blog.source.execute("ALTER PUBLICATION walvec ADD TABLE other")
    blog.source.execute("INSERT INTO other VALUES (1, 'other')")
    blog.source.execute("INSERT INTO blog VALUES (4, 'four')")
    blog.source.execute("TRUNCATE other")
    blog.once()
    assert blog.actual() == blog.expected()
    assert blog.service.texts == ["four"]


class TestChoice:
    """Which plugin a slot has."""

    @pytest.mark.parametrize("plugin", ["wal2json", "pgoutput"])
    def test_existing_slot_keeps_its_own(self, blog: Sidecar, plugin: str) -> None:
        """Under "auto" a slot of either plugin is followed; another one is refused."""
        blog.settings["source"]["plugin"] = plugin
        compare(blog)
        assert plugin_of(blog) == plugin
        blog.settings["source"]["plugin"] = "auto"
        blog.source.execute("INSERT INTO blog VALUES (4, 'four')")
        blog.once()
        assert blog.actual() == blog.expected()
        blog.settings["source"]["plugin"] = "pgoutput" if plugin == "wal2json" else "wal2json"
        for command in (blog.setup, blog.once):
            refusal = blog.refusal(command)
            assert isinstance(refusal, PreconditionFailed)
            assert "walvec resync" in (refusal.hint or "")

    def test_another_plugin_embeds_nothing_again(self, blog: Sidecar) -> None:
        """A resync makes the other slot, and pays for what has changed alone."""
        blog.source.execute("UPDATE blog SET body = 'two' WHERE id = 2")
        blog.settings["source"]["plugin"] = "wal2json"
        compare(blog)
        assert (plugin_of(blog), blog.service.texts) == ("wal2json", ["two"])
        assert blog.actual() == blog.expected()

    def test_new_slot(self, blog: Sidecar) -> None:
        """A new slot gets wal2json where that can be used."""
        blog.settings["source"]["plugin"] = "auto"
        compare(blog)
        assert plugin_of(blog) == "wal2json"


def test_server_that_refuses_wal2json(cluster: Cluster, blog_on: Callable[[str, str], Sidecar]) -> None:
    """Where the library is not allowed, or cannot write the database's text, a new slot is pgoutput's."""
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
        admin.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
        admin.execute("CREATE DATABASE utf8 ENCODING 'UTF8' TEMPLATE template0")
    latin = blog_on("latin", "utf8")
    latin.source.execute('ALTER TABLE blog RENAME body TO "größe"')
    latin.follow(text='"größe"')
    latin.settings["source"]["plugin"] = "wal2json"
    assert isinstance(latin.refusal(latin.setup), NotUtf8)
    latin.settings["source"]["plugin"] = "auto"
    latin.setup()
    assert plugin_of(latin) == "pgoutput"
    latin.once()
    latin.source.execute("INSERT INTO blog VALUES (2, 'éü¿')")
    latin.once()
    assert latin.actual() == latin.expected() == {"blog": {("1",): ["ü"], ("2",): ["éü¿"]}}
    latin.close()

    ascii_ = blog_on("ascii", "utf8")
    assert isinstance(ascii_.refusal(ascii_.setup), NotUtf8)
    ascii_.close()

    cluster.set("output_plugin_libraries", "pgoutput")
    utf8 = blog_on("utf8", "utf8")
    utf8.settings["source"]["slot"] = utf8.slot = "another"
    utf8.settings["source"]["publication"] = "another"
    utf8.follow(target="another_embedding")
    utf8.forget("blog")
    utf8.follow("another", table="blog")
    utf8.setup()
    assert plugin_of(utf8) == "pgoutput"
    utf8.close()


@pytest.fixture
def blog_on(
    cluster: Cluster, tmp_path: Any, embedding_service: Any, log: list[dict[str, Any]]
) -> Callable[[str, str], Sidecar]:
    """Give a function that makes a sidecar with a blog, from one database of the server to another."""

    def make(source: str, target: str) -> Sidecar:
        dsns = [make_conninfo(cluster.dsn(name), client_encoding="UTF8") for name in (source, target)]
        sidecar = Sidecar(dsns[0], dsns[1], tmp_path, embedding_service, log)
        sidecar.target.execute("CREATE EXTENSION IF NOT EXISTS vector")
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text)")
        sidecar.source.execute("INSERT INTO blog VALUES (1, %s)", ["x" if source == "ascii" else "ü"])
        sidecar.follow()
        return sidecar

    return make
