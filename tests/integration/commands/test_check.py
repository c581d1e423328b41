import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.integration.commands.conftest import Walvec

SETTINGS = """
[source]
slot = "check_{pid}"
[embedder]
provider = "hashing"
{embedder}
[[vectorizer]]
name = "blog"
table = "public.blog"
text = "title"
target = "public.blog_embedding"
{vectorizer}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., None]:
    """A function that writes the settings, with more lines for a section."""

    def write(embedder: str = "", vectorizer: str = "") -> None:
        text = SETTINGS.format(pid=os.getpid(), embedder=embedder, vectorizer=vectorizer)
        (tmp_path / "walvec.toml").write_text(text)

    write()
    return write


@pytest.fixture
def blog(source: psycopg.Connection, settings: Callable[..., None]) -> None:
    """The table that the settings name."""
    source.execute("CREATE TABLE blog (id int PRIMARY KEY, title text, mood text)")


def checked(walvec: Walvec, *words: str) -> dict[str, dict[str, Any]]:
    """Run the command and map subjects to findings; its exit code agrees with them."""
    outcome = walvec("check", "--json", *words)
    assert outcome.stdout, outcome.stderr
    document = json.loads(outcome.stdout)
    failed = any(finding["level"] == "failed" for finding in document["findings"])
    assert (outcome.code, document["ok"]) == ((3, False) if failed else (0, True))
    return {finding["subject"]: finding for finding in document["findings"]}


def level(finding: dict[str, Any]) -> tuple[str, str]:
    """What a test compares: the level, and the remedy if there is one."""
    return finding["level"], finding["remedy"] or ""


@pytest.mark.usefixtures("blog")
class TestBeforeSetup:
    """What setup will make is no failure."""

    def test_nothing_fails(self, walvec: Walvec) -> None:
        """A good server and a good table: exit 0."""
        findings = checked(walvec)
        assert [each for each in findings.values() if each["level"] == "failed"] == []
        assert findings["vectorizer blog"]["level"] == "ok"
        assert findings["embedder"]["detail"] == "hashing answers with 384 dimensions"
        assert findings["target of blog"]["detail"] == "public.blog_embedding: walvec setup creates it"

    def test_leaves_nothing_behind(self, source: psycopg.Connection, walvec: Walvec) -> None:
        """Looking changes neither tables nor slots."""
        count = "SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_replication_slots)"
        before = source.execute(count).fetchone()
        checked(walvec)
        assert source.execute(count).fetchone() == before

    def test_for_eyes(self, walvec: Walvec) -> None:
        """Each finding has a line; what fails comes last, then the counts and the next step."""
        lines = walvec("check").stdout.splitlines()
        assert any(line.startswith("ok       vectorizer blog") for line in lines)
        levels = [line.split()[0] for line in lines if line.startswith(("ok ", "warning ", "failed "))]
        assert levels == sorted(levels, key=["ok", "warning", "failed"].index)
        assert " ok" in lines[-2]
        assert "walvec" in lines[-1]

    def test_offline_asks_nobody(self, walvec: Walvec) -> None:
        """The embedder is opened only."""
        assert checked(walvec, "--offline")["embedder"]["detail"] == "hashing is configured, not asked"


@pytest.mark.usefixtures("blog")
class TestFailures:
    """Each with what mends it."""

    def test_an_expression_that_does_not_parse(self, walvec: Walvec, settings: Callable[..., None]) -> None:
        """Before anything is set up."""
        settings(vectorizer='where = "no_such_column"')
        finding = checked(walvec)["vectorizer blog"]
        assert finding["level"] == "failed"
        assert 'column "no_such_column" does not exist' in finding["detail"]

    def test_an_expression_of_the_clock(self, walvec: Walvec, settings: Callable[..., None]) -> None:
        """A condition whose truth comes with time is refused by check, the key and its line named."""
        settings(vectorizer='where = "mood < now()::text"')
        finding = checked(walvec)["vectorizer blog"]
        assert finding["level"] == "failed"
        assert finding["detail"].startswith("where (walvec.toml line 12): now() ")

    def test_a_nullable_column_that_is_joined(self, walvec: Walvec, settings: Callable[..., None]) -> None:
        """A column that takes the text with it where it is NULL is a warning, with what to write instead."""
        settings(vectorizer="where = \"mood || title <> ''\"")
        assert "expressions of blog" not in checked(walvec)
        path = Path("walvec.toml")
        path.write_text(path.read_text().replace('text = "title"', 'text = "title || mood"'))
        finding = checked(walvec)["expressions of blog"]
        assert (finding["level"], "concat_ws" in finding["remedy"]) == ("warning", True)

    def test_a_table_without_a_key(self, source: psycopg.Connection, walvec: Walvec) -> None:
        """Said once, by the table."""
        source.execute("ALTER TABLE blog DROP CONSTRAINT blog_pkey")
        findings = checked(walvec)
        assert [name for name, each in findings.items() if each["level"] == "failed"] == [
            'table "public"."blog"'
        ]

    def test_a_target_of_another_shape(self, source: psycopg.Connection, walvec: Walvec) -> None:
        """Somebody's table is not written over."""
        source.execute("CREATE TABLE blog_embedding (id int)")
        finding = checked(walvec)["target of blog"]
        assert finding["level"] == "failed"
        assert "should have a column chunk_seq integer" in finding["detail"]

    def test_no_pgvector(self, source: psycopg.Connection, walvec: Walvec) -> None:
        """A role that may create it only hears of it."""
        source.execute("DROP EXTENSION vector")
        assert level(checked(walvec)["pgvector"]) == (
            "warning",
            "CREATE EXTENSION IF NOT EXISTS vector SCHEMA public",
        )

    def test_a_schema_that_is_not_there(self, walvec: Walvec, monkeypatch: pytest.MonkeyPatch) -> None:
        """Setup makes tables, not the user's schemas."""
        monkeypatch.setenv("WALVEC_VECTORIZER__BLOG__TARGET", "vectors.blog")
        assert level(checked(walvec)["target schema vectors"]) == ("failed", 'CREATE SCHEMA "vectors"')

    def test_an_embedder_that_is_away(self, walvec: Walvec, monkeypatch: pytest.MonkeyPatch) -> None:
        """The service's own failure is one row among the others."""
        monkeypatch.setenv("WALVEC_EMBEDDER__PROVIDER", "openai")
        monkeypatch.setenv("WALVEC_EMBEDDER__MODEL", "any")
        monkeypatch.setenv("WALVEC_EMBEDDER__DIMENSIONS", "3")
        monkeypatch.setenv("WALVEC_EMBEDDER__BASE_URL", "http://127.0.0.1:1/v1")
        assert checked(walvec)["embedder"]["level"] == "failed"

    def test_no_vectorizer(self, walvec: Walvec, tmp_path: Path) -> None:
        """Settings with nothing to do are pointed at init."""
        (tmp_path / "walvec.toml").write_text('[embedder]\nprovider = "hashing"\n')
        assert checked(walvec)["settings"]["level"] == "failed"

    def test_a_database_that_is_away(self, walvec: Walvec, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither side hides the other, nor the embedder."""
        monkeypatch.setenv("WALVEC_TARGET__DSN", "host=127.0.0.1 port=1")
        findings = checked(walvec)
        assert {name for name, each in findings.items() if each["level"] == "failed"} == {"target"}


class TestAfterSetup:
    """What setup made is looked at, too."""

    @pytest.fixture(autouse=True)
    def _set_up(self, walvec: Walvec, blog: None) -> None:
        outcome = walvec("setup")
        assert outcome.code == 0, outcome.stderr

    def test_all_is_well(self, walvec: Walvec) -> None:
        """Nothing is left to do; a target of the right shape is known as such."""
        findings = checked(walvec)
        assert findings["target of blog"]["detail"] == "public.blog_embedding has the right shape"
        assert findings["vectors of blog"]["level"] == "ok"
        assert {each["remedy"] for each in findings.values()} & {"walvec setup"} == set()

    def test_settings_that_changed_since(self, walvec: Walvec, settings: Callable[..., None]) -> None:
        """What `run` would refuse is said here, with the way out."""
        settings(vectorizer='where = "title IS NOT NULL"')
        finding = checked(walvec)["vectors of blog"]
        assert finding["level"] == "failed"
        assert "walvec backfill blog" in finding["remedy"]


class TestRights:
    """A role with no more than it needs, and one with less."""

    @pytest.fixture
    def role(
        self, source: psycopg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[str]:
        """A role that may log in and nothing else, as which the command works."""
        name = f"walvec_check_{os.getpid()}"
        source.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'p'".encode())
        monkeypatch.setenv("WALVEC_TARGET__DSN", make_conninfo(database, user=name, password="p"))
        yield name
        source.execute(f"DROP OWNED BY {name}".encode())
        source.execute(f"DROP ROLE {name}".encode())

    @pytest.mark.usefixtures("blog")
    def test_remedies_mend(self, source: psycopg.Connection, walvec: Walvec, role: str) -> None:
        """What check tells to run makes the failures go away."""
        before = {name: each for name, each in checked(walvec).items() if each["level"] == "failed"}
        assert set(before) == {"target schema walvec", "target schema public"}
        for finding in before.values():
            source.execute(finding["remedy"].encode())
        after = checked(walvec)
        assert {name for name, each in after.items() if each["level"] == "failed"} == set()

    @pytest.mark.usefixtures("blog")
    def test_a_target_of_somebody_else(self, source: psycopg.Connection, walvec: Walvec, role: str) -> None:
        """A table that another role made is refused until it is given away, grants or none."""
        source.execute("""
            CREATE TABLE blog_embedding (
                id int NOT NULL, chunk_seq int NOT NULL, chunk text NOT NULL, embedding vector(384) NOT NULL,
                input_hash bytea NOT NULL, embedded_at timestamptz NOT NULL, PRIMARY KEY (id, chunk_seq)
            )
        """)
        source.execute(
            f"GRANT ALL ON blog_embedding TO {role}; GRANT ALL ON SCHEMA public TO {role}".encode()
        )
        finding = checked(walvec)["target of blog"]
        statement = f'ALTER TABLE "public"."blog_embedding" OWNER TO "{role}"'
        assert (finding["level"], statement in finding["remedy"]) == ("failed", True)
        source.execute(statement.encode())
        assert checked(walvec)["target of blog"]["level"] == "ok"
