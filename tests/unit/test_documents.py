"""What README.md and docs/ show can be typed.

Every block is read here, and tests/integration/test_documents.py runs most of them.

A block that this test does not know fails. Its language, or its program, needs a rule below; a line that
cannot be checked at all stands in UNCHECKED, with the reason.
"""

import configparser
import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import typer
import yaml

from tests.documents import Block, Command, blocks, commands, inline_commands
from tests.fix_postgres import CHECKOUT
from walvec.cli.app import app
from walvec.config.load import Config

SHELL = ("sh", "bash", "console")
LOOKED_AT = ("text",)  # pictures, output, layouts: nothing to type
RUN = ("sql",)  # by tests/integration/test_documents.py

# Programs of vendors, on their own pages only: nothing here can tell whether their words are right.
VENDORS = ("aws", "az", "gcloud", "neonctl", "psql", "supabase")

# Program -> why nothing is checked of its lines but the files they name.
UNCHECKED = {
    "helm": "needs a cluster; the chart is rendered nowhere here",
    "curl": "needs a server; the paths are held by test_health.py",
    "promtool": "is no part of the environment; the rules are tested where it is there",
    "pg_upgrade": "PostgreSQL's own",
    "sed": "the file it reads has to be there",
    "chmod": "the file it changes is the reader's",
    "journalctl": "needs systemd",
    "export": "sets a variable",
    "cd": "a folder of the reader's",
    "git": "the repository's address is the reader's",
    "python": "runs what its page shows",
}

FOLDERS = ("bench/", "compose/", "consumer/", "docs/", "slots/", "sql/", "tests/")
FILES = ("requirements.lock", "requirements-dev.lock", "pyproject.toml", "Makefile")


def in_checkout(words: tuple[str, ...]) -> list[str]:
    """The words that name something in the checkout, --option=FILE and host:guest mounts taken apart."""
    parts = [part for word in words for part in re.split(r"[=:]", word)]
    return [part for part in parts if part.startswith(FOLDERS) or part in FILES]


def leaf(words: tuple[str, ...]) -> tuple[Any, list[str]]:
    """Follow `walvec dead-letter list blog` to its command; also return what follows it."""
    found: Any = typer.main.get_command(app)
    rest = list(words[1:])
    while rest and hasattr(found, "commands"):
        if rest[0].startswith("-"):
            break
        assert rest[0] in found.commands, f"there is no `walvec {' '.join(words[1:])}`"
        found = found.commands[rest.pop(0)]
    return found, rest


def check_walvec(words: tuple[str, ...]) -> None:
    """The command exists, and so does each of its options."""
    command, rest = leaf(words)
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {
        "--help",
        "-h",
    }
    given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert given <= known, f"`{' '.join(words)}`: there is no {given - known}"


def check_make(words: tuple[str, ...]) -> None:
    """The targets exist, and the variables are read."""
    makefile = (CHECKOUT / "Makefile").read_text()
    for word in words[1:]:
        name, is_variable, _ = word.partition("=")
        pattern = rf"\$\(({name}|(if|or) \$\({name}\))" if is_variable else rf"^{name}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"the Makefile knows no {word}"


def check_psql(words: tuple[str, ...]) -> None:
    """The file exists, and the variables are those it reads."""
    if "-f" not in words:
        return
    text = (CHECKOUT / words[words.index("-f") + 1]).read_text()
    code = re.sub(r"--.*", "", text)
    read = set(re.findall(r"(?<!:):['\"]?([a-z]+)\b", code))
    given = {words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "-v"}
    assert given == read, f"the file reads {read}"


def check_docker(words: tuple[str, ...]) -> None:
    """A Dockerfile or compose file that is named is there; `compose` has a file."""
    assert words[1] in {"build", "run", "compose", "exec", "logs", "stop"}, (
        f"is `docker {words[1]}` a command?"
    )
    assert words[1] != "compose" or in_checkout(words), "which compose file?"


def check_kubectl(words: tuple[str, ...]) -> None:
    """Files are there; what is waited for, scaled or looked at is in one of them."""
    manifests = "\n".join(path.read_text() for path in (CHECKOUT / "compose/kubernetes").glob("*.yaml"))
    kinds = r"(?:deployment|deploy|job|pod|secret|configmap)"
    for name in re.findall(rf"\b{kinds}[ /]([a-z][a-z-]*)", " ".join(words)):
        if name not in {"generic", "walvec-resync"}:  # a word of kubectl; what a line makes of another file
            assert f"name: {name}\n" in manifests, f"no manifest has the name {name}"


def check_systemctl(words: tuple[str, ...]) -> None:
    """The unit is one of ours."""
    name = words[-1] if words[-1].endswith(".timer") else f"{words[-1].removesuffix('.service')}.service"
    assert (CHECKOUT / "compose/systemd" / name).exists()


def check_pip(words: tuple[str, ...]) -> None:
    """It installs this checkout, or from its locks."""
    named = {word.partition("[")[0] for word in words}
    assert {".", "walvec"} & named or in_checkout(words)


def check_install(words: tuple[str, ...]) -> None:
    """What is copied is there, or is the reader's walvec.toml."""
    if "-d" not in words:
        assert in_checkout(words) or {"walvec.toml", "/dev/null"} & set(words)


def check_venv(words: tuple[str, ...]) -> None:
    """Only `python3 -m venv`, or a module of ours."""
    assert words[1] == "-m"
    assert words[2] == "venv" or (CHECKOUT / words[2].replace(".", "/")).exists()


RULES: dict[str, Callable[[tuple[str, ...]], None]] = {
    "walvec": check_walvec,
    "make": check_make,
    "psql": check_psql,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "systemctl": check_systemctl,
    "pip": check_pip,
    "install": check_install,
    "python3": check_venv,
}


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_is_of_a_known_kind(block: Block) -> None:
    """Shell, SQL, TOML and the like are checked; what is only looked at is called text."""
    known = {*SHELL, *LOOKED_AT, *RUN, *PARSERS}
    assert block.language in known, (
        f"{block}: write one of {sorted(known)} behind the three backticks (text for what nobody types), or "
        "give the language a parser in PARSERS here"
    )


@pytest.mark.parametrize(
    "command", [each for block in blocks() if block.language in SHELL for each in commands(block)], ids=str
)
def test_every_command_line_is_right(command: Command) -> None:
    """Programs of ours have the commands and options that are shown; files that are named are there."""
    program = command.program
    if command.block.page.startswith("docs/providers/") and program in VENDORS:
        return
    missing = [path for path in in_checkout(command.words) if not (CHECKOUT / path).exists()]
    assert not missing, f"{command}: not in the checkout: {missing}"
    if program in RULES:
        RULES[program](command.words)
        return
    assert program in UNCHECKED, (
        f"{command}: give {program} a rule in RULES here, or put it into UNCHECKED with the reason; a "
        "vendor's program belongs into VENDORS and on a page under docs/providers/"
    )


@pytest.mark.parametrize(("page", "words"), sorted(set(inline_commands())), ids=str)
def test_every_command_in_prose_exists(page: str, words: tuple[str, ...]) -> None:
    """`walvec backfill NAME` in a sentence is as good as in a block."""
    if not {"…", "..."} & set(words):
        check_walvec(words)


def check_toml(block: Block) -> None:
    """Settings that load; a service's own file is named so by its page."""
    Config(**tomllib.loads(block.text))


def check_ini(block: Block) -> None:
    """A unit file, say."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # documented way to keep the case
    parser.read_string(block.text)
    assert parser.sections()


def check_python(block: Block) -> None:
    """It compiles."""
    compile(block.text, str(block), "exec")


PARSERS: dict[str, Callable[[Block], object]] = {
    "toml": check_toml,
    "ini": check_ini,
    "python": check_python,
    "json": lambda block: json.loads(block.text),
    "yaml": lambda block: list(yaml.safe_load_all(block.text)),
}


@pytest.mark.parametrize("block", [block for block in blocks() if block.language in PARSERS], ids=str)
def test_every_file_parses(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are loaded by walvec itself."""
    for name in ("WALVEC_SOURCE__DSN", "WALVEC_VECTORIZER"):
        monkeypatch.delenv(name, raising=False)
    PARSERS[block.language](block)


@pytest.mark.parametrize(
    "line",
    [
        "walvec serach blog x",
        "walvec search blog x --limt 3",
        "walvec dead-letter forget blog",
        "make dmo",
        "make demo KEEEP=1",
        "psql -d app -f sql/roles/source.sql -v role=walvec",
        "systemctl start walvecd",
        "kubectl wait job/nobody",
    ],
)
def test_a_line_that_is_wrong_fails(line: str) -> None:
    """The rules see what they are there for."""
    words = tuple(line.split())
    with pytest.raises(AssertionError):
        RULES[words[0]](words)


def test_command_lines_are_taken_apart() -> None:
    """Comments, variables, pipes and continued lines are no words of a command."""
    text = "A=1 /opt/bin/walvec run --once  # now\nsed -e 's/a|b/c/' x | kubectl apply \\\n    -f -\n"
    found = [each.words for each in commands(Block("p", 1, "sh", text))]
    assert found == [
        ("/opt/bin/walvec", "run", "--once"),
        ("sed", "-e", "s/a|b/c/", "x"),
        ("kubectl", "apply", "-f", "-"),
    ]
