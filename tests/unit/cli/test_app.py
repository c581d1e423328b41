import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from walvec.cli.app import app

CHECKOUT = Path(__file__).parents[3]
COMMANDS = [
    "init",
    "check",
    "setup",
    "run",
    "status",
    "search",
    "backfill",
    "resync",
    "replay",
    "demo",
    "teardown",
    "slots",
    "dead-letter",
    "config",
]
SUBCOMMANDS = [
    *(("slots", command) for command in ("list", "create", "drop", "copy", "advance")),
    *(("dead-letter", command) for command in ("list", "retry", "discard")),
    ("config", "show"),
]


def python(program: str, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, without this machine's settings."""
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("WALVEC_", "PG"))}
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def walvec(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as its users do."""
    return python("from walvec.cli.app import main; main()", *words, cwd=cwd, **environment)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    """A runner within this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return CliRunner()


class TestHelp:
    """What the command teaches without a database."""

    @pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
    def test_lists_every_command_and_exit_code(self, runner: CliRunner, words: list[str]) -> None:
        """The first page shows the way and what the numbers mean."""
        output = runner.invoke(app, words).output
        assert all(f"  {command} " in output for command in COMMANDS)
        assert all(f"\n    {code}  " in output for code in (*range(6), 130))

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_has_examples(self, runner: CliRunner, command: str) -> None:
        """Help that teaches shows a line to type; `slots` and its like leave that to their commands."""
        output = runner.invoke(app, [command, "--help"]).output
        assert f"walvec {command}" in output.replace("Usage: ", "")

    @pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
    def test_every_subcommand_has_examples(self, runner: CliRunner, words: tuple[str, str]) -> None:
        """Each of them too."""
        output = runner.invoke(app, [*words, "--help"]).output
        assert f"Examples:\n    walvec {' '.join(words)}" in output

    @pytest.mark.parametrize("word", ["--help", "--version"])
    def test_answers_at_once(self, tmp_path: Path, word: str) -> None:
        """What takes long to import is left alone: the whole takes less than 0.35 s."""
        heavy = {"pydantic", "pydantic_settings", "psycopg", "structlog", "httpx", "rich", "mistralai"}
        program = (
            "import sys\n"
            "from walvec.cli.app import main\n"
            "try: main()\n"
            "finally: print(*sys.modules, file=sys.stderr)"
        )
        result = python(program, word, cwd=tmp_path)
        assert result.returncode == 0
        assert set(result.stderr.split()) & heavy == set()

    def test_version(self, tmp_path: Path) -> None:
        """The version is one line."""
        assert walvec("--version", cwd=tmp_path).stdout.startswith("walvec")


SETTINGS = """
[[vectorizer]]
name = "blog"
[[vectorizer]]
name = "page"
"""

# Shell -> what its script sets to have the words "walvec … b" completed.
ASKS = {
    "bash": lambda line: {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)},
    "zsh": lambda line: {"_TYPER_COMPLETE_ARGS": line},
    "fish": lambda line: {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
}

# Shell -> what stands in its script, and in no other's.
SPEAKS = {
    "bash": "complete -o default -F _walvec_completion walvec",
    "zsh": "#compdef walvec",
    "fish": "complete --command walvec",
}
# A process that a shell's child takes for its shell: the name under which it runs is what tells.
SHELL = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], check=False).returncode)"


def walvec_from(shell: str, *words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as the child of a process named like a shell, whatever the tests are run from."""
    program = [sys.executable, "-c", "from walvec.cli.app import main; main()", *words]
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("WALVEC_")}
    return subprocess.run(
        [Path(sys.executable).with_name(shell), "-c", SHELL, *program],
        executable=sys.executable,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class TestCompletion:
    """What the tab key brings."""

    @pytest.mark.parametrize("shell", ASKS)
    def test_each_shell_gets_its_script(self, tmp_path: Path, shell: str) -> None:
        """`--show-completion` prints the script of the shell it is run from, in that shell's language."""
        script = walvec_from(shell, "--show-completion", cwd=tmp_path).stdout
        assert "_WALVEC_COMPLETE" in script
        assert [each for each, words in SPEAKS.items() if words in script] == [shell]

    @pytest.mark.parametrize("shell", ASKS)
    def test_installs_itself(self, tmp_path: Path, shell: str) -> None:
        """`--install-completion` puts that script below the home directory."""
        result = walvec_from(shell, "--install-completion", cwd=tmp_path, HOME=str(tmp_path))
        assert result.returncode == 0, result.stderr
        written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
        assert [any(words in text for text in written) for words in SPEAKS.values()] == [
            each == shell for each in SPEAKS
        ]

    @pytest.mark.parametrize("shell", ASKS)
    @pytest.mark.parametrize("command", ["search", "backfill", "dead-letter list", "dead-letter retry"])
    def test_completes_vectorizers(self, tmp_path: Path, shell: str, command: str) -> None:
        """The names in the settings that begin so."""
        (tmp_path / "walvec.toml").write_text(SETTINGS)
        asked = ASKS[shell](f"walvec {command} b")
        found = walvec(cwd=tmp_path, _WALVEC_COMPLETE=f"complete_{shell}", **asked).stdout
        assert ("blog" in found, "page" in found) == (True, False)

    def test_reads_the_file_that_is_named(self, tmp_path: Path) -> None:
        """Before the command or behind it."""
        (tmp_path / "other.toml").write_text(SETTINGS)
        for line in ("walvec -c other.toml search p", "walvec search -c other.toml p"):
            asked = ASKS["bash"](line)
            assert walvec(cwd=tmp_path, _WALVEC_COMPLETE="complete_bash", **asked).stdout == "page\n"

    def test_reads_the_variable_too(self, tmp_path: Path) -> None:
        """As the settings do."""
        asked = {**ASKS["bash"]("walvec search x"), "WALVEC_VECTORIZER": '[{"name": "xylo"}]'}
        assert walvec(cwd=tmp_path, _WALVEC_COMPLETE="complete_bash", **asked).stdout == "xylo\n"

    @pytest.mark.parametrize("text", [None, "[[vectorizer", "vectorizer = 3", "[[vectorizer]]\nname = 3"])
    def test_is_silent_about_settings_that_are_wrong(self, tmp_path: Path, text: str | None) -> None:
        """Nobody wants a traceback from the tab key."""
        if text:
            (tmp_path / "walvec.toml").write_text(text)
        asked = ASKS["bash"]("walvec search b")
        result = walvec(cwd=tmp_path, _WALVEC_COMPLETE="complete_bash", **asked)
        assert (result.stdout.strip(), result.stderr) == ("", "")


class TestExitCodes:
    """Errors are a line or two on stderr and the number of the contract."""

    def test_no_settings(self, tmp_path: Path) -> None:
        """Two lines: what, and what to do."""
        result = walvec("check", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr == (
            "walvec: walvec.toml does not exist\n"
            "  `walvec init SCHEMA.TABLE` writes one; --config names another\n"
        )

    @pytest.mark.parametrize("words", [["chekc"], ["check", "--ofline"], ["slots", "drop"]])
    def test_a_wrong_command_line(self, tmp_path: Path, words: list[str]) -> None:
        """Usage is 2."""
        assert walvec(*words, cwd=tmp_path).returncode == 2

    def test_wrong_settings(self, tmp_path: Path) -> None:
        """The key is named; the secret isn't."""
        (tmp_path / "walvec.toml").write_text('[source]\ndsn = "hunter2"\nslot = 3\n')
        result = walvec("slots", "list", cwd=tmp_path)
        assert result.returncode == 2
        assert "[source] slot must be a string" in result.stderr
        assert "hunter2" not in result.stderr

    @pytest.mark.parametrize("words", [["--config", "x", "check"], ["check", "--config", "x"]])
    def test_the_settings_file_may_be_named_before_and_behind(self, tmp_path: Path, words: list[str]) -> None:
        """Both places are natural."""
        assert "walvec: x does not exist" in walvec(*words, cwd=tmp_path).stderr

    def test_the_settings_file_may_be_named_by_a_variable(self, tmp_path: Path) -> None:
        """WALVEC_CONFIG is for containers."""
        assert "walvec: y does not exist" in walvec("check", cwd=tmp_path, WALVEC_CONFIG="y").stderr

    def test_an_unexpected_error_keeps_its_words(self, tmp_path: Path) -> None:
        """Foreign words may quote a row; the traceback is there on request."""
        program = (
            "import walvec.cli.app as cli\n"
            "def fail(path): raise ValueError('hunter2')\n"
            "cli.settings = fail\n"
            "cli.main()"
        )
        for variable, shown in (("", False), ("1", True)):
            result = python(program, "check", cwd=tmp_path, WALVEC_TRACEBACK=variable)
            assert result.returncode == 1
            assert "walvec: unexpected ValueError\n  WALVEC_TRACEBACK=1 shows where\n" in result.stderr
            assert ("hunter2" in result.stderr) is shown

    def test_several_errors_at_once(self, tmp_path: Path) -> None:
        """The one that decides is told, as if it were alone."""
        program = (
            "import walvec.cli.app as cli\n"
            "from walvec.errors import CatalogChanged, ConfigInvalid\n"
            "def fail(path): raise ExceptionGroup('', [CatalogChanged('one'), ConfigInvalid('two')])\n"
            "cli.settings = fail\n"
            "cli.main()"
        )
        result = python(program, "check", cwd=tmp_path)
        assert (result.returncode, result.stderr) == (2, "walvec: two\n")

    def test_a_database_that_is_away(self, tmp_path: Path) -> None:
        """Somebody else's failure is said in a line, with no traceback."""
        (tmp_path / "walvec.toml").write_text('[source]\ndsn = "host=127.0.0.1 port=1"\n')
        result = walvec("slots", "list", cwd=tmp_path)
        assert result.returncode == 1
        assert result.stderr.startswith("walvec: The source database cannot be reached: ")
        assert "Traceback" not in result.stderr


class TestInit:
    """`walvec init` where no database is at hand."""

    def test_writes_a_file_that_loads(self, tmp_path: Path) -> None:
        """The next command takes it as it is."""
        result = walvec("init", "app.post", "page", cwd=tmp_path, PGHOST="127.0.0.1", PGPORT="1")
        assert result.returncode == 0
        assert "Could not inspect the tables" in result.stderr
        text = (tmp_path / "walvec.toml").read_text()
        assert 'table = "app.post"' in text
        assert 'target = "public.page_embedding"' in text

    def test_keeps_what_is_there(self, tmp_path: Path) -> None:
        """Nobody's settings are overwritten unasked."""
        (tmp_path / "walvec.toml").write_text("# mine")
        result = walvec("init", cwd=tmp_path)
        assert (result.returncode, (tmp_path / "walvec.toml").read_text()) == (2, "# mine")
        assert "overwrite it with --force" in result.stderr

    def test_overwrites_when_told(self, tmp_path: Path) -> None:
        """--force is the word."""
        (tmp_path / "walvec.toml").write_text("# mine")
        assert walvec("init", "--force", cwd=tmp_path).returncode == 0
        assert "# mine" not in (tmp_path / "walvec.toml").read_text()

    def test_refuses_what_is_no_table_name(self, tmp_path: Path) -> None:
        """Before anything is written."""
        result = walvec("init", "a.b.c", cwd=tmp_path)
        assert (result.returncode, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.parametrize("command", ["setup", "run", "resync", "replay --slot copy"])
def test_nothing_to_follow_is_refused(tmp_path: Path, command: str) -> None:
    """A slot for no table would keep WAL back, so no database is asked for one."""
    (tmp_path / "walvec.toml").write_text('[embedder]\nprovider = "hashing"\n')
    result = walvec(*command.split(), cwd=tmp_path, WALVEC_SOURCE__DSN="host=127.0.0.1 port=1")
    assert result.returncode == 2
    assert "walvec init SCHEMA.TABLE" in result.stderr
