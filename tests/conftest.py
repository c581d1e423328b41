"""Fixtures of every test; each `fix_*.py` beside this file holds those of one kind."""

from hypothesis import HealthCheck, settings

# A busy machine is no fault of the code: no example has a time limit of its own. And the first text that is
# drawn makes Hypothesis build its table of Unicode, which takes seconds there.
settings.register_profile("walvec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("walvec")

# A module comes before those that import it, so that pytest rewrites its assertions.
pytest_plugins = (
    "tests.fix_embedding_service",
    "tests.fix_lacks",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.oracle",
    "tests.fix_process",
    "tests.fix_sidecar",
)
