"""Shares of CPU by stage, from py-spy's stacks."""

from pathlib import Path

import pytest

from bench import stacks
from bench.stacks import Share, shares, stage_of

CHECKOUT = Path(__file__).parents[3]
LOOP = "main (walvec/cli/app.py:1);run (asyncio/runners.py:190);Handle._run (asyncio/events.py:80)"


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        (
            "read (walvec/pipeline.py:1);Decoder.decode (walvec_slots/wal2json.py:9);loads (json.py:1)",
            "decode",
        ),
        ("TargetTable.upsert (walvec/vectorizer/target.py);AsyncCopy.write_row (psycopg/copy.py:1)", "write"),
        (
            "TargetTable.held_hashes (walvec/vectorizer/target.py);Session.wait (walvec/database/silence.py)",
            "look-up",
        ),
        (
            (
                "SourceReader.evaluate_images (walvec/stages/evaluate.py:1);"
                "Session.wait (walvec/database/silence.py:40)"
            ),
            "evaluate",
        ),
        (
            "Backfill.run (walvec/stages/backfill.py:1);Reader.rows_after (walvec/stages/evaluate.py:1)",
            "backfill",
        ),
        (
            "Preparer._embed (walvec/stages/prepare.py:1);OpenAIEmbedder._post (walvec/embed/openai.py:7)",
            "embed",
        ),
        ("Preparer._cut_all.<locals>.<dictcomp> (walvec/stages/prepare.py:1)", "chunk and hash"),
        ("Pipeline.run (walvec/pipeline.py:1);Router.route (walvec/stages/route.py:1)", "plan and order"),
        ("EpollSelector.select (selectors.py:451)", stacks.LOOP),
        (
            "<module> (walvec/stages/plan.py:1);_find_and_load (<frozen importlib._bootstrap>:1)",
            stacks.START_UP,
        ),
    ],
)
def test_the_innermost_frame_that_is_walvecs_own_decides(frames: str, stage: str) -> None:
    """What it calls is its work; what serves several stages is passed over."""
    assert stage_of(f"{LOOP};{frames}".split(";")) == stage


def test_before_the_event_loop_runs_it_starts_up() -> None:
    """Reading the command line and the settings is no stage's work."""
    assert stage_of(["main (walvec/cli/app.py:1)", "loads (tomllib/_parser.py:1)"]) == stacks.START_UP


def test_shares_add_up() -> None:
    """Own shares add up to 1; a stage that calls another one has a cumulative share besides."""
    lines = [
        f"{LOOP};commit (walvec/stages/commit.py:1);TargetTable.upsert (walvec/vectorizer/target.py:1) 1",
        f"{LOOP};Preparer.__call__ (walvec/stages/prepare.py:1);ask (walvec/embed/dispatch.py:1) 3",
    ]
    assert shares(lines) == [
        Share("embed", 0.75, 0.75),
        Share("write", 0.25, 0.25),
        Share("plan and order", 0.0, 0.75),
    ]


def test_a_thread_that_waits_for_work_has_no_share() -> None:
    """Py-spy counts it as if it were at work."""
    waiting = "Thread.run (threading.py:982);_worker (concurrent/futures/thread.py:81)"
    lines = [
        f"{LOOP};commit (walvec/stages/commit.py:1);TargetTable.upsert (walvec/vectorizer/target.py:1) 1",
        f"{waiting} 9",
        f"{waiting};_WorkItem.run (concurrent/futures/thread.py:58);split (walvec/stages/chunk.py:1) 1",
    ]
    assert shares(lines) == [Share("write", 0.5, 0.5), Share("chunk and hash", 0.5, 0.5)]


def test_every_module_named_is_there() -> None:
    """One that is renamed would fall out of its stage unseen."""
    named = {*stacks.SHARED, *(module for modules in stacks.STAGES.values() for module in modules)}
    named |= {module for module, _, _ in stacks.FUNCTIONS}
    roots = [CHECKOUT / "consumer", CHECKOUT / "slots"]
    there = {module for module in named if any((root / f"{module}.py").exists() for root in roots)}
    assert named - there == set()
    assert all(any((root / package).is_dir() for root in roots) for package in stacks.PACKAGES)
    functions = {name.rpartition(".")[2] for _, name, _ in stacks.FUNCTIONS}
    source = "".join((roots[0] / f"{module}.py").read_text() for module, _, _ in stacks.FUNCTIONS)
    assert {name for name in functions if f"def {name}" not in source} == set()
