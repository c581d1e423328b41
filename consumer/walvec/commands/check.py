"""`walvec check`: prints every precondition, what fails last, and the next step."""

from collections import Counter
from pathlib import Path

from rich.text import Text

from walvec.commands.output import print_json, terminal
from walvec.config.exposure import find_exposure
from walvec.config.load import Config
from walvec.observe.visible import visible
from walvec.vectorizer.preconditions import examine
from walvec_slots.probe import Finding

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


async def report_check(config: Config, path: Path | None, *, offline: bool, as_json: bool) -> bool:
    """Print the findings and return whether none failed; `path` is the settings file."""
    findings = await examine(config, offline=offline)
    if finding := find_exposure(path):
        findings.append(finding)
    good = all(finding.level != "failed" for finding in findings)
    if as_json:
        print_json({"ok": good, "findings": [_document(finding) for finding in findings]})
    else:
        _print(findings)
    return good


def _document(finding: Finding) -> dict[str, object]:
    return {name: getattr(finding, name) for name in ("subject", "level", "detail", "remedy")}


def _print(findings: list[Finding]) -> None:
    """Print a line for each finding, its remedy below it on one line, ready to copy."""
    console = terminal(soft_wrap=True)
    width = max(len(finding.subject) for finding in findings)
    # What needs attention comes last, where the terminal shows it.
    for finding in sorted(findings, key=lambda finding: list(_STYLES).index(finding.level)):
        level = Text(f"{finding.level:<8}", style=_STYLES[finding.level])
        console.print(Text.assemble(level, visible(f" {finding.subject:<{width}}  {finding.detail}")))
        if finding.remedy and finding.level != "ok":
            console.print(Text(f"{'':<9}{visible(finding.remedy)}", style="cyan"))
    counts = Counter[str](finding.level for finding in findings)
    console.print(", ".join(f"{counts[level]} {level}" for level in _STYLES if counts[level]))
    console.print(_next_step(counts))


def _next_step(counts: Counter[str]) -> str:
    """Say what to do after reading the findings."""
    if counts["failed"]:
        return "Fix what failed, then check again: walvec check"
    return "Next: walvec setup (safe to repeat), then: walvec run"
