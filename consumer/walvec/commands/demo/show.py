"""Shows the demo from its preparation to its end."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from shlex import quote
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from walvec.commands.demo import server
from walvec.commands.demo.embedded import EmbeddedPostgres, find_programs
from walvec.commands.demo.screen import Screen
from walvec.commands.demo.sidecar import Sidecar
from walvec.commands.demo.story import Story
from walvec.commands.demo.workplace import Workplace, open_workplace
from walvec.config.misread import ENCODE, misread_dsn
from walvec.embed.local import INSTALL_LOCAL, has_local_model
from walvec.errors import UsageInvalid, WalvecError
from walvec_slots.plugin import PluginSetting

KEY_VARIABLE: Final = "MISTRAL_API_KEY"

# Of the user's own settings the demo heeds these alone: an embedder may be chosen.
_HEEDED: Final = ("WALVEC_EMBEDDER__", "WALVEC_TRACEBACK")


def run_demo(*, keep: bool, dsn: str | None, database: str, plugin: PluginSetting) -> None:
    """Tell the whole story, on a private PostgreSQL or on the server of `dsn`.

    Raises PreconditionFailed where there is no such server, DemoFailed where the story ends badly. Nothing is
    left of it unless `keep`.
    """
    programs = None if dsn else find_programs()
    if dsn:
        _require_meant(dsn)
    _forget_settings(own_server=not dsn)
    screen = Screen()
    with open_workplace() as place, ExitStack() as undo:
        if programs:
            admin = EmbeddedPostgres(programs, place.folder / "postgres").start(plugin, outlives=keep)
        else:
            admin = dsn or ""
        address = server.create_database(admin, database)
        if dsn:
            undo.callback(_quietly, lambda: server.drop_database(admin, database))
        sidecar = Sidecar(place.folder, outlives=keep)
        sidecar.configure(address, database, provider=_provider(), plugin=plugin)
        undo.callback(sidecar.end)
        Story(screen, sidecar, address).tell()
        if keep:
            _explain(screen, sidecar, address, place, database if dsn else None)
        else:
            sidecar.stop()
            if dsn:
                server.drop_database(admin, database)
        undo.pop_all()
    if not keep:
        _say_what_is_next(screen)


def _quietly(clean_up: Callable[[], None]) -> None:
    """Clean up; a failure of that must not hide what went wrong before."""
    with suppress(WalvecError, psycopg.Error):
        clean_up()


def _require_meant(dsn: str) -> None:
    """Refuse a connection string that cannot be meant.

    A part of its password could otherwise be looked up as a host.
    """
    try:
        odd = misread_dsn(dsn)
    except psycopg.ProgrammingError:  # whose message quotes the string
        raise UsageInvalid("--dsn is not a connection string of libpq") from None
    if odd:
        raise UsageInvalid(f"--dsn {odd}", hint=ENCODE)


def _provider() -> str:
    if os.environ.get(KEY_VARIABLE):
        return "mistral"
    return "local" if has_local_model() else "hashing"


def _forget_settings(*, own_server: bool) -> None:
    """Drop what is meant for the user's own walvec and PostgreSQL."""
    for name in list(os.environ):
        foreign = name.startswith("WALVEC_") and not name.startswith(_HEEDED)
        if foreign or (own_server and name.startswith("PG")):
            del os.environ[name]


def _say_what_is_next(screen: Screen) -> None:
    """Say that nothing is left, and what to type next."""
    screen.end("All of it is stopped and removed again. What to type next:")
    screen.suggestion("walvec demo --keep", "the same, left running to be tried by hand")
    if not has_local_model():
        screen.suggestion(INSTALL_LOCAL, "a small model, with which search finds by meaning")
    screen.suggestion("walvec init --dsn postgresql://…", "write walvec.toml for tables of yours")
    screen.suggestion("walvec check", "what your database still needs, with the statements for it")


def _explain(screen: Screen, sidecar: Sidecar, address: str, place: Workplace, foreign: str | None) -> None:
    """Say what is left running, and how to use and stop it.

    `foreign` is the database's name on a given server.
    """
    walvec = f"{_short(sidecar.program)} -c {sidecar.config}"
    given = {name: value for name, value in conninfo_to_dict(address).items() if name != "password"}
    guard = place.keep()
    screen.chapter("Left running")
    screen.fact("database", f"{_psql(foreign)} {quote(make_conninfo('', **given))}")
    screen.fact("search", f'{walvec} search blog "how do I close a file"')
    screen.fact("status", f"{walvec} status --watch")
    screen.fact("its log", f"tail -f {sidecar.log}")
    screen.fact("to stop", f"kill {guard}   (ends all of it and removes {place.folder})")
    if foreign:
        screen.fact("then, on", "your server:")
        screen.line(f"           SELECT pg_drop_replication_slot('{foreign}'); DROP DATABASE \"{foreign}\";")


def _psql(foreign: str | None) -> str:
    """Return the psql to type: the system's, or the private server's."""
    own = None if foreign or shutil.which("psql") else find_programs() / "psql"
    return _short(own) if own and own.is_file() else "psql"


def _short(path: Path) -> str:
    """Spell a path from here, if it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
