"""Fixtures of every test; each `fix_*.py` beside this file holds those of one kind."""

# A module comes before those that import it, so that pytest rewrites its assertions.
from hypothesis import settings

# A busy machine is no fault of the code: no example has a time limit of its own.
settings.register_profile("walvec", deadline=None)
settings.load_profile("walvec")

pytest_plugins = (
    "tests.fix_embedding_service",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.oracle",
    "tests.fix_process",
    "tests.fix_sidecar",
)
