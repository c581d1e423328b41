"""Preconditions on the source: publication, tables and expressions.

`walvec_slots.probe` checks what the stream needs: WAL level, slot, plugin, replica identities. Here is what
the vectorizers need besides.
"""

from collections.abc import AsyncIterator
from typing import Final

from walvec.config.load import Config, Vectorizer
from walvec.vectorizer.bind import bind_to, resolve_expressions
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.creators import look_for_creators
from walvec.vectorizer.expressions import find_doubts
from walvec.vectorizer.preconditions.records import Records
from walvec_slots.errors import PreconditionFailed, WalvecError
from walvec_slots.probe import Finding, probe
from walvec_slots.publication import PublishAction, Published, find_publication, published
from walvec_slots.relation import describe
from walvec_slots.settle import Connection

_ALL_ACTIONS: Final[frozenset[PublishAction]] = frozenset({"insert", "update", "delete", "truncate"})


async def source_findings(
    config: Config,
    connection: Connection,
    records: Records,
    bindings: dict[str, Binding],
    *,
    replaces_slot: bool,
) -> AsyncIterator[Finding]:
    """Check the source, and add to `bindings` each vectorizer that can be bound."""
    source = config.source
    tables = list(dict.fromkeys(vectorizer.table for vectorizer in config.vectorizers))
    existing = await find_publication(connection, source.publication)
    maker = existing and records.ledger.maker("publication", source.publication, existing.oid)
    subject = f'publication "{source.publication}"'
    foreign = existing is not None and maker not in (None, source.slot)
    if foreign:
        yield Finding(
            subject,
            "failed",
            f'was made for slot "{maker}"',
            f'[source] publication = "{source.publication}_{source.slot}"',
        )
    findings = await probe(
        connection,
        slot=source.slot,
        plugin=source.plugin,
        publication=source.publication,
        tables=tables,
        own_publication=existing.oid if existing and maker == source.slot else None,
        replaces_slot=replaces_slot,
    )
    for finding in findings:
        if not (foreign and finding.subject == subject):
            yield finding
    for finding in await look_for_creators(connection, source.search_path):
        yield finding
    said = {finding.detail for finding in findings}
    for vectorizer in config.vectorizers:
        subject = f"vectorizer {vectorizer.name}"
        try:
            binding = await bind_before_setup(connection, vectorizer, source.publication)
        except WalvecError as error:
            if error.what not in said:
                yield Finding.of(subject, error)
        else:
            bindings[vectorizer.name] = binding
            key = ", ".join(binding.relation.key)
            yield Finding(subject, "ok", f"{vectorizer.table} by ({key}); its expressions are valid", None)
            for finding in await _doubt_findings(connection, vectorizer):
                yield finding


async def _doubt_findings(connection: Connection, vectorizer: Vectorizer) -> list[Finding]:
    """Warn of what the expressions are allowed to do and that could still surprise."""
    async with connection.transaction(force_rollback=True):
        await resolve_expressions(connection, local=True)
        doubts = await find_doubts(connection, vectorizer)
    return [
        Finding(f"expressions of {vectorizer.name}", "warning", doubt.what, doubt.hint) for doubt in doubts
    ]


async def bind_before_setup(connection: Connection, vectorizer: Vectorizer, publication: str) -> Binding:
    """Bind a vectorizer, before or after setup has published its table.

    A table that is not published yet counts as published whole.
    Raises PreconditionFailed, or ConfigInvalid where an expression is not valid or not a function of the row.
    """
    relation = await describe(connection, *vectorizer.table)
    try:
        listing = await published(connection, publication, relation)
    except PreconditionFailed:
        # `probe` has a finding for it.
        listing = Published(None, None, _ALL_ACTIONS, relation.leaves)
    return await bind_to(connection, vectorizer, relation, listing, publication)
