"""The garbage collector of the parts that run walvec's stages."""

import gc
from pathlib import Path

from bench.collector import THRESHOLDS, as_walvec_has_it

COMMAND = Path(__file__).parents[3] / "consumer/cli.py"


def test_it_is_set_as_the_command_sets_it() -> None:
    """For the length of the block; what is measured is what runs."""
    before = gc.get_threshold()
    with as_walvec_has_it():
        assert gc.get_threshold() == THRESHOLDS
    assert gc.get_threshold() == before
    numbers = ", ".join(f"{number:_}" for number in THRESHOLDS)
    assert f"gc.set_threshold({numbers})" in COMMAND.read_text(encoding="utf-8")
