"""Fixtures of every test; each `fix_*.py` beside this file holds those of one kind."""

# A module comes before those that import it, so that pytest rewrites its assertions.
pytest_plugins = (
    "tests.fix_embedding_service",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.oracle",
    "tests.fix_process",
    "tests.fix_sidecar",
)
