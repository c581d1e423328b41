"""The one list of preconditions, and what each command takes from it."""

from collections.abc import Awaitable
from contextlib import AsyncExitStack

from walvec.config.load import Config
from walvec.database.connect import connect_source, connect_target
from walvec.database.standbys import failover_findings
from walvec.vectorizer.binding import Binding
from walvec.vectorizer.preconditions.embedder_side import embedder_finding
from walvec.vectorizer.preconditions.questions import ask_catalog
from walvec.vectorizer.preconditions.records import Records, read_records, slot_findings
from walvec.vectorizer.preconditions.source_side import source_findings
from walvec.vectorizer.preconditions.target_side import pgvector_finding, server_finding, target_findings
from walvec_slots.errors import WalvecError
from walvec_slots.failover import failover_wanted
from walvec_slots.probe import Finding, probe_server, require
from walvec_slots.settle import Connection


async def examine(config: Config, *, offline: bool) -> list[Finding]:
    """Check every precondition; `offline` leaves out the embedding service."""
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        source = await _open(stack, "source", connect_source(config, role="check"), findings)
        target = await _open(stack, "target", connect_target(config, role="check"), findings)
        findings += await survey(config, source, target, hosts=True)
    findings.append(await embedder_finding(config, offline=offline))
    return findings


async def _open(
    stack: AsyncExitStack, subject: str, opening: Awaitable[Connection], findings: list[Finding]
) -> Connection | None:
    """Open a session; where that fails, add the finding and return None."""
    try:
        return await stack.enter_async_context(await opening)
    except WalvecError as error:
        findings.append(Finding.of(subject, error))
        return None


async def survey(
    config: Config,
    source: Connection | None,
    target: Connection | None,
    *,
    replaces_slot: bool = False,
    hosts: bool = False,
) -> list[Finding]:
    """Check both databases: what `check` reports, and `setup` and `resync` require.

    A database that cannot be reached is None. `replaces_slot`: the present slot will be dropped, so its place
    does not matter. `hosts`: the standbys in [source] dsn are inspected too.
    """
    findings = [] if config.vectorizers else [_nothing_to_do()]
    bindings: dict[str, Binding] = {}
    records, recorded = await read_records(target, config) if target else (Records(known=False), [])
    findings += recorded
    if source:
        slot = await slot_findings(config, source, records, replaced=replaces_slot) if records.known else []
        spoken_for = {finding.subject for finding in slot}
        looking = source_findings(config, source, records, bindings, replaces_slot=replaces_slot)
        found = [finding async for finding in looking]
        findings += [finding for finding in found if finding.subject not in spoken_for] + slot
        findings += await failover_findings(config, source, hosts=hosts)
    if target:
        findings += [finding async for finding in target_findings(config, target, records, bindings)]
    return findings


async def require_to_run(config: Config, source: Connection, target: Connection) -> None:
    """Raise the first precondition of `run` that fails, in few round trips.

    What concerns one vectorizer is raised where it is bound, by the same functions.
    """
    require([] if config.vectorizers else [_nothing_to_do()])
    require(await probe_server(source))
    failover_wanted(config.source.failover, source.info.server_version)
    server = await ask_catalog(target, "target_server")
    require([server_finding(server), pgvector_finding(await ask_catalog(target, "pgvector"), config)])


def _nothing_to_do() -> Finding:
    return Finding("settings", "failed", "There is no [[vectorizer]]", "walvec init SCHEMA.TABLE --output -")
