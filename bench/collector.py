"""The garbage collector as `walvec run` sets it, for parts that use walvec's stages in their own process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from walvec.cli.app import COLLECTOR


@contextmanager
def as_walvec_has_it() -> Iterator[None]:
    """Set it for the length of a block."""
    before = gc.get_threshold()
    gc.set_threshold(*COLLECTOR)
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
