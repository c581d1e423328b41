"""Everything that must hold before walvec can work; checking it changes nothing.

There is one list for all. `check` prints every finding (`examine`), `setup`, `resync` and `replay` raise the
first that fails (`survey`), and `run` raises those that it can ask for quickly (`require_to_run`), beside
what it finds as it binds the vectorizers.

In reading order:

    examine        the list itself, and who takes what from it
    records        what earlier setups left in the target, and whether the slot fits it
    source_side    publication, tables and expressions; `walvec_slots.probe` has the server's own
    target_side    the target database, pgvector, schemas and target tables
    embedder_side  the embedding service
    questions      how these ask the catalog and write out a remedy

What `walvec setup` will create is no failure where it is missing. What stops setup or run is a failure, and
comes with the statement that fixes it.
"""

from walvec.vectorizer.preconditions.examine import examine, require_to_run, survey
from walvec.vectorizer.preconditions.source_side import bind_before_setup

__all__ = ["bind_before_setup", "examine", "require_to_run", "survey"]
