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
    "read": ("walvec_slots/walsender", "walvec_slots/stream", "walvec_slots/protocol"),
    "decode": ("walvec_slots/wal2json", "walvec_slots/pgoutput", "walvec_slots/lsn"),
    "plan and order": (
        "walvec/stages/route",
        "walvec/stages/plan",
        "walvec/stages/actions",
        "walvec/stages/intake",
        "walvec/stages/lane",
        "walvec/stages/segment",
        "walvec/stages/memory",
        "walvec/stages/visibility",
        "walvec/stages/prepare",
        "walvec/stages/compare",
        "walvec_slots/ack",
    ),
    "chunk and hash": ("walvec/stages/chunk",),
    "embed": ("walvec/embed/pack",),
    "write": (
        "walvec/vectorizer/target",
        "walvec/stages/write",
        "walvec/stages/batch",
        "walvec/stages/commit",
        "walvec/stages/confirm",
        "walvec/stages/parking",
    ),
    "backfill": ("walvec/stages/backfill", "walvec/vectorizer/vector_index"),
    START_UP: (
        "walvec/attach",
        "walvec/vectorizer/admission",
        "walvec/database/continuity",
        "walvec/stages/landmark",
        "walvec/vectorizer/bind",
        "walvec/vectorizer/source_sql",
        "walvec/config/load",
        "walvec/config/sections",
        "walvec/database/registry",
        "walvec/observe/logs",
        "walvec_slots/relation",
        "walvec_slots/publication",
        "walvec_slots/choice",
        "walvec_slots/probe",
    ),
}
PACKAGES: Mapping[str, str] = {"walvec/embed/": "embed"}

# Where a module serves several stages: by the beginning of the function's qualified name.
FUNCTIONS: Sequence[tuple[str, str, str]] = (
    ("walvec/vectorizer/target", "TargetTable.held_hashes", "look-up"),
    ("walvec/stages/evaluate", "SourceReader.evaluate_images", "evaluate"),
    ("walvec/stages/evaluate", "SourceReader.rows_by_key", "evaluate"),
    ("walvec/stages/prepare", "Preparer._cut", "chunk and hash"),
    ("walvec/stages/prepare", "Preparer._embed", "embed"),
)

# Passed over: the stage is whoever calls them.
SHARED: Sequence[str] = (
    "walvec/cli/app",
    "walvec/database/connect",
    "walvec/stages/evaluate",
    "walvec/failpoint",
    "walvec/database/keys",
    "walvec/cli/options",
    "walvec/pipeline",
    "walvec/policy",
    "walvec/database/silence",
    "walvec/supervise",
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
    if parts is None or not (module := parts["module"]).startswith(("walvec/", "walvec_slots/")):
        return None
    for place, function, stage in FUNCTIONS:
        if module == place and parts["function"].startswith(function):
            return stage
    for package, stage in PACKAGES.items():
        if module.startswith(package):
            return stage
    return None if module in SHARED else _STAGE_OF.get(module, OTHER)
