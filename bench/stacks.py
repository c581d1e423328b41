"""py-spy's stacks -> what share of walvec's CPU each stage of the pipeline has. Pure.

A sample counts for the stage of the innermost frame that is walvec's own: psycopg encoding rows for a COPY is
the write, and orjson at work on an answer is the embedding client. What serves several stages is passed over
on the way out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

START_UP, LOOP, OTHER = "start-up", "event loop", "everything else"

# A thread of a pool that waits for work: it takes no CPU, but py-spy cannot tell.
_WAITING = "_worker (concurrent/futures/thread.py"

_FRAME = re.compile(r"(?P<function>.*) \((?P<module>[^()]*?)\.py(?::\d+)?\)")

STAGES: Mapping[str, Sequence[str]] = {
    "read": ("slots/walsender", "slots/stream", "slots/protocol"),
    "decode": ("slots/wal2json", "slots/pgoutput", "slots/lsn"),
    "plan and order": (
        "consumer/route",
        "consumer/plan",
        "consumer/actions",
        "consumer/lane",
        "consumer/budget",
        "consumer/visibility",
        "consumer/prepare",
        "slots/ack",
    ),
    "chunk and hash": ("consumer/chunk",),
    "embed": ("consumer/batch",),
    "write": ("consumer/target", "consumer/write", "consumer/commit", "consumer/dead_letter"),
    "backfill": ("consumer/backfill", "consumer/index"),
    START_UP: (
        "consumer/attach",
        "consumer/admission",
        "consumer/continuity",
        "consumer/landmark",
        "consumer/bind",
        "consumer/config",
        "consumer/sections",
        "consumer/metadata",
        "consumer/logs",
        "slots/relation",
        "slots/publication",
        "slots/choice",
        "slots/probe",
    ),
}
PACKAGES: Mapping[str, str] = {"consumer/embed/": "embed"}

# Where a module serves several stages: by the beginning of the function's qualified name.
FUNCTIONS: Sequence[tuple[str, str, str]] = (
    ("consumer/target", "TargetTable.existing", "look-up"),
    ("consumer/evaluate", "Source.evaluate", "evaluate"),
    ("consumer/evaluate", "Source.by_key", "evaluate"),
    ("consumer/prepare", "Preparer._chunk", "chunk and hash"),
    ("consumer/prepare", "Preparer._embed", "embed"),
)

# Passed over: the stage is whoever calls them.
SHARED: Sequence[str] = (
    "consumer/cli",
    "consumer/database",
    "consumer/evaluate",
    "consumer/failpoint",
    "consumer/keys",
    "consumer/options",
    "consumer/pipeline",
    "consumer/policy",
    "consumer/session",
    "consumer/supervise",
)

_STAGE_OF = {module: stage for stage, modules in STAGES.items() for module in modules}


@dataclass(frozen=True, slots=True)
class Share:
    """A stage's share of the samples, 0 to 1."""

    stage: str
    own: float  # the stage is the innermost of walvec's own
    cumulative: float  # the stage is on the stack


def shares(lines: Iterable[str]) -> list[Share]:
    """Return every stage's share, the largest first; `lines` are py-spy's raw format: stack, space, count."""
    own: Counter[str] = Counter()
    anywhere: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(_WAITING):
            continue
        innermost = stage_of(frames)
        own[innermost] += int(count)
        anywhere.update(dict.fromkeys({innermost, *filter(None, map(_stage, frames))}, int(count)))
    total = own.total() or 1
    found = [Share(stage, own[stage] / total, count / total) for stage, count in anywhere.items()]
    return sorted(found, key=lambda share: (-share.own, -share.cumulative))


def stage_of(frames: Sequence[str]) -> str:
    """Return the stage that a stack, outermost frame first, is at work on."""
    if any("<frozen importlib" in frame for frame in frames):
        return START_UP
    for frame in reversed(frames):
        if stage := _stage(frame):
            return stage
    return LOOP if any("(asyncio/runners.py" in frame for frame in frames) else START_UP


def _stage(frame: str) -> str | None:
    parts = _FRAME.fullmatch(frame)
    if parts is None or not (module := parts["module"]).startswith(("consumer/", "slots/")):
        return None
    for place, function, stage in FUNCTIONS:
        if module == place and parts["function"].startswith(function):
            return stage
    for package, stage in PACKAGES.items():
        if module.startswith(package):
            return stage
    return None if module in SHARED else _STAGE_OF.get(module, OTHER)
