"""`walvec`, the command: words to values, errors to exit codes. The work is in walvec.commands.

Nothing heavy is imported before a command is known: `walvec --help` and `--version` answer at once.
"""

import gc
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

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

# Thresholds of the garbage collector while it runs. No text is left in a cycle, and looking for cycles among
# all rows in memory takes time; but every request leaves some of its own objects in one.
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
    """Keep pgvector embeddings in step with PostgreSQL tables, straight from the write-ahead log."""


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
        str, typer.Option("--provider", help="mistral, openai, hashing (no network, no key) or python.")
    ] = "mistral",
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write, - for stdout.")
    ] = Path("walvec.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    yes: Yes = False,
) -> None:
    """Write a commented walvec.toml for the given tables, or for those that have text.

    Where the database can be reached (--dsn, WALVEC_SOURCE__DSN or libpq's PG* variables), the tables'
    text columns are proposed as what is embedded, and without a TABLE, tables that have such columns and a
    key. A terminal is asked to choose, unless --yes. Nothing is changed in any database.
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
    offline: Annotated[bool, typer.Option("--offline", help="Leave the embedder alone.")] = False,
    estimate: Annotated[
        bool,
        typer.Option("--estimate", help="Instead: how much is left to embed, and what that takes."),
    ] = False,
    price: Annotated[
        float | None,
        typer.Option("--price", min=0, metavar="MONEY", help="With --estimate: of a million tokens."),
    ] = None,
    latency: Annotated[
        float,
        typer.Option("--latency", min=0, metavar="SECONDS", help="With --estimate: of a request, assumed."),
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """Look at every precondition: a row each, with the exact statement that mends it.

    Reads both databases and, unless --offline, sends one short test text to the embedder. With --estimate it
    sends nothing: it reads rows, of a large table a sample, and says how many characters, tokens, requests
    and bytes they are.
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
    """Create publication, slot, schema walvec and the target tables, as far as they are missing. Safe to
    repeat.

    A slot can only be created once every write transaction that is open now has ended.
    """
    from walvec.commands import setup

    done(setup.setup(settings(config, following=True), time_limit=timeout))


@app.command(epilog=examples("walvec run", "walvec run --once", "walvec run --no-wait") + f"\n\n{EXIT_CODES}")
def run(
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="End once all that is committed in the source now is embedded."),
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
            "--give-up-after", min=0, metavar="SECONDS", help="End after failing for so long [never]."
        ),
    ] = None,
    config: ConfigPath = None,
) -> None:
    """Keep the target in step with the source, until SIGTERM or SIGINT.

    What is in flight then is finished within 30 seconds; a second signal ends at once. Neither loses
    anything. A signal that ends --once before it was done is exit code 130.
    """
    gc.set_threshold(*COLLECTOR)
    from walvec.config.exposure import warn_of_exposure
    from walvec.observe.tracing import tracing
    from walvec.supervise import supervise

    loaded = settings(config, following=True)
    warn_of_exposure(config)
    gc.freeze()  # what is imported stays
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
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="How often --watch looks.")
    ] = 2.0,
    config: ConfigPath = None,
    as_json: Json = False,
) -> None:
    """Say in a sentence whether all is well, and show how far everything is. Needs no running process.

    Lag, WAL kept, backfills, dead letters; with --watch also rates and the time to catch up, live on a
    terminal, otherwise a line (with --json an object) each time.
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
    """Read every row again, from the first key: after a change of expression or model, say.

    A text that did not change keeps its vectors and costs no call to the service. Where the settings changed,
    it says first what is emptied and about how much is embedded, and asks.
    """
    from walvec.commands import backfill

    loaded = settings(config)
    done(backfill.restart(loaded, backfill.choose(loaded, name, every=every), sure=yes))


@app.command(epilog=examples("walvec resync", "walvec resync --yes --no-compare") + f"\n\n{EXIT_CODES}")
def resync(
    *,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Compare now, or leave it to the next walvec run.")
    ] = True,
    timeout: Timeout = 60.0,
    from_old_primary: Annotated[
        bool,
        typer.Option("--from-old-primary", help="Follow an old primary that came back after a failover."),
    ] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Mend what a lost or moved slot, a restored database or another server has left undone.

    Makes a new slot, then compares source and target row by row: only what differs is embedded, and what is
    gone from the source is removed. May be interrupted and repeated at any point.
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
    slot: Annotated[
        str, typer.Option("--slot", metavar="COPY", help="The copy of the slot that kept the place.")
    ],
    begin: Annotated[
        str | None,
        typer.Option("--from", metavar="LSN", help="Begin later than the copy does [where it begins]."),
    ] = None,
    stop_at: Annotated[
        str | None,
        typer.Option("--stop-at", metavar="LSN", help="End there [what is committed now]."),
    ] = None,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Go back to a place that a copy of the slot has kept, and apply all changes since again.

    For a target that was restored from its own backup, or to have rows embedded again that were lost. The
    copy takes the slot's place and is kept as well. A text that has stayed the same costs no call to the
    service. Says first what is read again, and asks. May be interrupted and repeated at any point.
    """
    from walvec.commands import replay

    done(replay.replay(settings(config, following=True), slot, begin=begin, stop_at=stop_at, sure=yes))


@app.command(epilog=examples("walvec teardown", "walvec teardown --tables --yes"))
def teardown(
    *,
    tables: Annotated[
        bool, typer.Option("--tables", help="Drop the target tables and schema walvec too.")
    ] = False,
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Drop what setup made: slot and publication. The source's tables are not touched.

    Says first what that is, and asks. What somebody else made is kept.
    """
    from walvec.commands import teardown

    done(teardown.teardown(settings(config), tables=tables, sure=yes))


def main() -> None:
    """Run the command line; every error becomes a line or two on stderr and an exit code."""
    try:
        app(prog_name="walvec")
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            traceback.print_exception(error)
        sys.exit(_complain(error))


def _complain(error: Exception) -> int:
    """Say what went wrong, without any row's or secret's content, and return the exit code."""
    shown = error if isinstance(error, WalvecError) else _explained(error)
    if shown:
        what, hint, code = shown.what, shown.hint, shown.exit_code
    else:
        # The words of a foreign error may quote a row.
        what, hint, code = f"unexpected {type(error).__name__}", f"{TRACEBACK_VARIABLE}=1 shows where", 1
    for line in _lines(error, f"walvec: {what}"):
        typer.echo(line, err=True)
    if hint:
        typer.echo(f"  {visible(hint)}", err=True)
    return code


def _lines(error: Exception, words: str) -> list[str]:
    """Split what is ours to be split, the list of wrong settings; elsewhere a line break may be a row's."""
    lines = words.split("\n") if isinstance(error, ConfigInvalid) else [words]
    return [visible(line) for line in lines]


def _explained(error: Exception) -> WalvecError | None:
    """Find the user's words for what a database or several tasks at once have raised."""
    from walvec.policy import explain_failure, worst

    return explain_failure(worst(error))
