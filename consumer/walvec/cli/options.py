"""Options that several commands share, their settings, and the end of their help.

Nothing heavy is imported here, because `walvec --help` needs this module too.
"""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from walvec.config.load import Config

_T = TypeVar("_T")

EXIT_CODES = """\b
Exit codes:
  0  done
  1  unexpected; WALVEC_TRACEBACK=1 shows where
  2  the command line or the settings are wrong
  3  a precondition fails: `walvec check` says which, and how to fix it
  4  the slot is lost or was invalidated
  5  another process holds the slot
  130  stopped by a signal before the work was done
"""


def examples(*lines: str) -> str:
    """Lay out a command's examples for the end of its help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def _own_or_global(context: typer.Context, path: Path | None) -> Path | None:
    """Take --config from after the command or, if absent, from before it."""
    return path or context.find_root().params.get("config")


ConfigPath = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="Settings file [walvec.toml].", callback=_own_or_global
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for open transactions."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def settings(path: Path | None, *, following: bool = False) -> "Config":
    """Read the settings and set up logging.

    With `following`, settings without any vectorizer are refused.
    """
    from walvec.config.load import load_config, require_vectorizers
    from walvec.observe import logs

    config = load_config(path)
    if following:
        require_vectorizers(config)
    logs.set_up(config.log)
    return config


def done(work: Coroutine[object, object, _T]) -> _T:
    """Run a command's work to its end."""
    return asyncio.run(work)
