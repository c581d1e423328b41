"""py-spy's stacks -> what share of walvec's CPU each stage of the pipeline has. Pure.

A sample counts for the stage of the innermost frame that is walvec's own: psycopg encoding rows for a COPY is
the write, and orjson at work on an answer is the embedding client. What serves several stages is passed over
on the way out.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

START_UP, LOOP = "start-up", "event loop"

_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)")

# By module, or by module and function where a module serves two stages; the first that fits.
_STAGES = (
    (r"slots/(walsender|stream|protocol)", "", "read"),
    (r"slots/(wal2json|lsn)", "", "decode"),
    (r"consumer/evaluate", r"Source\.(evaluate|by_key)\b", "evaluate"),
    (r"consumer/evaluate", "", None),  # by_key's, or the backfill's
    (r"consumer/target", r"TargetTable\.existing\b", "look-up"),
    (r"consumer/target", "", "write"),
    (r"consumer/(write|commit|dead_letter|index)", "", "write"),
    (r"consumer/prepare", r"Preparer\._chunk", "chunk and hash"),
    (r"consumer/prepare", r"Preparer\._embed", "embed"),
    (r"consumer/chunk", "", "chunk and hash"),
    (r"consumer/(embed/.*|batch)", "", "embed"),
    (r"consumer/(prepare|plan|route|lane|actions|budget|visibility)|slots/ack", "", "plan and order"),
    (r"consumer/backfill", "", "backfill"),
    (r"consumer/(session|keys|policy|failpoint|database|pipeline|supervise|cli|options)", "", None),
    (r"consumer/(attach|agree|bind|config\w*|sections|metadata|environment|logs)", "", START_UP),
    (r"slots/(relation|publication|manage|probe)", "", START_UP),
    (r"(consumer|slots)/.*", "", "everything else"),
)
_PATTERNS = [(re.compile(file + r"\.py"), re.compile(function), stage) for file, function, stage in _STAGES]


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
        innermost = stage_of(frames)
        own[innermost] += int(count)
        anywhere.update(dict.fromkeys({innermost, *filter(None, map(_stage, frames))}, int(count)))
    total = own.total() or 1
    return [Share(stage, own[stage] / total, anywhere[stage] / total) for stage, _ in own.most_common()]


def stage_of(frames: list[str]) -> str:
    """Return the stage that a stack, outermost frame first, is at work on."""
    if any("<frozen importlib" in frame for frame in frames):
        return START_UP
    for frame in reversed(frames):
        if stage := _stage(frame):
            return stage
    return LOOP if any("(asyncio/runners.py" in frame for frame in frames) else START_UP


def _stage(frame: str) -> str | None:
    if (parts := _FRAME.fullmatch(frame)) is None:
        return None
    for file, function, stage in _PATTERNS:
        if file.fullmatch(parts["file"]) and function.search(parts["function"]):
            return stage
    return None
