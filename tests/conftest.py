"""Fixtures of every test; each `fix_*.py` beside this file holds those of one kind."""

pytest_plugins = (
    "tests.fix_embedding_service",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.fix_walvec",
)
