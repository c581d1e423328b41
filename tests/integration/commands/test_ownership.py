"""Nothing of somebody else's is altered, dropped, taken over or written; nothing of ours is left behind."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.types.json import Jsonb

from tests.fix_embedding_service import EmbeddingService
from tests.fix_postgres import CHECKOUT
from tests.fix_sidecar import Sidecar
from walvec.commands import dead_letter, resync, teardown
from walvec.errors import UsageInvalid
from walvec.vectorizer.fingerprint import fingerprint_of
from walvec.vectorizer.preconditions import examine
from walvec_slots.errors import PreconditionFailed, SlotActive, SlotBlocked, SlotLost
from walvec_slots.queries import load_sql

TARGET = """
    CREATE TABLE {name} (
        id bigint NOT NULL, chunk_seq int NOT NULL, chunk text NOT NULL, input_hash bytea NOT NULL,
        embedding vector({dimensions}) NOT NULL, embedded_at timestamptz NOT NULL, PRIMARY KEY (id, chunk_seq)
    )
"""
HOOK = """
    CREATE FUNCTION hook() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'ran'; END $$
"""


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Two rows, to be followed; nothing is set up."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("CREATE TABLE page (id bigint PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two')")
    sidecar.source.execute("INSERT INTO page VALUES (1, 'page one'), (3, 'page three')")
    sidecar.follow("blog", index="none")
    return sidecar


@pytest.fixture
def embedded(blog: Sidecar) -> Sidecar:
    """The same, set up and embedded."""
    blog.setup()
    blog.once()
    return blog


@pytest.fixture
def other(
    blog: Sidecar,
    database: str,
    tmp_path: Path,
    embedding_service: EmbeddingService,
    log: list[dict[str, Any]],
) -> Iterator[Sidecar]:
    """Other settings over the same database: a slot and a publication of their own."""
    directory = tmp_path / "other"
    directory.mkdir()
    with closing(Sidecar(database, database, directory, embedding_service, log)) as own:
        own.settings["source"]["publication"] = "other"
        yield own


@pytest.fixture
def mallory(blog: Sidecar) -> Iterator[str]:
    """A role that may make tables and schemas in the database, and nothing else."""
    name = f"walvec_mallory_{os.getpid()}"
    blog.source.execute(f"CREATE ROLE {name}; GRANT CREATE ON SCHEMA public TO {name}".encode())
    yield name
    blog.source.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}".encode())


def world(sidecar: Sidecar) -> dict[str, list[Any]]:
    """What there is in the database of slots, publications, tables, schemas and records."""
    queries = {
        "slots": "SELECT slot_name, plugin FROM pg_replication_slots WHERE database = current_database()",
        "publications": "SELECT pubname, schemaname, tablename FROM pg_publication_tables",
        "relations": "SELECT oid FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'i', 'v', 'S')",
        "schemas": "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'",
    }
    return {
        name: sorted(sidecar.source.execute(query.encode()).fetchall()) for name, query in queries.items()
    }


def records(sidecar: Sidecar, slot: str) -> list[Any]:
    """What walvec's tables hold for a slot."""
    queries = (
        "SELECT to_jsonb(c) FROM walvec.checkpoint AS c WHERE slot = %s",
        "SELECT to_jsonb(v) FROM walvec.vectorizer AS v WHERE slot = %s",
        "SELECT to_jsonb(m) FROM walvec.made AS m WHERE slot = %s ORDER BY kind, name",
        """
        SELECT to_jsonb(d) FROM walvec.dead_letter AS d
        JOIN walvec.vectorizer AS v ON v.name = d.vectorizer
        WHERE v.slot = %s ORDER BY key
        """,
    )
    return [sidecar.target.execute(query.encode(), [slot]).fetchall() for query in queries]


def failures(sidecar: Sidecar) -> dict[str, str]:
    """What `walvec check` finds to fail, by subject."""
    found = asyncio.run(examine(sidecar.config, offline=True))
    return {finding.subject: finding.detail for finding in found if finding.level == "failed"}


def tear_down(sidecar: Sidecar, *, tables: bool = False) -> None:
    """`walvec teardown --yes`."""
    asyncio.run(teardown.teardown(sidecar.config, tables=tables, sure=True))


def replace_slot(sidecar: Sidecar) -> None:
    """`walvec resync --yes --no-compare`."""
    asyncio.run(resync.resync(sidecar.config, time_limit=30.0, compare=False, sure=True))


def make_slot(sidecar: Sidecar, plugin: str = "pgoutput") -> None:
    """Somebody makes a slot of walvec's name."""
    sidecar.source.execute("SELECT pg_create_logical_replication_slot(%s, %s)", [sidecar.slot, plugin])


def make_target(sidecar: Sidecar, name: str = "blog_embedding") -> None:
    """Somebody makes a table of a target's name and shape."""
    dimensions = sidecar.settings["embedder"]["dimensions"]
    sidecar.source.execute(TARGET.format(name=name, dimensions=dimensions).encode())


def make_target_with_a_trigger(sidecar: Sidecar) -> None:
    """The table belongs to walvec's role, and would run a function whenever walvec writes."""
    make_target(sidecar)
    sidecar.source.execute(HOOK)
    sidecar.source.execute(
        "CREATE TRIGGER t BEFORE INSERT ON blog_embedding FOR EACH ROW EXECUTE FUNCTION hook()"
    )


def make_target_with_a_rule(sidecar: Sidecar) -> None:
    """The table has a rule, which rewrites what walvec sends."""
    make_target(sidecar)
    sidecar.source.execute("CREATE RULE r AS ON INSERT TO blog_embedding DO ALSO NOTIFY x")


def make_target_with_a_policy(sidecar: Sidecar) -> None:
    """The table has a policy, whose function runs as whoever reads or writes."""
    make_target(sidecar)
    sidecar.source.execute("CREATE POLICY p ON blog_embedding USING (true)")


def make_view(sidecar: Sidecar) -> None:
    """A view of the right shape bears the target's name."""
    make_target(sidecar, "beneath")
    sidecar.source.execute("CREATE VIEW blog_embedding AS SELECT * FROM beneath")


def make_schema_with_a_view(sidecar: Sidecar) -> None:
    """A view in schema walvec runs its functions as whoever reads it."""
    sidecar.source.execute("CREATE SCHEMA walvec; CREATE VIEW walvec.migration AS SELECT 1 AS version")


def misspell(key: str, text: str) -> Callable[[Sidecar], None]:
    """One setting of the vectorizer is wrong."""
    return lambda sidecar: sidecar.follow("blog", **{key: text})  # type: ignore[arg-type]


def make_publication(sidecar: Sidecar) -> None:
    """Somebody's publication bears the name, and publishes another table."""
    sidecar.source.execute("CREATE PUBLICATION walvec FOR TABLE page")


OBSTACLES: dict[str, Callable[[Sidecar], None]] = {
    "text": misspell("text", "boddy"),
    "where": misspell("where", "boddy IS NULL"),
    "table": misspell("table", "blogg"),
    "schema": misspell("target", "nowhere.blog_embedding"),
    "slot": make_slot,
    "slot-of-another-plugin": lambda sidecar: make_slot(sidecar, "test_decoding"),
    "publication": make_publication,
    "trigger": make_target_with_a_trigger,
    "rule": make_target_with_a_rule,
    "policy": make_target_with_a_policy,
    "view": make_view,
    "walvec-view": make_schema_with_a_view,
}


class TestSetup:
    """All is looked at before anything is made."""

    @pytest.mark.parametrize(
        "name",
        [
            *(name for name in OBSTACLES if name != "slot-of-another-plugin"),
            pytest.param("slot-of-another-plugin", marks=pytest.mark.needs("test_decoding")),
        ],
    )
    def test_obstacle_leaves_everything_as_it_was(self, blog: Sidecar, name: str) -> None:
        """Setup that cannot end well makes nothing, and `check` names what it would say."""
        OBSTACLES[name](blog)
        before = world(blog)
        error = blog.refusal(blog.setup)
        assert world(blog) == before
        assert error.exit_code in (2, 3)
        assert any(
            error.what in (detail, f"{subject}: {detail}") for subject, detail in failures(blog).items()
        )

    def test_failure_midway_is_undone(self, blog: Sidecar) -> None:
        """A table that cannot be made, for a reason that no check sees, leaves nothing behind."""
        before = world(blog)
        blog.source.execute("""
            CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF to_regclass('public.blog_embedding') IS NOT NULL THEN RAISE 'not today'; END IF;
            END $$;
            CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()
        """)
        with pytest.raises(psycopg.errors.RaiseException):
            blog.setup()
        blog.source.execute("DROP EVENT TRIGGER refuse")
        assert world(blog) == before
        blog.setup()
        blog.once()
        assert blog.actual() == blog.expected()

    def test_slot_that_has_to_wait_too_long_is_undone(self, blog: Sidecar, database: str) -> None:
        """An open transaction keeps the slot from being made: the publication goes too."""
        before = world(blog)
        with psycopg.connect(database) as application:
            application.execute("INSERT INTO blog VALUES (7, 'seven')")
            assert isinstance(blog.refusal(lambda: blog.setup(time_limit=0.5)), SlotBlocked)
        assert world(blog) == before

    def test_foreign_publication_is_used_as_it_is(self, blog: Sidecar) -> None:
        """A publication of somebody else's that publishes the table will do, and outlives teardown."""
        blog.source.execute("CREATE PUBLICATION walvec FOR TABLE blog, page")
        blog.setup()
        blog.once()
        tear_down(blog, tables=True)
        found = blog.source.execute("SELECT tablename FROM pg_publication_tables ORDER BY 1").fetchall()
        assert found == [("blog",), ("page",)]

    def test_publication_made_again_by_somebody_is_not_altered(self, embedded: Sidecar) -> None:
        """One that bears the name of setup's own, and is not it, is somebody else's."""
        embedded.source.execute("DROP PUBLICATION walvec; CREATE PUBLICATION walvec FOR TABLE page")
        error = embedded.refusal(embedded.setup)
        assert (error.exit_code, "ADD TABLE" in (error.hint or "")) == (3, True)
        tear_down(embedded)
        assert embedded.source.execute("SELECT count(*) FROM pg_publication").fetchone() == (1,)

    def test_target_that_was_dropped_is_filled_again(self, embedded: Sidecar) -> None:
        """A target that setup makes a second time begins from the first row."""
        embedded.source.execute("DROP TABLE blog_embedding")
        embedded.setup()
        embedded.once()
        assert embedded.actual() == embedded.expected()

    def test_two_at_once(self, blog: Sidecar) -> None:
        """Of two setups at the same time one makes everything; the other follows it, or says to wait."""
        processes = [blog.start("setup") for _ in range(2)]
        codes = sorted(process.wait() for process in processes)
        assert codes in ([0, 0], [0, 5])
        blog.once()
        assert blog.actual() == blog.expected()

    def test_with_every_slot_in_use(self, embedded: Sidecar) -> None:
        """Setup can be repeated; resync, which needs one more for a moment, leaves the slot as it was."""
        ((free,),) = embedded.source.execute(
            "SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots"
        ).fetchall()
        names = [f"{embedded.slot}_{number}" for number in range(free)]
        try:
            for name in names:
                embedded.source.execute("SELECT pg_create_physical_replication_slot(%s)", [name])
            embedded.setup()
            error = embedded.refusal(lambda: replace_slot(embedded))
            assert "all replication slots are in use" in error.what
            insert = "INSERT INTO blog VALUES (99, 'kept')"
            embedded.source.execute(insert)
            embedded.once()
            assert embedded.actual() == embedded.expected()
        finally:
            drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            embedded.source.execute(f"{drop} WHERE slot_name = ANY (%s)".encode(), [names])

    def test_own_publication_gets_a_later_table(self, embedded: Sidecar) -> None:
        """What setup made, setup may alter."""
        embedded.follow("page", index="none")
        assert failures(embedded) == {}
        embedded.setup()
        embedded.once()
        assert embedded.actual() == embedded.expected()

    def test_clean_table_of_the_same_role_is_used_and_kept(self, blog: Sidecar) -> None:
        """A target that setup did not make, and that runs nobody's code, will do; teardown keeps it."""
        make_target(blog)
        blog.setup()
        blog.once()
        assert blog.actual() == blog.expected()
        tear_down(blog, tables=True)
        assert blog.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (2,)

    def test_renamed_vectorizer_takes_its_target_along(self, embedded: Sidecar) -> None:
        """A target whose vectorizer is configured no more is free for another of the same slot."""
        embedded.forget("blog")
        embedded.follow("renamed", table="blog", target="blog_embedding", index="none")
        embedded.service.forget()
        embedded.setup()
        embedded.once()
        assert (embedded.actual(), embedded.service.texts) == (embedded.expected(), [])


class TestForeignRole:
    """What another role made beforehand would run its code as walvec's role."""

    def test_target(self, blog: Sidecar, mallory: str) -> None:
        """A target of the right shape that another role owns is refused by all, a superuser's walvec too."""
        make_target(blog)
        blog.source.execute(f"ALTER TABLE blog_embedding OWNER TO {mallory}".encode())
        error = blog.refusal(blog.setup)
        assert (error.exit_code, mallory in error.what, "target of blog" in failures(blog)) == (3, True, True)

    def test_target_that_is_exchanged_later(self, embedded: Sidecar, mallory: str) -> None:
        """Run and backfill know the table that setup made by its oid."""
        embedded.source.execute("DROP TABLE blog_embedding")
        make_target(embedded)
        embedded.source.execute(f"ALTER TABLE blog_embedding OWNER TO {mallory}".encode())
        for command in (embedded.once, embedded.setup, embedded.backfill, lambda: replace_slot(embedded)):
            assert isinstance(embedded.refusal(command), PreconditionFailed)
        tear_down(embedded, tables=True)
        assert embedded.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (0,)

    def test_schema(self, blog: Sidecar, mallory: str) -> None:
        """A schema walvec of another role is not read, let alone written."""
        blog.source.execute(f"CREATE SCHEMA walvec AUTHORIZATION {mallory}".encode())
        before = world(blog)
        error = blog.refusal(blog.setup)
        assert (error.exit_code, mallory in error.what, world(blog)) == (3, True, before)
        assert "walvec's records" in failures(blog)

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE walvec.checkpoint OWNER TO {mallory}",
            "CREATE TRIGGER t BEFORE UPDATE ON walvec.checkpoint FOR EACH ROW EXECUTE FUNCTION hook()",
            "CREATE RULE r AS ON UPDATE TO walvec.vectorizer DO ALSO NOTIFY x",
            "ALTER SCHEMA walvec OWNER TO {mallory}",
        ],
    )
    def test_records_that_would_run_code(self, embedded: Sidecar, mallory: str, change: str) -> None:
        """No command that writes goes on where walvec's own tables are not its own any more."""
        embedded.source.execute(HOOK)
        embedded.source.execute(change.format(mallory=mallory).encode())
        for command in (embedded.once, embedded.setup, embedded.backfill, lambda: tear_down(embedded)):
            assert isinstance(embedded.refusal(command), PreconditionFailed)
        embedded.source.execute(f"REASSIGN OWNED BY {mallory} TO CURRENT_USER".encode())


class TestTwoConfigurations:
    """What one slot has is the other's to leave alone."""

    @pytest.mark.parametrize(
        ("name", "target"),
        [("page", "blog_embedding"), ("page", '"public"."blog_embedding"'), ("blog", "blog_embedding")],
    )
    def test_target_of_another_slot(self, embedded: Sidecar, other: Sidecar, name: str, target: str) -> None:
        """The second of two configurations with one target is refused, and hears whose it is."""
        other.follow(name, table="page", target=target, index="none")
        before = world(embedded), records(embedded, embedded.slot)
        error = other.refusal(other.setup)
        assert (error.exit_code, embedded.slot in error.what) == (3, True)
        assert error.what in failures(other).values()
        assert (world(embedded), records(embedded, embedded.slot)) == before

    def test_copy_with_another_slot(self, embedded: Sidecar, other: Sidecar) -> None:
        """Neither backfill nor resync nor teardown of a copy takes the vectorizer or its letters away."""
        embedded.service.refuse = "bad"
        embedded.source.execute("INSERT INTO blog VALUES (8, 'bad')")
        embedded.once()
        other.follow("page", index="none")
        other.setup()
        other.follow("blog", table="page", index="none")
        before = records(embedded, embedded.slot)
        for command in (other.backfill, lambda: replace_slot(other), other.once):
            assert isinstance(other.refusal(command), PreconditionFailed)
        for command in (
            lambda: asyncio.run(dead_letter.retry(other.config, None, (), every=True)),
            lambda: asyncio.run(dead_letter.discard(other.config, None, (), every=True, sure=True)),
            lambda: asyncio.run(dead_letter.discard(other.config, "blog", ("8",), every=False, sure=True)),
        ):
            assert isinstance(other.refusal(command), UsageInvalid)
        tear_down(other, tables=True)
        assert (records(embedded, embedded.slot), len(before[3])) == (before, 1)
        assert embedded.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (2,)

    def test_publication_of_another_slot(self, embedded: Sidecar, other: Sidecar) -> None:
        """A publication that goes with another slot's teardown is not shared: the refusal names that slot."""
        other.settings["source"]["publication"] = "walvec"
        other.follow("page", index="none")
        before = world(embedded)
        error = other.refusal(other.setup)
        assert (error.exit_code, embedded.slot in error.what, world(embedded)) == (3, True, before)

    def test_each_is_torn_down_alone(self, embedded: Sidecar, other: Sidecar) -> None:
        """The schema goes with the last slot, whichever made it."""
        other.follow("page", index="none")
        other.setup()
        other.once()
        tear_down(embedded, tables=True)
        other.source.execute("INSERT INTO page VALUES (9, 'nine')")
        other.once()
        assert other.actual() == other.expected()
        tear_down(other, tables=True)
        left = other.source.execute(
            "SELECT to_regnamespace('walvec') IS NULL, to_regclass('page_embedding') IS NULL"
        )
        assert left.fetchone() == (True, True)

    def test_table_left_behind_goes_with_its_new_slot(self, embedded: Sidecar, other: Sidecar) -> None:
        """A target that teardown kept belongs to the slot that is set up over it next."""
        tear_down(embedded)
        other.follow("blog", index="none")
        other.setup()
        other.once()
        tear_down(embedded, tables=True)
        assert other.actual() == other.expected()
        tear_down(other, tables=True)
        assert other.source.execute("SELECT to_regclass('blog_embedding')").fetchone() == (None,)


class TestEarlierVersion:
    """The first version recorded nothing of what it made."""

    @pytest.fixture
    def old(self, blog: Sidecar) -> Sidecar:
        """Slot, publication, checkpoint, vectorizer and target as version 1 left them."""
        make_slot(blog)
        make_target(blog)
        wanted = fingerprint_of(blog.config.vectorizers[0], blog.config.embedder)
        blog.source.execute("CREATE PUBLICATION walvec FOR TABLE blog; CREATE SCHEMA walvec")
        blog.source.execute((CHECKOUT / "sql/migrations/0001_initial.sql").read_bytes())
        blog.source.execute(load_sql("metadata.sql")["create_migration_table"])
        blog.source.execute("INSERT INTO walvec.migration VALUES (1)")
        blog.source.execute(
            "INSERT INTO walvec.checkpoint "
            "SELECT slot_name, system_identifier, timeline_id, confirmed_flush_lsn "
            "FROM pg_replication_slots, pg_control_system(), pg_control_checkpoint() WHERE slot_name = %s",
            [blog.slot],
        )
        blog.source.execute(
            "INSERT INTO walvec.vectorizer (name, slot, source_table, target_table, fingerprint) "
            "VALUES ('blog', %s, 'public.blog', 'public.blog_embedding', %s)",
            [blog.slot, Jsonb(wanted)],
        )
        return blog

    def test_goes_on(self, old: Sidecar) -> None:
        """Setup brings the records up to date, and knows slot and target as its own from then on."""
        assert failures(old) == {}
        old.setup()
        old.once()
        assert old.actual() == old.expected()
        tear_down(old, tables=True)
        left = "SELECT to_regclass('blog_embedding'), to_regclass('walvec.made')"
        assert (world(old)["slots"], old.source.execute(left).fetchone()) == ([], (None, None))

    def test_two_vectorizers_of_one_target(self, old: Sidecar) -> None:
        """What was no error in version 1 is said in words, and nothing is changed."""
        old.source.execute(
            "INSERT INTO walvec.vectorizer (name, slot, source_table, target_table, fingerprint) "
            "VALUES ('page', 'another', 'public.page', 'public.blog_embedding', '{}')"
        )
        before = world(old)
        error = old.refusal(old.setup)
        assert (error.exit_code, "blog_embedding" in error.what, world(old)) == (3, True, before)


class TestTeardown:
    """What setup recorded goes, and nothing else."""

    def test_everything_that_setup_made(self, blog: Sidecar) -> None:
        """With --tables the database is as it was before setup."""
        before = world(blog)
        blog.follow("blog")  # with its index
        blog.setup()
        blog.once()
        tear_down(blog, tables=True)
        assert world(blog) == before

    def test_again(self, embedded: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
        """Where nothing is set up, teardown says so and is no failure."""
        for tables in (False, True, True):
            tear_down(embedded, tables=tables)
        assert "Nothing is set up" in capsys.readouterr().out.splitlines()[-1]

    def test_slot_that_setup_did_not_make_is_kept(
        self, embedded: Sidecar, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A slot without a record may be somebody else's, so teardown says so and leaves it."""
        embedded.target.execute("DELETE FROM walvec.made WHERE kind = 'slot'")
        tear_down(embedded)
        assert [name for name, _ in world(embedded)["slots"]] == [embedded.slot]
        assert f"slot {embedded.slot}, which setup did not make" in capsys.readouterr().out

    @pytest.mark.needs("test_decoding")
    def test_nothing_was_ever_set_up(self, blog: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
        """A slot, a publication and a table of somebody else's stay."""
        make_slot(blog, "test_decoding")
        make_publication(blog)
        make_target(blog)
        before = world(blog)
        tear_down(blog, tables=True)
        assert (world(blog), "dropped " not in capsys.readouterr().out) == (before, True)

    @pytest.mark.parametrize("tables", [False, True])
    def test_tables_stay_unless_asked_for(self, embedded: Sidecar, *, tables: bool) -> None:
        """Without --tables the vectors stay, and a later setup takes them up without a call."""
        tear_down(embedded)
        assert embedded.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (2,)
        if tables:
            tear_down(embedded, tables=True)
            assert embedded.source.execute("SELECT to_regclass('blog_embedding')").fetchone() == (None,)
            return
        embedded.service.forget()
        embedded.setup()
        embedded.once()
        assert (embedded.actual(), embedded.service.texts) == (embedded.expected(), [])

    @pytest.mark.parametrize(
        "view", ["v AS SELECT * FROM blog_embedding", "v AS SELECT * FROM walvec.checkpoint"]
    )
    def test_what_depends_on_it_keeps_all(
        self, embedded: Sidecar, capsys: pytest.CaptureFixture[str], view: str
    ) -> None:
        """A view over a table stops teardown before anything is gone, and the refusal names it."""
        embedded.source.execute(f"CREATE VIEW {view}".encode())
        before = world(embedded), records(embedded, embedded.slot)
        capsys.readouterr()
        error = embedded.refusal(lambda: tear_down(embedded, tables=True))
        assert (error.exit_code, "view public.v" in (error.hint or "")) == (3, True)
        assert "dropped slot" not in capsys.readouterr().out
        assert (world(embedded), records(embedded, embedded.slot)) == before
        embedded.source.execute("DROP VIEW v")
        tear_down(embedded, tables=True)

    def test_running_process_is_left_alone(self, embedded: Sidecar) -> None:
        """A slot that a process reads keeps everything where it is."""
        with embedded.running():
            embedded.in_step()
            assert isinstance(embedded.refusal(lambda: tear_down(embedded, tables=True)), SlotActive)
            embedded.source.execute("INSERT INTO blog VALUES (5, 'five')")
            embedded.in_step()
        assert embedded.actual() == embedded.expected()

    def test_vectorizer_that_is_configured_no_more(self, embedded: Sidecar) -> None:
        """A table that setup made for a vectorizer of before is dropped with the others."""
        embedded.follow("page", index="none")
        embedded.setup()
        embedded.forget("blog")
        embedded.once()
        tear_down(embedded, tables=True)
        assert embedded.source.execute("SELECT to_regclass('blog_embedding')").fetchone() == (None,)

    def test_target_in_another_database(self, distant_sidecar: Sidecar) -> None:
        """Both databases are as they were."""
        distant_sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text)")
        distant_sidecar.follow("blog")
        before = world(distant_sidecar)
        distant_sidecar.setup()
        distant_sidecar.once()
        tear_down(distant_sidecar, tables=True)
        left = distant_sidecar.target.execute(
            "SELECT to_regclass('blog_embedding'), to_regnamespace('walvec')"
        )
        assert (world(distant_sidecar), left.fetchone()) == (before, (None, None))


class TestCheck:
    """It says what the commands would say."""

    @pytest.mark.parametrize(
        "harm",
        [
            "SELECT pg_drop_replication_slot(%(slot)s)",
            "SELECT pg_replication_slot_advance(%(slot)s, pg_current_wal_lsn())",
            "UPDATE walvec.checkpoint SET system_identifier = 1 WHERE slot = %(slot)s",
            "UPDATE walvec.checkpoint SET timeline = 7 WHERE slot = %(slot)s",
        ],
    )
    def test_slot_and_checkpoint_that_do_not_fit(self, embedded: Sidecar, harm: str) -> None:
        """Check, setup and run say the same of a slot that was lost, moved or is another server's."""
        embedded.source.execute("INSERT INTO blog VALUES (5, 'five')")
        embedded.source.execute(harm.encode(), {"slot": embedded.slot})
        errors = [embedded.refusal(command) for command in (embedded.once, embedded.setup)]
        assert {type(error) for error in errors} == {SlotLost}
        found = failures(embedded)
        assert [found.get(f'slot "{embedded.slot}"')] * 2 == [error.what for error in errors]

    @pytest.mark.parametrize("right", ["CREATE", "owner"])
    def test_role_that_may_not_make_the_publication(
        self, blog: Sidecar, database: str, mallory: str, right: str
    ) -> None:
        """A publication takes CREATE and the owner of every table; the remedy supplies what is missing."""
        blog.source.execute(f"ALTER ROLE {mallory} LOGIN REPLICATION PASSWORD 'p'".encode())
        blog.source.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {mallory}".encode())
        if right == "CREATE":
            blog.source.execute(f"ALTER TABLE blog OWNER TO {mallory}".encode())
        else:
            name = blog.source.info.dbname
            blog.source.execute(f'GRANT CREATE ON DATABASE "{name}" TO {mallory}'.encode())
        blog.settings["source"]["dsn"] = make_conninfo(database, user=mallory, password="p")
        blog.settings["target"] = {"dsn": database}
        before = world(blog)
        found = asyncio.run(examine(blog.config, offline=True))
        failed = [finding for finding in found if finding.level == "failed"]
        assert [finding.subject for finding in failed] == ['publication "walvec"']
        error = blog.refusal(blog.setup)
        assert (error.exit_code, error.hint, world(blog)) == (3, failed[0].remedy, before)
        blog.source.execute(str(error.hint).removeprefix("as the owner of the tables: ").encode())
        assert failures(blog) == {}
        blog.setup()


class TestBackfill:
    """What empties a table or costs money says what, and asks."""

    @pytest.mark.parametrize("change", [{"model": "other"}, {"dimensions": 12}])
    def test_another_model_empties_nothing_unasked(
        self, embedded: Sidecar, change: dict[str, object]
    ) -> None:
        """With nobody to ask, backfill says what would go and what it costs, and does nothing."""
        embedded.settings["embedder"] |= change
        before = records(embedded, embedded.slot)
        process = embedded.start("backfill", "blog")
        assert process.wait() == 2
        assert embedded.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (2,)
        assert records(embedded, embedded.slot) == before

    def test_what_it_costs(self, embedded: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
        """Rows, tokens and what is emptied are named before anything is done."""
        embedded.settings["embedder"]["model"] = "other"
        embedded.backfill()
        said = capsys.readouterr().err
        assert "public.blog_embedding will be emptied" in said
        assert "about 2 of 2 rows will be embedded" in said

    def test_unchanged_settings_are_not_asked_for(self, embedded: Sidecar) -> None:
        """A comparison of every row embeds only what differs, and needs no answer."""
        assert embedded.start("backfill", "--all").wait() == 0
        embedded.service.forget()
        embedded.once()
        assert (embedded.actual(), embedded.service.texts) == (embedded.expected(), [])

    def test_all_or_nothing(self, embedded: Sidecar) -> None:
        """One of several that cannot begin keeps the others as they are."""
        embedded.follow("page", index="none")
        embedded.setup()
        embedded.once()
        embedded.source.execute("CREATE INDEX mine ON page_embedding USING hnsw (embedding vector_l2_ops)")
        embedded.settings["embedder"] |= {"model": "other", "dimensions": 2100}
        before = records(embedded, embedded.slot)
        assert embedded.start("backfill", "--all", "--yes").wait() == 3
        assert records(embedded, embedded.slot) == before
        assert embedded.source.execute("SELECT count(*) FROM blog_embedding").fetchone() == (2,)

    @pytest.mark.parametrize("words", [["blog", "--all"], []])
    def test_unclear_choice(self, embedded: Sidecar, words: list[str]) -> None:
        """A name and --all at once, or neither, is a mistake of usage."""
        assert embedded.start("backfill", *words).wait() == 2
