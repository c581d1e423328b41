"""Try each mutant on a copy of the tree and count what tests see: `make mutants`.

    python -m tests.mutants             all of them
    python -m tests.mutants ack slots   those of a room, or with a name that begins so
    python -m tests.mutants --page      write the table of docs/architecture.md

Nothing of the checkout changes. The tests are first run on the copy as it is: a failure there proves nothing.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.fix_postgres import CHECKOUT, Cluster
from tests.mutants.catalogue import GUARANTEES, Misplaced, Mutant, load_mutants
from tests.mutants.page import write_table

TIME_LIMIT = 240.0  # seconds for one mutant's tests
TARGET = 0.95  # of the mutants, killed

_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.MULTILINE)

# hangs: killed too, by the time limit. broken: no test ran, so nothing is proven.
Verdict = Literal["killed", "hangs", "SURVIVED", "BROKEN"]


class Copy:
    """A copy of the tree, whose tests import the packages that lie in it."""

    def __init__(self, folder: Path) -> None:
        """Copy what git would commit; .venv and PostgreSQL are the checkout's."""
        self._folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (CHECKOUT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, folder / name)
        (folder / ".local").mkdir()
        for shared in (".venv", ".local/postgres", ".local/postgres.done"):
            (folder / shared).symlink_to(CHECKOUT / shared)
        if (known := CHECKOUT / ".hypothesis/unicode_data").is_dir():
            shutil.copytree(known, folder / ".hypothesis/unicode_data")
        self._server: Cluster | None = None
        self._age = time.time()

    def run(self, tests: Sequence[str], *, limit: float, stop_early: bool) -> tuple[int | None, str]:
        """Run tests; return pytest's exit code, None past the limit, and what it printed."""
        if self._server is None:
            self._server = Cluster(f"mutants-{os.getpid()}")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(str(self._folder / name) for name in ("consumer", "slots")),
            "WALVEC_TEST_DSN": self._server.dsn(),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        process = subprocess.Popen(
            [*command, *["-x"] * stop_early, *tests],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            return None, said
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, said

    def try_out(self, mutant: Mutant) -> Verdict:
        """Apply a mutant, run its tests, and take it back."""
        path = self._folder / mutant.file
        try:
            original = path.read_text(encoding="utf-8")
            changed = mutant.apply(original)
        except (FileNotFoundError, Misplaced) as error:
            print(error)
            return "BROKEN"
        self._write(path, changed)
        try:
            code, said = self.run(mutant.tests, limit=TIME_LIMIT, stop_early=True)
        finally:
            self._write(path, original)
        if code is None or "+++ Timeout +++" in said:
            self.forget_server()  # slots and sessions may be left in it
            return "hangs"
        if code not in {0, 1}:
            print(said)
            return "BROKEN"
        return "killed" if code else "SURVIVED"

    def forget_server(self) -> None:
        """Remove the tests' server; the next run makes another."""
        if self._server is not None:
            self._server.drop()
            self._server = None

    def _write(self, path: Path, text: str) -> None:
        """Write a source file.

        Its time differs from all before, so that no older bytecode is taken for it.
        """
        path.write_text(text, encoding="utf-8")
        self._age += 2
        os.utime(path, (self._age, self._age))


@contextmanager
def copied() -> Iterator[Copy]:
    """Give a copy of the tree, and remove it with all the servers that its tests left."""
    (CHECKOUT / ".local").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mutants-", dir=CHECKOUT / ".local") as folder:
        copy = Copy(Path(folder).resolve())
        try:
            yield copy
        finally:
            copy.forget_server()
            subprocess.run([Path(folder) / "compose/local/cluster.sh", "clean"], check=False)


def failing(copy: Copy, mutants: Sequence[Mutant]) -> set[str]:
    """Return the tests that fail on the tree as it is.

    These are all of them where pytest did not get to its end.
    """
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    print(f"{len(tests)} tests on the tree as it is", flush=True)
    code, said = copy.run(tests, limit=TIME_LIMIT * len(tests), stop_early=False)
    if code == 0:
        return set()
    print(said)
    named = {found[1] for found in _FAILED.finditer(said)}
    return named if code == 1 and named else set(tests)


def summary(verdicts: Sequence[tuple[Mutant, Verdict]]) -> str:
    """Return the table of killed and survived, by guarantee."""
    lines = ["", f"{'guarantee':34} {'killed':>7} {'survived':>9}"]
    killed: Counter[int] = Counter()
    survived: Counter[int] = Counter()
    for mutant, verdict in verdicts:
        (killed if verdict in {"killed", "hangs"} else survived)[mutant.guarantee] += 1
    lines += [
        f"{number}. {name:31} {killed[number]:7} {survived[number]:9}" for number, name in GUARANTEES.items()
    ]
    share = killed.total() / max(len(verdicts), 1)
    lines.append(f"{'all':34} {killed.total():7} {survived.total():9}   {share:.0%}")
    lines += [
        f"{verdict} {mutant.name}: {mutant.mistake}" for mutant, verdict in verdicts if verdict.isupper()
    ]
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Run the mutants that the words choose; return 0 where enough of them are killed."""
    if "--page" in words:
        write_table()
        return 0
    mutants = [
        mutant
        for mutant in load_mutants()
        if not words or any(word == mutant.room or mutant.name.startswith(word) for word in words)
    ]
    verdicts: list[tuple[Mutant, Verdict]] = []
    # Like an interrupt: what was made here is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with copied() as copy:
        useless = failing(copy, mutants)
        for mutant in mutants:
            began = time.monotonic()
            verdict: Verdict = "BROKEN" if useless.intersection(mutant.tests) else copy.try_out(mutant)
            verdicts.append((mutant, verdict))
            seconds = time.monotonic() - began
            print(f"{mutant.guarantee} {mutant.name:44} {verdict:9} {seconds:6.1f} s", flush=True)
    print(summary(verdicts))
    killed = sum(verdict in {"killed", "hangs"} for _, verdict in verdicts)
    return 0 if killed >= TARGET * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
