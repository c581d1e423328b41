"""Measures all parts, or those that are named, and writes docs/performance.md: python -m bench [PART …]."""

import sys
from importlib import import_module

from bench import page
from bench.lab import Lab
from bench.parts import names
from bench.report import BenchFailed, Record, guarded, run_part, say, show


def main() -> int:
    """Run the parts in order; return the exit code."""
    known = names()
    chosen = sys.argv[1:] or known
    if unknown := [name for name in chosen if name not in known]:
        raise BenchFailed(f"there is no part {unknown[0]}; there are {', '.join(known)}")
    with Lab() as lab:
        records = [record for name in chosen if (record := _measured(name, lab))]
        versions = lab.versions()
    if len(records) > 1:
        show(records)
    if lab.quick:
        say("QUICK=1 shows that all works; docs/performance.md is left as it is")
    else:
        page.write(versions)
    return 0 if len(records) == len(chosen) else 1


def _measured(name: str, lab: Lab) -> Record | None:
    """Measure one part; a failure is told, and the others are measured all the same."""
    try:
        return run_part(name, import_module(f"bench.{name}").measure, lab)
    except BenchFailed as failure:
        say(f"{name}: {failure}")
        return None


if __name__ == "__main__":
    sys.exit(guarded(main))
