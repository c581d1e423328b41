"""Shows the demo from its preparation to its end. Run from the checkout: python -m compose.demo [--keep]."""

import argparse
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg

from compose.demo import server
from compose.demo.screen import DemoFailed, Screen
from compose.demo.sidecar import WALVEC, Sidecar
from compose.demo.story import KEY_VARIABLE, Story
from walvec_slots.errors import WalvecError

INTERRUPTED = 130  # exit code, as a shell gives for SIGINT


def main() -> int:
    """Show it, and return the exit code: whatever fails becomes one line."""
    options = _options()
    try:
        with _only_one(options.directory):
            _show(Screen(), options)
    except (DemoFailed, WalvecError) as failure:
        return _complain(str(failure))
    except psycopg.Error as error:
        return _complain(f"PostgreSQL says: {str(error).strip().splitlines()[0]}")
    except OSError as error:
        return _complain(f"{error.filename or 'the system'}: {error.strerror}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m compose.demo", description="Show walvec at work.")
    parser.add_argument("--keep", action="store_true", help="leave database and walvec running")
    parser.add_argument("--dsn", help="a server to use in place of a private one: a superuser's way in")
    parser.add_argument("--database", default="walvec_demo", help="made there, in place of one of that name")
    parser.add_argument(
        "--directory", type=Path, default=server.CHECKOUT / ".local/demo", help="for walvec.toml and the log"
    )
    return parser.parse_args()


def _complain(words: str) -> int:
    sys.stdout.flush()
    print(f"walvec demo: {words}", file=sys.stderr)
    return 1


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the directory: a second demo would drop the first one's database."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoFailed("another one is being shown in this checkout") from None
        yield


def _show(screen: Screen, options: argparse.Namespace) -> None:
    _forget_settings(own_server=not options.dsn)
    sidecar = Sidecar(options.directory)
    sidecar.stop_previous()
    with ExitStack() as made:
        if not options.dsn:
            made.callback(_quietly, server.stop_cluster)
        admin = options.dsn or server.start_cluster()
        made.callback(_quietly, lambda: server.drop_database(admin, options.database))
        database = server.create_database(admin, options.database)
        sidecar.configure(
            database, options.database, "mistral" if os.environ.get(KEY_VARIABLE) else "hashing"
        )
        made.callback(sidecar.end)
        Story(screen, sidecar, database).tell()
        if options.keep:
            made.pop_all()
            _explain(screen, sidecar, database, own_server=not options.dsn)
        else:
            sidecar.stop()
            screen.end("All is stopped and dropped again; make demo KEEP=1 leaves it running to be tried.")


def _forget_settings(*, own_server: bool) -> None:
    """Drop what is meant for the user's own walvec and PostgreSQL; an embedder may be chosen."""
    for name in list(os.environ):
        foreign = name.startswith("WALVEC_") and not name.startswith("WALVEC_EMBEDDER__")
        if foreign or (own_server and name.startswith("PG")):
            del os.environ[name]


def _quietly(clean_up: Callable[[], None]) -> None:
    """Clean up; a failure of that must not hide what went wrong before."""
    with suppress(DemoFailed, psycopg.Error):
        clean_up()


def _explain(screen: Screen, sidecar: Sidecar, database: str, *, own_server: bool) -> None:
    """Say what is left running, and how to use and to stop it."""
    screen.chapter("Left running")
    screen.fact("database", f'psql "{database}"')
    screen.fact("walvec", f'{_short(WALVEC)} -c {_short(sidecar.config)} search blog "…"')
    screen.fact("its log", f"tail -f {_short(sidecar.log)}")
    stop = "; compose/local/cluster.sh down demo" if own_server else ""
    screen.fact("to stop", f"kill $(cat {_short(sidecar.pid_file)}){stop}")


def _short(path: Path) -> str:
    """Spell a path from the checkout, if it lies there."""
    return str(path.relative_to(server.CHECKOUT) if path.is_relative_to(server.CHECKOUT) else path)


if __name__ == "__main__":
    sys.exit(main())
