"""Random work for a database under walvec, so that a kill may come at any moment of any of it.

No text is ever written twice, so one that reaches the embedding service after its vector was committed has
been paid for twice. There are two ways in which that is right, and they are avoided: a transaction that
writes a key twice, whose parts are committed one by one and all replayed; and a key that goes and comes back,
or a table that is truncated, while a backfill has read what the stream has yet to reach. Only notes are
truncated, and only notes get another shape, or are another table from one moment to the next.
"""

import itertools
import random
import threading
from typing import LiteralString, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.fix_sidecar import Sidecar

PAUSE = 0.002  # seconds between two transactions, so that walvec can keep up
LARGE = 3000  # rows of a large transaction

# What a migration does to a table: each list is one transaction, and the table is never seen half made.
_MIGRATIONS: tuple[tuple[LiteralString, ...], ...] = (
    ("ALTER TABLE note ALTER body TYPE text USING body || '!'",),
    (
        "ALTER TABLE note RENAME body TO old",
        "ALTER TABLE note ADD body text",
        "UPDATE note SET body = old || ' moved'",
        "ALTER TABLE note DROP old",
    ),
    (
        "CREATE TABLE note_next (LIKE note INCLUDING ALL)",
        "INSERT INTO note_next SELECT id, body || ' copied' FROM note",
        "DROP TABLE note",
        "ALTER TABLE note_next RENAME TO note",
        "ALTER PUBLICATION walvec ADD TABLE note",
    ),
    ("ALTER PUBLICATION walvec DROP TABLE note", "ALTER PUBLICATION walvec ADD TABLE note"),
    ("ALTER TABLE blog ADD extra int DEFAULT 1", "ALTER TABLE blog DROP extra"),
)

_TABLES = """
    CREATE TABLE blog (id bigint PRIMARY KEY, title text, body text, published bool DEFAULT true, views int);
    ALTER TABLE blog ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE page (site int, path text, body text, PRIMARY KEY (site, path)) PARTITION BY LIST (site);
    CREATE TABLE page_1 PARTITION OF page FOR VALUES IN (1);
    CREATE TABLE page_2 PARTITION OF page DEFAULT;
    CREATE TABLE note (id bigint PRIMARY KEY, body text);
"""

# Long enough to be TOASTed: an update that leaves it alone does not carry it in the stream.
_LONG: LiteralString = "repeat(%(n)s || ' ', 800)"


def prepare(sidecar: Sidecar) -> None:
    """Make the tables, follow them, and leave something for a backfill."""
    sidecar.settings["pipeline"] = {"batch_rows": 200}
    sidecar.source.execute(_TABLES)
    sidecar.source.execute("""
        INSERT INTO blog SELECT id, 'title ' || id, 'body ' || repeat(id || ' ', 1000)
        FROM generate_series(1, 2000) AS id""")
    sidecar.follow("body", table="blog", where="published", chunk={"size": 2000, "overlap": 0}, index="none")
    sidecar.follow("title", table="blog", text="title", chunk="none", index="none")
    sidecar.follow("page", key=("site", "path"), chunk="none")
    sidecar.follow("note")
    sidecar.setup()


class Load(threading.Thread):
    """Commits random transactions, for the length of a `with` block; what it does follows from the seed."""

    def __init__(self, sidecar: Sidecar, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        dsn = make_conninfo(sidecar.settings["source"]["dsn"], application_name="load")
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._random = random.Random(seed)
        self._numbers = itertools.count(10_000)
        self._working = threading.Lock()
        self._ending = threading.Event()
        self._error: BaseException | None = None
        self.transactions = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join()
        self._connection.close()
        if self._error:
            raise self._error

    def pause(self) -> threading.Lock:
        """Give a context manager in which nothing is committed."""
        return self._working

    def run(self) -> None:
        """Work until told to end."""
        steps = (
            [self.insert, self.edit, self.touch, self.publish, self.move, self.delete, self.page, self.note]
            * 20
            + [self.roll_back, self.several] * 5
            + [self.large, self.truncate]
            + [self.migrate] * 4
        )
        try:
            while not self._ending.wait(PAUSE):
                with self._working:
                    self._random.choice(steps)()
                    self.transactions += 1
        except BaseException as error:
            self._error = error

    def insert(self) -> None:
        """One row, long or short."""
        long = self._random.choice([_LONG, "''"])
        self._execute("INSERT INTO blog VALUES (%(n)s, 'title ' || %(n)s, 'body ' || %(n)s || " + long + ")")

    def edit(self) -> None:
        """Another text for some rows."""
        self._execute("UPDATE blog SET body = 'edited ' || %(n)s || '/' || id WHERE id %% 500 = %(few)s")

    def touch(self) -> None:
        """A column that no expression uses: nothing to send, and a long body that is not in the stream."""
        self._execute("UPDATE blog SET views = %(n)s WHERE id %% 100 = %(few)s")

    def publish(self) -> None:
        """Rows go out of the embedding, and new ones come in, each with a text never seen."""
        self._execute("""
            UPDATE blog SET published = NOT published, body = 'published ' || %(n)s || '/' || id
            WHERE id %% 300 = %(few)s""")

    def move(self) -> None:
        """Another key."""
        self._execute("""
            UPDATE blog SET id = %(n)s, title = 'moved ' || %(n)s, body = 'moved body ' || %(n)s
            WHERE id = (SELECT min(id) FROM blog WHERE id > 500)""")

    def delete(self) -> None:
        """Some rows fewer."""
        self._execute("DELETE FROM blog WHERE id %% 700 = %(few)s")

    def page(self) -> None:
        """A row of a partitioned table, and one that moves to the other partition."""
        self._execute("INSERT INTO page VALUES (1 + %(n)s %% 2, 'path ' || %(n)s, 'page ' || %(n)s)")
        self._execute("""
            UPDATE page SET site = 3 - site, path = 'moved ' || %(n)s, body = 'moved page ' || %(n)s
            WHERE (site, path) = (SELECT site, path FROM page ORDER BY path LIMIT 1)""")

    def note(self) -> None:
        """A row of a table that is emptied now and then."""
        self._execute("INSERT INTO note VALUES (%(n)s, 'note ' || %(n)s)")

    def roll_back(self) -> None:
        """Work that is not to be seen."""
        with self._connection.transaction(force_rollback=True):
            self.edit()
            self.delete()

    def several(self) -> None:
        """Several changes in one transaction, some of them rolled back to a savepoint."""
        with self._connection.transaction():
            self.insert()
            with self._connection.transaction(force_rollback=True):
                self.edit()
            self.page()

    def large(self) -> None:
        """A transaction of many batches."""
        self._execute(f"""
            INSERT INTO blog
            SELECT %(n)s::bigint * 100000 + each, 'large ' || name, 'large body ' || name
            FROM generate_series(1, {LARGE}) AS each, LATERAL (SELECT %(n)s || '/' || each) AS of (name)""")
        self._execute("DELETE FROM blog WHERE id > 1000000 AND random() < 0.5")

    def truncate(self) -> None:
        """All of a table, and one partition, go at once."""
        self._execute(self._random.choice(["TRUNCATE note", "TRUNCATE page_2"]))

    def migrate(self) -> None:
        """Another shape of a table, or another table of its name."""
        with self._connection.transaction():
            for statement in self._random.choice(_MIGRATIONS):
                self._connection.execute(statement)

    def _execute(self, statement: LiteralString) -> None:
        values = {"n": next(self._numbers), "few": self._random.randrange(100)}
        self._connection.execute(statement, values)
