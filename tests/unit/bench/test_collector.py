"""The garbage collector of the parts that run walvec's stages."""

import gc

from bench.collector import as_walvec_has_it
from walvec.cli.app import COLLECTOR


def test_it_is_set_as_the_command_sets_it() -> None:
    """For the length of the block; what is measured is what runs."""
    before = gc.get_threshold()
    with as_walvec_has_it():
        assert gc.get_threshold() == COLLECTOR
    assert gc.get_threshold() == before
