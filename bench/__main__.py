"""Measures all parts, or those that are named, and writes docs/performance.md: python -m bench [PART …]."""

import sys
from importlib import import_module

from bench import page
from bench.lab import Lab
from bench.parts import names
from bench.report import BenchFailed, guarded, run_part, say, show


def main() -> int:
    """Run the parts in order; return the exit code."""
    known = names()
    chosen = sys.argv[1:] or known
    if unknown := [name for name in chosen if name not in known]:
        raise BenchFailed(f"there is no part {unknown[0]}; there are {', '.join(known)}")
    with Lab() as lab:
        records = [run_part(name, import_module(f"bench.{name}").measure, lab) for name in chosen]
        versions = lab.versions()
    show(records)
    if lab.quick:
        say("QUICK=1 shows that all works; docs/performance.md is left as it is")
    else:
        page.write(versions)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
