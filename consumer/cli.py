"""`walvec`, the command: words to values, errors to exit codes. The work is in consumer.commands.

Nothing heavy is imported before a command is known: `walvec --help` and `--version` answer at once.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from slots.errors import WalvecError

if TYPE_CHECKING:
    from consumer.config import Config

T = TypeVar("T")

TRACEBACK_VARIABLE = "WALVEC_TRACEBACK"  # the same in consumer.logs
INSUFFICIENT_PRIVILEGE = "42501"  # SQLSTATE

EXIT_CODES = """\b
Exit codes:
  0  done
  1  unexpected; WALVEC_TRACEBACK=1 shows where
  2  the command line or the settings are wrong
  3  a precondition fails: `walvec check` says which, and what mends it
  4  the slot is lost or was invalidated
  5  another process holds the slot
"""

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
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
slots_app = typer.Typer(
    help="Look after the replication slots of the source, by hand and guarded.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(slots_app, name="slots")


def examples(*lines: str) -> str:
    """Lay out a command's examples for the end of its help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _own_or_global(context: typer.Context, path: Path | None) -> Path | None:
    """Take --config from behind the command or, without one, from before it."""
    return path or context.find_root().params.get("config")


ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings file [walvec.toml].", callback=_own_or_global
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def settings(path: Path | None) -> "Config":
    """Read the settings and start the log."""
    from consumer import logs
    from consumer.config import load

    config = load(path)
    logs.set_up(config.log)
    return config


def done(work: Coroutine[object, object, T]) -> T:
    """Run a command's work to its end."""
    return asyncio.run(work)


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- Typer's callback
    if asked:
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
        "walvec init public.blog public.page --dsn postgresql://localhost/app",
        "walvec init --output - public.blog",
    )
)
def init(
    *,
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="TABLE", help="As schema.table; without any, only the frame is written."),
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
    """Write a commented walvec.toml for the given tables.

    Where the database can be reached (--dsn, WALVEC_SOURCE__DSN or libpq's PG* variables), the tables'
    text columns are proposed as what is embedded. Nothing is changed in any database.
    """
    from consumer.commands.init import write

    write(tables or [], dsn=dsn, provider=provider, output=output, force=force, ask=not yes)


@app.command(epilog=examples("walvec check", "walvec check --offline --json") + f"\n\n{EXIT_CODES}")
def check(
    *,
    config: ConfigPath = None,
    offline: Annotated[bool, typer.Option("--offline", help="Leave the embedder alone.")] = False,
    as_json: Json = False,
) -> None:
    """Look at every precondition: a row each, with the exact statement that mends it.

    Reads both databases and, unless --offline, sends one short test text to the embedder.
    """
    from consumer.commands.check import report

    if not done(report(settings(config), offline=offline, as_json=as_json)):
        raise typer.Exit(3)


SlotName = Annotated[str, typer.Argument(metavar="SLOT", help="The slot's name.")]


@slots_app.command("list", epilog=examples("walvec slots list", "walvec slots list --json"))
def slots_list(*, config: ConfigPath = None, as_json: Json = False) -> None:
    """List the server's slots: who reads them, and how much WAL they keep back."""
    from consumer.commands import slots

    done(slots.show(settings(config), as_json=as_json))


@slots_app.command(
    "create", epilog=examples("walvec slots create", "walvec slots create spare --timeout 600")
)
def slots_create(
    *,
    slot: Annotated[str | None, typer.Argument(metavar="SLOT", help="Its name [the configured one].")] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for open transactions."),
    ] = 60.0,
    config: ConfigPath = None,
) -> None:
    """Create a slot. Waits until every write transaction that is open now has ended."""
    from consumer.commands import slots

    done(slots.create(settings(config), slot, timeout))


@slots_app.command("drop", epilog=examples("walvec slots drop spare", "walvec slots drop spare --yes"))
def slots_drop(*, slot: SlotName, yes: Yes = False, config: ConfigPath = None) -> None:
    """Drop a slot that nobody reads. Changes that only it still keeps are lost to its reader."""
    from consumer.commands import slots

    done(slots.drop(settings(config), slot, sure=yes))


@slots_app.command("copy", epilog=examples("walvec slots copy walvec walvec_before_upgrade"))
def slots_copy(
    *,
    slot: SlotName,
    new: Annotated[str, typer.Argument(metavar="NEW", help="The copy's name.")],
    config: ConfigPath = None,
) -> None:
    """Copy a slot: the copy begins where the other one stands now."""
    from consumer.commands import slots

    done(slots.copy(settings(config), slot, new))


@slots_app.command("advance", epilog=examples("walvec slots advance walvec 16/B374D848"))
def slots_advance(
    *,
    slot: SlotName,
    lsn: Annotated[str, typer.Argument(metavar="LSN", help="Where to go on reading, as in 16/B374D848.")],
    yes: Yes = False,
    config: ConfigPath = None,
) -> None:
    """Move a slot past changes that its reader shall never see. There is no way back."""
    from consumer.commands import slots

    done(slots.advance(settings(config), slot, lsn, sure=yes))


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
    if isinstance(error, WalvecError):
        what, hint, code = error.what, error.hint, error.exit_code
    elif getattr(error, "sqlstate", None) == INSUFFICIENT_PRIVILEGE:
        diagnosis = getattr(error, "diag", None)
        what = getattr(diagnosis, "message_primary", None) or "a right is missing"
        hint, code = "`walvec check` lists the rights that are missing", 3
    else:
        # The words of a foreign error may quote a row.
        what, hint, code = f"unexpected {type(error).__name__}", f"{TRACEBACK_VARIABLE}=1 shows where", 1
    typer.echo(f"walvec: {what}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    return code
