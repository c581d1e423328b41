"""Rows that cannot be embedded: parked, shown, tried again, superseded, and too many of them."""

import json
import time
from dataclasses import replace
from typing import Any, Protocol

import pytest

from tests.fix_embedding_service import Fault, Spoiled, Status
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from tests.integration.commands.conftest import Walvec
from walvec.errors import TooManyDeadLetters


@pytest.fixture
def blog(sidecar: Sidecar) -> Sidecar:
    """Three good rows, followed and embedded; the service refuses any text with POISON in it."""
    sidecar.source.execute("CREATE TABLE blog (id bigint PRIMARY KEY, body text, divisor int DEFAULT 1)")
    sidecar.source.execute("INSERT INTO blog VALUES (1, 'one'), (2, 'two'), (3, 'three')")
    sidecar.service.refuse = "POISON"
    sidecar.follow("blog", index="none", text="body || coalesce(repeat('!', 1 / divisor), '')")
    sidecar.setup()
    sidecar.once()
    return sidecar


def poison(sidecar: Sidecar, *ids: int) -> None:
    """Let rows have a text that the service refuses."""
    sidecar.source.execute("UPDATE blog SET body = 'POISON ' || id WHERE id = ANY (%s)", [list(ids)])


def parked(sidecar: Sidecar) -> list[tuple[Any, ...]]:
    """Key, stage, attempts and whether it is to be tried again, by key."""
    query = "SELECT key, stage, attempts, retry FROM walvec.dead_letter ORDER BY key"
    return sidecar.target.execute(query).fetchall()


def whose(sidecar: Sidecar) -> list[tuple[Any, ...]]:
    """Vectorizer and key, in order."""
    query = "SELECT vectorizer, key FROM walvec.dead_letter ORDER BY vectorizer, key"
    return sidecar.target.execute(query).fetchall()


def embedded(sidecar: Sidecar) -> set[str]:
    """The keys that the target holds."""
    return {key for (key,) in sidecar.actual()["blog"]}


class DeadLetter(Protocol):
    """`walvec dead-letter …` with these words; returns what it printed."""

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run it; it has to end with this code."""


@pytest.fixture
def dead_letter(blog: Sidecar, walvec: Walvec) -> DeadLetter:
    """The command, under the settings of `blog`."""

    def run(*words: str, code: int = 0) -> str:
        blog.path  # noqa: B018  written anew
        outcome = walvec("dead-letter", *words)
        assert outcome.code == code, outcome.stderr
        return outcome.stdout

    return run


class TestParking:
    """What becomes of a row that fails."""

    def test_a_refused_row_loses_its_old_vector(self, blog: Sidecar) -> None:
        """A search never shows a text that the row has no more."""
        poison(blog, 2)
        blog.once()
        assert (parked(blog), embedded(blog)) == ([(["2"], "embed", 1, False)], {"1", "3"})

    def test_a_row_on_which_an_expression_fails_loses_its_old_vector(self, blog: Sidecar) -> None:
        """The same for the other stage."""
        blog.source.execute("UPDATE blog SET divisor = 0 WHERE id = 3")
        blog.once()
        assert (parked(blog), embedded(blog)) == ([(["3"], "evaluate", 1, False)], {"1", "2"})

    @pytest.mark.parametrize("harm", ["body = 'POISON'", "divisor = 0"])
    def test_old_vectors_are_kept_where_that_is_wished(self, blog: Sidecar, harm: str) -> None:
        """All chunks of the last good text, though the new one has fewer."""
        blog.settings["pipeline"]["parked_vectors"] = "keep"
        blog.source.execute("UPDATE blog SET body = repeat('A long text. ', 400) WHERE id = 2")
        blog.once()
        before = blog.actual()
        assert len(before["blog"]["2",]) > 1
        blog.source.execute(f"UPDATE blog SET {harm} WHERE id = 2")
        blog.once()
        assert blog.actual() == before

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE blog SET body = 'good', divisor = 1 WHERE id IN (1, 2)",
            "DELETE FROM blog WHERE id IN (1, 2)",
            "UPDATE blog SET body = NULL, divisor = 1 WHERE id IN (1, 2)",
            "UPDATE blog SET id = id + 10, body = 'good', divisor = 1 WHERE id IN (1, 2)",
            "TRUNCATE blog",
        ],
    )
    def test_a_later_change_supersedes_it(self, blog: Sidecar, change: str) -> None:
        """Nothing is left to look after."""
        poison(blog, 1)
        blog.source.execute("UPDATE blog SET divisor = 0 WHERE id = 2")
        blog.once()
        assert len(parked(blog)) == 2
        blog.source.execute(change)
        blog.once()
        assert (parked(blog), blog.actual()) == ([], blog.expected())

    def test_a_key_of_several_columns(self, sidecar: Sidecar) -> None:
        """Parked and settled by all of it."""
        sidecar.source.execute(
            "CREATE TABLE page (lang char(3), at timestamptz, body text, PRIMARY KEY (lang, at))"
        )
        sidecar.source.execute("INSERT INTO page VALUES ('de', '2024-02-29 12:00+02', 'POISON')")
        sidecar.service.refuse = "POISON"
        sidecar.follow("page", key=("lang", "at"), index="none")
        sidecar.setup()
        sidecar.once()
        assert parked(sidecar) == [(["de ", "2024-02-29 10:00:00+00"], "embed", 1, False)]
        sidecar.source.execute("UPDATE page SET body = 'good'")
        sidecar.once()
        assert (parked(sidecar), sidecar.actual()) == ([], sidecar.expected())


class TestOthers:
    """Dead letters of other vectorizers, and of another slot's in the same target."""

    def test_a_row_of_another_table_with_the_same_key(self, blog: Sidecar) -> None:
        """The change of a page takes away the page's dead letter, and leaves the blog's."""
        blog.source.execute("CREATE TABLE page (id bigint PRIMARY KEY, body text)")
        blog.follow("page", index="none")
        blog.setup()
        poison(blog, 1)
        blog.source.execute("INSERT INTO page VALUES (1, 'POISON')")
        blog.once()
        assert whose(blog) == [("blog", ["1"]), ("page", ["1"])]
        blog.source.execute("UPDATE page SET body = 'good'")
        blog.once()
        assert whose(blog) == [("blog", ["1"])]

    def test_a_truncate_of_another_table(self, blog: Sidecar) -> None:
        """All of the page's go, and none of the blog's."""
        blog.source.execute("CREATE TABLE page (id bigint PRIMARY KEY, body text)")
        blog.follow("page", index="none")
        blog.setup()
        poison(blog, 1, 2)
        blog.source.execute("INSERT INTO page VALUES (1, 'POISON')")
        blog.once()
        blog.source.execute("TRUNCATE page")
        blog.once()
        assert whose(blog) == [("blog", ["1"]), ("blog", ["2"])]

    @pytest.mark.parametrize("words", [["retry", "--all"], ["discard", "--all", "--yes"]])
    def test_commands_leave_alone_what_is_of_another_slot(
        self, blog: Sidecar, dead_letter: DeadLetter, words: list[str]
    ) -> None:
        """Whoever follows that slot looks after them; here they are not even listed."""
        poison(blog, 1)
        blog.once()
        blog.target.execute("""
            INSERT INTO walvec.vectorizer
            SELECT (jsonb_populate_record(v, '{"name": "x", "slot": "x", "target_table": "public.x"}')).*
            FROM walvec.vectorizer AS v WHERE name = 'blog'""")
        blog.target.execute("""
            INSERT INTO walvec.dead_letter (vectorizer, key, stage, error_class, error_message)
            SELECT 'x', key, stage, error_class, error_message FROM walvec.dead_letter""")
        theirs = "SELECT d::text FROM walvec.dead_letter AS d WHERE vectorizer = 'x'"
        before = blog.target.execute(theirs).fetchall()
        assert [row["vectorizer"] for row in json.loads(dead_letter("list", "--json"))] == ["blog"]
        assert "1 row is" in dead_letter(*words)
        assert blog.target.execute(theirs).fetchall() == before != []
        dead_letter(words[0], "x", *words[2:], code=2)
        dead_letter(words[0], "blog", "--key", "7", *words[2:], code=2)
        assert blog.target.execute(theirs).fetchall() == before


class TestRetry:
    """`walvec dead-letter retry`."""

    def test_the_next_run_takes_it_up(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """Without a running process, `run --once` does, and ends when it is done."""
        poison(blog, 1, 2)
        blog.once()
        blog.service.refuse = None
        assert dead_letter("retry", "blog", "--key", "2").startswith("1 row is retried")
        blog.once()
        assert (parked(blog), embedded(blog)) == ([(["1"], "embed", 1, False)], {"2", "3"})

    def test_a_running_process_takes_it_up(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """Within seconds."""
        with blog.running():
            poison(blog, 1, 2, 3)
            until(lambda: len(parked(blog)) == 3)
            blog.service.refuse = None
            dead_letter("retry", "--all")
            until(lambda: not parked(blog))
        assert blog.actual() == blog.expected()

    def test_what_fails_again_counts_up_and_can_be_asked_for_again(
        self, blog: Sidecar, dead_letter: DeadLetter
    ) -> None:
        """Once asked, once tried."""
        with blog.running():
            poison(blog, 1)
            for attempts in range(1, 4):
                until(lambda: parked(blog) == [(["1"], "embed", attempts, False)], f"{attempts} attempts")  # noqa: B023
                dead_letter("retry", "blog")
        blog.once()

    def test_the_row_is_read_as_it_is_now(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """A function that the expression calls is put right; the row is not touched."""
        blog.source.execute("CREATE FUNCTION label(int) RETURNS text RETURN 1 / ($1 - 1)")
        blog.follow("blog", index="none", text="public.label(divisor)")
        blog.backfill()
        blog.once()
        assert len(parked(blog)) == 3
        blog.source.execute("CREATE OR REPLACE FUNCTION label(int) RETURNS text RETURN 'label ' || $1")
        dead_letter("retry", "blog")
        blog.once()
        assert (parked(blog), blog.actual()) == ([], blog.expected())

    def test_a_row_that_has_gone_is_no_dead_letter(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """It is read, not found, and forgotten."""
        blog.target.execute(
            "INSERT INTO walvec.dead_letter (vectorizer, key, stage, error_class, error_message, retry) "
            "VALUES ('blog', '{77}', 'embed', 'X', 'x', true)"
        )
        blog.once()
        assert parked(blog) == []

    def test_more_than_are_taken_up_at_a_time(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """`run --once` ends after the last of them."""
        blog.timing = replace(blog.timing, retry_rows=4)
        blog.source.execute("INSERT INTO blog SELECT i, 'POISON' FROM generate_series(10, 19) AS i")
        blog.once()
        blog.service.refuse = None
        dead_letter("retry", "blog")
        blog.once()
        assert (parked(blog), blog.actual()) == ([], blog.expected())

    @pytest.mark.parametrize("words", [[], ["--key", "1"]])
    def test_it_must_be_said_which(self, blog: Sidecar, dead_letter: DeadLetter, words: list[str]) -> None:
        """Usage is exit 2."""
        dead_letter("retry", *words, code=2)

    @pytest.mark.parametrize("words", [["blog"], ["nobody"], ["blog", "--key", "3"]])
    def test_none_there(self, blog: Sidecar, dead_letter: DeadLetter, words: list[str]) -> None:
        """A name or key mistyped is no success."""
        dead_letter("retry", *words, code=2)


def tried_next(sidecar: Sidecar) -> list[tuple[Any, ...]]:
    """Key, attempts, and in how many minutes from the last failure it is tried again by itself."""
    query = """
        SELECT key[1], attempts, (extract(epoch FROM retry_at - last_at) / 60)::int
        FROM walvec.dead_letter ORDER BY key
    """
    return sidecar.target.execute(query).fetchall()


def make_due(sidecar: Sidecar) -> None:
    """Let the time pass until every row that is tried again by itself is due."""
    sidecar.target.execute("UPDATE walvec.dead_letter SET retry_at = now() - interval '1 s'")


SERVICE_FAILS = [Status(500), Status(424), Spoiled("null"), Spoiled("nan"), Status(403)]


class TestRetriesByItself:
    """A cause that may pass is tried again without anybody's doing."""

    @pytest.mark.parametrize("fault", SERVICE_FAILS, ids=str)
    def test_a_row_that_the_service_failed_on_is_tried_again_after_a_minute(
        self, blog: Sidecar, fault: Fault
    ) -> None:
        """By the target's clock; the service did not refuse it."""
        blog.service.poison = fault
        poison(blog, 1)
        blog.once()
        assert tried_next(blog) == [("1", 1, 1)]

    def test_neither_a_refused_text_nor_a_failing_expression_is(self, blog: Sidecar) -> None:
        """Only somebody's doing changes that."""
        poison(blog, 1)
        blog.source.execute("UPDATE blog SET divisor = 0 WHERE id = 2")
        blog.once()
        assert tried_next(blog) == [("1", 1, None), ("2", 1, None)]

    def test_the_wait_doubles_up_to_a_day(self, blog: Sidecar) -> None:
        """A service that never takes it is asked less and less."""
        blog.service.poison = Status(500)
        poison(blog, 1)
        blog.once()
        waits = []
        for attempts in (1, 2, 5, 10, 11, 12, 1_000_000):
            blog.target.execute("UPDATE walvec.dead_letter SET attempts = %s", [attempts])
            make_due(blog)
            blog.once()
            waits += [minutes for _, _, minutes in tried_next(blog)]
        assert waits == [2, 4, 32, 1024, 1440, 1440, 1440]

    def test_a_row_whose_cause_passed_is_embedded(self, blog: Sidecar) -> None:
        """By the process that runs, as soon as it is due."""
        blog.service.poison = Status(500)
        with blog.running():
            poison(blog, 1, 2)
            until(lambda: len(parked(blog)) == 2)
            blog.service.refuse = None
            make_due(blog)
            until(lambda: not parked(blog))
        assert blog.actual() == blog.expected()

    def test_a_row_that_is_not_due_is_left_alone(self, blog: Sidecar) -> None:
        """Neither a running process nor `run --once` asks before the time."""
        blog.service.poison = Status(500)
        poison(blog, 1)
        blog.once()
        blog.service.forget()
        blog.once()
        assert blog.service.texts == []

    def test_a_service_that_refuses_it_by_now_ends_the_trying(self, blog: Sidecar) -> None:
        """What it last answered counts."""
        blog.service.poison = Status(500)
        poison(blog, 1)
        blog.once()
        blog.service.poison = None
        make_due(blog)
        blog.once()
        assert tried_next(blog) == [("1", 2, None)]

    def test_a_due_row_that_was_discarded_stays_so(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """A discarded row is nobody's to try."""
        blog.service.poison = Status(500)
        poison(blog, 1)
        blog.once()
        dead_letter("discard", "blog", "--yes")
        blog.service.forget()
        blog.once()
        assert (parked(blog), blog.service.texts) == ([], [])

    def test_list_and_status_say_so(self, blog: Sidecar, dead_letter: DeadLetter, walvec: Walvec) -> None:
        """When each is tried next, and how many need attention."""
        poison(blog, 1)
        blog.once()
        blog.service.poison = Status(500)
        poison(blog, 2)
        blog.once()
        rows = {row["key"][0]: row["retry_at"] for row in json.loads(dead_letter("list", "--json"))}
        assert rows["1"] is None
        assert rows["2"] is not None
        assert "when asked for" in dead_letter("list", "--key", "1")
        assert "when asked for" not in dead_letter("list", "--key", "2")
        [vectorizer] = json.loads(walvec("status", "--json").stdout)["vectorizers"]
        assert (vectorizer["dead_letters"], vectorizer["dead_letters_retried"]) == (2, 1)


class TestBesideOthers:
    """One text that the service fails on does not hold up the others."""

    @pytest.mark.parametrize("fault", SERVICE_FAILS, ids=str)
    def test_the_others_are_written_at_once(self, blog: Sidecar, fault: Fault) -> None:
        """Of 300 rows, 299 are embedded within seconds; the LSN does not wait for the last one."""
        blog.service.poison = fault
        with blog.running():
            began = time.monotonic()
            blog.source.execute(
                "INSERT INTO blog SELECT i, CASE i WHEN 150 THEN 'POISON' ELSE 'good ' || i END "
                "FROM generate_series(10, 309) AS i"
            )
            until(lambda: len(embedded(blog)) == 3 + 299)
            assert time.monotonic() - began < 5, "it takes about one on a machine of its own"
            until(lambda: parked(blog) == [(["150"], "embed", 1, False)])
            end = blog.source.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
            blog.source.execute("INSERT INTO blog VALUES (1000, 'after')")
            until(
                lambda: (
                    blog.target.execute("SELECT lsn > %s::pg_lsn FROM walvec.checkpoint", end).fetchone()
                    == (True,)
                )
            )


class TestDiscard:
    """`walvec dead-letter discard`."""

    def test_forgets(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """The row stays without an embedding."""
        poison(blog, 1, 2)
        blog.once()
        assert dead_letter("discard", "blog", "--key", "1", "--yes") == "1 row is discarded\n"
        blog.once()
        assert (parked(blog), embedded(blog)) == ([(["2"], "embed", 1, False)], {"3"})

    def test_asks_first(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """With nobody there to ask, nothing is done."""
        poison(blog, 1)
        blog.once()
        dead_letter("discard", "blog", code=2)
        assert len(parked(blog)) == 1


class TestList:
    """`walvec dead-letter list`."""

    def test_shows_why(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """For eyes: key, stage, error."""
        poison(blog, 2)
        blog.source.execute("UPDATE blog SET divisor = 0 WHERE id = 3")
        blog.once()
        output = dead_letter("list")
        assert "InputRefused" in output
        assert "DivisionByZero (22012)" in output
        assert "POISON" not in output

    def test_json(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """For programs."""
        poison(blog, 2)
        blog.once()
        [row] = json.loads(dead_letter("list", "blog", "--json"))
        assert (row["vectorizer"], row["key"], row["attempts"], row["retry"]) == ("blog", ["2"], 1, False)

    def test_chooses(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """By name and key, and no more than asked for."""
        poison(blog, 1, 2, 3)
        blog.once()
        assert len(json.loads(dead_letter("list", "--key", "2", "--json"))) == 1
        assert "and 2 more" in dead_letter("list", "--limit", "1")

    def test_none(self, blog: Sidecar, dead_letter: DeadLetter) -> None:
        """No table for nothing."""
        assert dead_letter("list") == "There are no dead letters.\n"


class TestCap:
    """A systematic error stops the process."""

    def insert(self, sidecar: Sidecar, first: int, last: int, body: str = "POISON") -> None:
        """New rows, a transaction each."""
        for number in range(first, last + 1):
            sidecar.source.execute("INSERT INTO blog VALUES (%s, %s)", [number, f"{body} {number}"])

    def test_stops_at_the_batch_that_passes_it(self, blog: Sidecar) -> None:
        """Exit 1 with the reason; that batch is neither written nor confirmed."""
        blog.settings["pipeline"] |= {"max_dead_letters": 10, "batch_rows": 4}
        self.insert(blog, 10, 39)
        error = blog.refusal(blog.once)
        assert isinstance(error, TooManyDeadLetters)
        assert "most of these for InputRefused" in error.what
        assert 8 <= len(parked(blog)) <= 10
        assert blog.target.execute(
            "SELECT count(*) FROM walvec.checkpoint c, pg_replication_slots s "
            "WHERE s.slot_name = c.slot AND s.confirmed_flush_lsn > c.lsn"
        ).fetchone() == (0,)

    def test_nothing_is_lost_by_it(self, blog: Sidecar) -> None:
        """With the cause mended, the next run goes on."""
        blog.settings["pipeline"] |= {"max_dead_letters": 10, "batch_rows": 4}
        self.insert(blog, 10, 39)
        blog.refusal(blog.once)
        blog.service.refuse = None
        blog.target.execute("UPDATE walvec.dead_letter SET retry = true")
        blog.once()
        assert (parked(blog), blog.actual()) == ([], blog.expected())

    def test_the_backfill_is_stopped_too(self, blog: Sidecar) -> None:
        """Existing rows are the first to meet a wrong expression."""
        blog.settings["pipeline"] |= {"max_dead_letters": 10, "batch_rows": 4}
        self.insert(blog, 10, 39)
        blog.backfill()
        assert isinstance(blog.refusal(blog.once), TooManyDeadLetters)

    def test_many_among_more_good_ones_are_no_reason(self, blog: Sidecar) -> None:
        """They are parked, the others embedded."""
        blog.settings["pipeline"] |= {"max_dead_letters": 10, "batch_rows": 10}
        blog.source.execute(
            "INSERT INTO blog SELECT i, CASE i %% 3 WHEN 0 THEN 'POISON' ELSE 'good' END || i "
            "FROM generate_series(10, 69) AS i",
            [],
        )
        blog.once()
        assert len(parked(blog)) == 20

    def test_rows_that_fail_again_are_no_reason(self, blog: Sidecar) -> None:
        """Where many are parked already, trying them again by itself must not end the process."""
        blog.settings["pipeline"] |= {"max_dead_letters": 0, "batch_rows": 4}
        blog.service.poison = Status(500)
        self.insert(blog, 10, 39)
        blog.once()
        blog.settings["pipeline"] |= {"max_dead_letters": 10}
        make_due(blog)
        blog.once()
        assert {attempts for _, attempts, _ in tried_next(blog)} == {2}

    def test_zero_means_any_number(self, blog: Sidecar) -> None:
        """Where dead letters are looked after otherwise."""
        blog.settings["pipeline"] |= {"max_dead_letters": 0, "batch_rows": 4}
        self.insert(blog, 10, 39)
        blog.once()
        assert len(parked(blog)) == 30
