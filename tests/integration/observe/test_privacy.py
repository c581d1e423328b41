"""Nothing private is in anything that walvec writes: no planted canary appears."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_embedding_service import Reset, Spoiled, Status
from tests.fix_process import until
from tests.fix_sidecar import Sidecar
from tests.integration.commands.conftest import Outcome, Walvec, walvec  # noqa: F401  a fixture

ROW, KEY, API, PASSWORD = "canary-in-a-row", "canary-in-a-key", "canary-in-the-api", "canary-in-the-dsn"
SPOILED = [Spoiled(how) for how in get_args(Spoiled.__annotations__["how"])]

# A failing cast quotes what it was given.
TEXT = "CASE WHEN body LIKE '%!' THEN body::int::text ELSE body END"
DEAD_LETTERS = "SELECT vectorizer, stage, error_class, error_message FROM walvec.dead_letter"


@pytest.fixture
def planted(sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch) -> Sidecar:
    """Return a sidecar with a canary in each place, which logs everything."""
    monkeypatch.setenv("CANARY_API_KEY", API)
    sidecar.settings["source"]["dsn"] = make_conninfo(sidecar.settings["source"]["dsn"], password=PASSWORD)
    sidecar.settings["embedder"]["api_key_env"] = "CANARY_API_KEY"
    sidecar.settings["log"]["level"] = "debug"
    sidecar.source.execute("CREATE TABLE blog (slug text PRIMARY KEY, body text)")
    sidecar.source.execute("INSERT INTO blog VALUES (%s, %s)", [f"{KEY}-1", f"{ROW} one"])
    sidecar.follow("blog", key=("slug",), text=TEXT)
    sidecar.setup()
    sidecar.once()
    sidecar.source.execute("INSERT INTO blog VALUES (%s, %s)", [f"{KEY}-2", f"{ROW} two"])
    return sidecar


def nothing(sidecar: Sidecar) -> None:
    """Let everything go well."""


def expression_fails(sidecar: Sidecar) -> None:
    """Make an expression fail; PostgreSQL's message quotes the row."""
    sidecar.source.execute("UPDATE blog SET body = body || '!'")


def text_is_refused(sidecar: Sidecar) -> None:
    """Make the service refuse a text, which its message quotes."""
    sidecar.service.refuse = "two"


def service_is_unwell(sidecar: Sidecar) -> None:
    """Make the service reset, and quote the key and the text in its errors."""
    sidecar.service.script(
        Reset(),
        Status(401, f"Incorrect API key provided: {API}"),
        Status(500, f"cannot embed {ROW} two"),
        Status(429, f"{ROW} two", retry_after="0"),
    )


def answer_is_malformed(how: Spoiled) -> Callable[[Sidecar], None]:
    """Return a fault that spoils one answer."""

    def spoil(sidecar: Sidecar) -> None:
        sidecar.service.script(how)

    spoil.__name__ = how.how.replace(" ", "_")
    return spoil


def target_refuses(sidecar: Sidecar) -> None:
    """Add a constraint to the target, whose violation quotes the whole row."""
    sidecar.target.execute("ALTER TABLE blog_embedding ADD CHECK (length(chunk) < 1) NOT VALID")


def target_is_gone(sidecar: Sidecar) -> None:
    """Drop the target."""
    sidecar.target.execute("DROP TABLE blog_embedding")


def password_is_wrong(sidecar: Sidecar) -> None:
    """Connect over TCP, where the server asks for the password."""
    sidecar.settings["source"]["dsn"] = make_conninfo(sidecar.settings["source"]["dsn"], host="127.0.0.1")


def dsn_is_wrong(sidecar: Sidecar) -> None:
    """Connect to a port where no server listens."""
    dsn = make_conninfo(sidecar.settings["source"]["dsn"], host="127.0.0.1", port=1)
    sidecar.settings["source"]["dsn"] = dsn


def all_output(sidecar: Sidecar, *outcomes: Outcome) -> str:
    """Return all output: stdout, stderr with the log, and the dead letters."""
    printed = [text for outcome in outcomes for text in (outcome.stdout, outcome.stderr)]
    return "\n".join([*printed, str(sidecar.target.execute(DEAD_LETTERS).fetchall())])


def canaries(text: str) -> set[str]:
    """Return the canaries that a text holds."""
    return {canary for canary in (ROW, KEY, API, PASSWORD) if canary in text}


def run(sidecar: Sidecar, walvec: Walvec, line: str) -> Outcome:  # noqa: F811
    """Run a command with the current settings, and none of the environment's."""
    sidecar.path  # noqa: B018  written again
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WALVEC_SOURCE__DSN")
        return walvec(*line.split())


@pytest.mark.parametrize(
    "fault",
    [
        nothing,
        expression_fails,
        text_is_refused,
        service_is_unwell,
        *map(answer_is_malformed, SPOILED),
        target_refuses,
        target_is_gone,
        password_is_wrong,
        dsn_is_wrong,
    ],
    ids=lambda fault: str(fault.__name__),
)
def test_run_tells_nothing(
    planted: Sidecar,
    walvec: Walvec,  # noqa: F811
    fault: Callable[[Sidecar], None],
) -> None:
    """No failure makes `run` repeat private text, though others' messages quote it."""
    fault(planted)
    outcome = run(planted, walvec, "run --once --give-up-after 0")
    assert outcome.stderr.strip()
    assert canaries(all_output(planted, outcome)) == set()


def test_commands_tell_nothing(planted: Sidecar, walvec: Walvec) -> None:  # noqa: F811
    """Only `search` shows chunks, and only `dead-letter list` shows keys."""
    expression_fails(planted)
    lines = ["check --json", "run --once", "status --json", "backfill blog", "resync --yes", "slots list"]
    lines += ["status", "config show", "config show --json", "check --estimate", "check --estimate --json"]
    lines += ["init --output - --yes"]
    outcomes = [run(planted, walvec, line) for line in lines]
    assert canaries(all_output(planted, *outcomes)) == set()
    assert canaries(run(planted, walvec, "dead-letter list --json").stdout) == {KEY}


def test_a_process_tells_nothing(planted: Sidecar) -> None:
    """Neither `ps`, nor the log, nor Python's last words show anything private."""
    target_refuses(planted)
    process = planted.start("run")
    process.wait_for("stream.attached")
    shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    until(lambda: planted.target.execute(DEAD_LETTERS).fetchall(), "the row that is refused")
    ended = Outcome(process.stop(), process.output(), str(process.log))
    assert ("run" in shown, ended.code) == (True, 0)
    assert canaries(shown + all_output(planted, ended)) == set()
