"""Several vectorizers at once, and what happens when the settings change."""

import pytest

from tests.fix_sidecar import Sidecar
from walvec_slots.errors import PreconditionFailed

CHANGES = (
    "INSERT INTO {t} VALUES (6, 'six', 'vi'), (7, 'seven', 'vii')",
    "UPDATE {t} SET body = body || '!' WHERE id % 2 = 0",
    "UPDATE {t} SET id = id + 10 WHERE id < 3",
    "DELETE FROM {t} WHERE id = 4",
)


def create(sidecar: Sidecar, *names: str) -> None:
    """Create tables of five rows."""
    for name in names:
        sidecar.source.execute(f"CREATE TABLE {name} (id int PRIMARY KEY, body text, title text)".encode())
        rows = f"SELECT i, '{name} ' || i, 'title ' || i FROM generate_series(1, 5) AS i"
        sidecar.source.execute(f"INSERT INTO {name} {rows}".encode())


def change(sidecar: Sidecar, *names: str) -> None:
    """Alter the tables in every way, in turns."""
    for statement in CHANGES:
        for name in names:
            sidecar.source.execute(statement.format(t=name).encode())


def phases(sidecar: Sidecar) -> dict[str, tuple[str, int]]:
    """Return every vectorizer's phase, and how many rows its backfill has read."""
    rows = sidecar.target.execute("SELECT name, phase, rows_done FROM walvec.vectorizer").fetchall()
    return {name: (phase, rows_done) for name, phase, rows_done in rows}


class TestSeveral:
    """Each vectorizer has its own target, and all move the one checkpoint."""

    def test_on_one_table(self, sidecar: Sidecar) -> None:
        """A table may be embedded in several ways."""
        create(sidecar, "blog")
        sidecar.follow("bodies", table="blog", text="body")
        sidecar.follow("titles", table="blog", text="title", where="id <> 3")
        sidecar.follow(
            "chunks", table="blog", text="repeat(body || '. ', 50)", chunk={"size": 90, "overlap": 9}
        )
        sidecar.setup()
        sidecar.once()
        change(sidecar, "blog")
        sidecar.once()
        assert sidecar.actual() == sidecar.expected()

    def test_on_many_tables(self, sidecar: Sidecar) -> None:
        """Several tables are followed side by side, in one transaction too."""
        names = ("blog", "page", "comment", "news")
        create(sidecar, *names)
        for name in names:
            sidecar.follow(name)
        sidecar.setup()
        with sidecar.running():
            with sidecar.source.transaction():
                change(sidecar, *names)
            sidecar.source.execute("TRUNCATE page, news")
            change(sidecar, "page")
            sidecar.source.execute("UPDATE blog SET body = 'last'")
            sidecar.in_step()
        assert sidecar.actual() == sidecar.expected()

    def test_target_in_another_database(self, distant_sidecar: Sidecar) -> None:
        """Vectors and checkpoint can be in another database; the source holds nothing."""
        create(distant_sidecar, "blog", "page")
        distant_sidecar.follow("blog")
        distant_sidecar.follow("page")
        distant_sidecar.setup()
        distant_sidecar.once()
        with distant_sidecar.running():
            change(distant_sidecar, "blog", "page")
            distant_sidecar.source.execute("TRUNCATE page")
            change(distant_sidecar, "page")
            distant_sidecar.in_step()
        tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
        schema = "SELECT to_regnamespace('walvec') IS NULL"
        found = [*distant_sidecar.source.execute(tables), *distant_sidecar.source.execute(schema)]
        assert (distant_sidecar.actual(), found) == (distant_sidecar.expected(), [(2,), (True,)])

    def test_types_of_the_source_in_another_database(self, distant_sidecar: Sidecar) -> None:
        """The refusal names the key's domain or enum that the target's database lacks."""
        distant_sidecar.source.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
        distant_sidecar.source.execute("CREATE TABLE blog (id mood PRIMARY KEY, body text)")
        distant_sidecar.follow()
        error = distant_sidecar.refusal(distant_sidecar.setup)
        assert (error.exit_code, "mood" in error.what) == (3, True)


class TestNothingToDo:
    """There are no vectorizers, or no rows."""

    def test_no_vectorizers(self, sidecar: Sidecar) -> None:
        """A process without vectorizers is refused, in the words of `check`."""
        create(sidecar, "blog")
        sidecar.follow()
        sidecar.setup()
        sidecar.forget("blog")
        assert isinstance(sidecar.refusal(sidecar.once), PreconditionFailed)

    def test_none_from_the_start(self, sidecar: Sidecar) -> None:
        """Setup creates nothing where there is nothing to follow."""
        assert isinstance(sidecar.refusal(sidecar.setup), PreconditionFailed)
        slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s"
        assert sidecar.source.execute(slots, [sidecar.slot]).fetchone() == (0,)

    def test_table_without_rows(self, sidecar: Sidecar) -> None:
        """The backfill of an empty table is done at once, and later rows are followed."""
        sidecar.source.execute("CREATE TABLE blog (id int PRIMARY KEY, body text, title text)")
        sidecar.follow()
        sidecar.setup()
        sidecar.once()
        before = phases(sidecar)
        change(sidecar, "blog")
        sidecar.once()
        assert (before, sidecar.actual()) == ({"blog": ("done", 0)}, sidecar.expected())

    def test_rows_without_text(self, sidecar: Sidecar) -> None:
        """A table whose rows have no text sends nothing to the service."""
        create(sidecar, "blog")
        sidecar.follow(text="NULL::text")
        sidecar.setup()
        sidecar.once()
        change(sidecar, "blog")
        sidecar.once()
        assert (sidecar.actual(), sidecar.service.texts) == ({"blog": {}}, [])


class TestAddedAndRemoved:
    """Vectorizers are added and removed between runs."""

    @pytest.fixture
    def one(self, sidecar: Sidecar) -> Sidecar:
        """Return two tables, one of them followed and in step."""
        create(sidecar, "blog", "page")
        sidecar.follow("blog")
        sidecar.setup()
        sidecar.once()
        sidecar.service.forget()
        return sidecar

    @pytest.mark.parametrize("table", ["page", "blog"])
    def test_added(self, one: Sidecar, table: str) -> None:
        """Only the added vectorizer is backfilled, on a new or an already followed table."""
        one.follow("later", table=table, text="'later: ' || body")
        one.setup()
        change(one, "blog", "page")
        one.once()
        resent = {"blog 3", "blog 5"} & set(one.service.texts)
        assert (one.actual(), phases(one)["blog"], resent) == (one.expected(), ("done", 5), set())

    def test_added_without_setup(self, one: Sidecar) -> None:
        """Run refuses a vectorizer that is not set up."""
        one.follow("page")
        error = one.refusal(one.once)
        assert (error.exit_code, error.what, error.hint) == (
            3,
            'Vectorizer "page" is not set up',
            "run: walvec setup",
        )

    def test_removed(self, one: Sidecar) -> None:
        """The target is kept as it is, and the log says so and how to drop it."""
        before = one.actual()
        one.follow("page")
        one.setup()
        removed = one.followed["blog"]
        one.forget("blog")
        change(one, "blog", "page")
        one.once()
        said = [
            line for line in one.log if line.get("vectorizer") == "blog" and line["log_level"] == "warning"
        ]
        one.followed["blog"] = removed
        assert (one.actual_of("blog"), [line["hint"] for line in said]) == (
            before["blog"],
            ["once it is not needed: DROP TABLE public.blog_embedding"],
        )

    def test_removed_and_added_again(self, one: Sidecar) -> None:
        """What it missed is made up for, and unchanged texts are not sent again."""
        one.follow("page")
        one.setup()
        removed = one.followed.pop("blog")
        one.once()
        change(one, "blog")
        one.once()
        one.service.forget()
        one.followed["blog"] = removed
        one.setup()
        one.once()
        resent = {"blog 3", "blog 5"} & set(one.service.texts)
        assert (one.actual(), resent) == (one.expected(), set())


class TestChanged:
    """Vectors made in two ways are never mixed."""

    @pytest.fixture
    def followed(self, sidecar: Sidecar) -> Sidecar:
        """Return a table that is followed and in step, beside another."""
        create(sidecar, "blog", "page")
        sidecar.follow("blog")
        sidecar.follow("page")
        sidecar.setup()
        sidecar.once()
        sidecar.service.forget()
        return sidecar

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"text": "title || body"}, "text"),
            ({"where": "id > 2"}, "where"),
            ({"chunk": {"size": 5, "overlap": 0}}, "chunk"),
            ({"chunk": "none", "where": "id > 2"}, "where and chunk"),
        ],
    )
    def test_settings_of_a_vectorizer(
        self, followed: Sidecar, settings: dict[str, object], words: str
    ) -> None:
        """Run refuses and names the command, which reads that vectorizer's rows again."""
        page = phases(followed)["page"]
        followed.follow("blog", **settings)  # type: ignore[arg-type]
        errors = [followed.refusal(followed.once), followed.refusal(followed.setup)]
        followed.backfill("blog")
        followed.once()
        change(followed, "blog")
        followed.once()
        said = {(type(error), error.exit_code, error.what, error.hint) for error in errors}
        assert (said, followed.actual(), phases(followed)["page"]) == (
            {
                (
                    PreconditionFailed,
                    3,
                    f'Vectorizer "blog": {words} changed since public.blog_embedding was embedded',
                    "set it back, or run: walvec backfill blog, which says what that costs and asks first",
                )
            },
            followed.expected(),
            page,
        )

    @pytest.mark.parametrize("dimensions", [8, 12, 2100])
    def test_model(self, followed: Sidecar, dimensions: int) -> None:
        """Another model takes all rows again, and changes the column's type with them."""
        followed.settings["embedder"] |= {"model": "other", "dimensions": dimensions}
        error = followed.refusal(followed.once)
        for name in ("blog", "page"):
            followed.backfill(name)
        followed.once()
        change(followed, "blog", "page")
        followed.once()
        assert (error.exit_code, "walvec backfill blog" in (error.hint or ""), followed.actual()) == (
            3,
            True,
            followed.expected(),
        )

    def test_one_of_two_backfilled(self, followed: Sidecar) -> None:
        """Nothing runs while one vectorizer still has the old model's vectors."""
        followed.settings["embedder"]["model"] = "other"
        followed.backfill("blog")
        error = followed.refusal(followed.once)
        assert "walvec backfill page" in (error.hint or "")

    def test_set_back(self, followed: Sidecar) -> None:
        """Setting a change back needs no backfill: nothing has happened to the vectors."""
        followed.follow("blog", text="title")
        followed.refusal(followed.once)
        followed.follow("blog")
        change(followed, "blog")
        followed.once()
        assert followed.actual() == followed.expected()

    @pytest.mark.parametrize("settings", [{"metric": "l2"}, {"index": "none"}])
    def test_settings_of_the_search(self, followed: Sidecar, settings: dict[str, object]) -> None:
        """Metric and index may change: they decide how vectors are searched."""
        followed.follow("blog", **settings)  # type: ignore[arg-type]
        followed.once()
        assert (followed.actual(), followed.service.texts) == (followed.expected(), [])

    def test_target(self, followed: Sidecar) -> None:
        """A target of another name makes another vectorizer, and the hint says so."""
        followed.follow("blog", target="other_embedding")
        error = followed.refusal(lambda: followed.backfill("blog"))
        assert (error.exit_code, "a vectorizer keeps its target" in (error.hint or "")) == (3, True)
