"""The catalogue of log events: name, level and meaning of each.

A call site logs an event by its name, `_log.info("backfill.started", …)`; a test checks that every call in
the tree names an event of the catalogue, at its level, and that nothing in the catalogue is never logged. The
table in docs/operations/log.md is made from it (`make docs`).

It stands below all rooms that log, so that each of them, and the tests, may use what is declared here.
"""

from dataclasses import dataclass
from typing import Final, Literal

EventLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One kind of log line.

    `meaning` is Markdown: what happened, and what to do about it.
    """

    name: str
    level: EventLevel
    meaning: str


# The one event whose line looks different on a terminal.
BATCH_COMMITTED: Final = LogEvent(
    "batch.committed", "info", "every commit; [its fields](#the-line-of-a-batch)"
)

EVENTS: Final = (
    LogEvent(
        "stream.attached",
        "info",
        "changes are followed: the slot, the checkpoint, how many vectorizers follow it and how many are "
        "paused",
    ),
    BATCH_COMMITTED,
    LogEvent("run.stopping", "info", "SIGTERM or SIGINT; a second signal ends the process at once"),
    LogEvent("run.stopped", "info", "stopped in order"),
    LogEvent(
        "run.stopped_early",
        "warning",
        "25 s were not enough to finish what was in flight; nothing is lost, the slot sends it again",
    ),
    LogEvent(
        "stream.reattaching", "info", "something changed on which the stages rest (`why`); nothing to do"
    ),
    LogEvent(
        "stream.retrying",
        "warning",
        "an attachment failed for a temporary reason (`what`); the line says how long walvec waits, and for "
        "what",
    ),
    LogEvent(
        "stream.skipping_applied",
        "info",
        "the slot begins before the checkpoint, usually by a few bytes after a crash, because the server "
        "had not saved the confirmation. If `passed_over_bytes` is in the thousands, somebody put an older "
        "slot in its place. That applies nothing again: use [`walvec replay`](recovery.md#replay)",
    ),
    LogEvent(
        "stream.promoted",
        "warning",
        "the source was promoted and has a copy of the slot; walvec goes on with it and compares all rows. "
        "Nothing to do; see [failover slots](recovery.md#failover-slots)",
    ),
    LogEvent(
        "plugin.warning",
        "warning",
        "the output plugin left something out. wal2json: usually changes of a table without a replica "
        "identity. pgoutput from PostgreSQL 18 on: changes made while the publication did not exist, after "
        "which all rows are compared",
    ),
    LogEvent(
        "slot.waiting",
        "info",
        "standing by for the session in `holder`, usually another walvec; nothing to do. If that session is "
        "not yours to keep, end it there: `SELECT pg_terminate_backend(pid)`",
    ),
    LogEvent(
        "slot.waiting_for_own_session",
        "info",
        "the connection broke and the server still has the old session (`holder`); nothing to do",
    ),
    LogEvent(
        "slot.lock_ignored",
        "warning",
        "a role that may only connect took the advisory lock; `holder` names it, and nothing waits for it",
    ),
    LogEvent(
        "slot.retains_wal",
        "warning",
        "the slot keeps back 1 GiB of WAL or more; repeated at each doubling, and when the server is about "
        "to give up the slot. `walvec status` shows who is behind",
    ),
    LogEvent("backfill.started", "info", "walvec reads all rows of a vectorizer"),
    LogEvent("backfill.finished", "info", "it has read them and built its index"),
    LogEvent(
        "backfill.restarted",
        "warning",
        "all rows are compared again, because the table or its publication changed: a rewrite, another "
        "filter, or the end of a pause. Only what differs is embedded",
    ),
    LogEvent("index.building", "info", "the vector index is being built; writes go on"),
    LogEvent("index.built", "info", "the vector index is complete"),
    LogEvent(
        "vectorizer.paused",
        "error",
        "it cannot follow its table, and its vectors stay as they are; `what` and `hint` say why and how to "
        "fix it. See [a vectorizer is paused](changes.md#a-vectorizer-is-paused)",
    ),
    LogEvent(
        "vectorizer.unconfigured",
        "warning",
        "a vectorizer is no longer in the settings; its target stays and follows no changes. Drop the "
        "target when you no longer need it",
    ),
    LogEvent(
        "lane.shed",
        "warning",
        "a vectorizer holds up the others: for 30 s its service or its target has accepted nothing, and the "
        "byte budget is used up. Its changes stay with the slot and are read again later. Fix the service "
        "or the target",
    ),
    LogEvent(
        "embedder.waiting",
        "warning",
        "the service fails; at most one line in 10 s, with the error's class and hint. Fix the service, the "
        "key or the settings; only settings need a restart",
    ),
    LogEvent("embedder.recovered", "info", "the service answers again"),
    LogEvent(
        "embedder.limit_learned",
        "info",
        "the service takes less in one request than configured. walvec obeys, and tries more after many "
        "answers. Lower `max_batch_inputs` or `max_batch_tokens` to avoid the first refusal",
    ),
    LogEvent(
        "statement.retried",
        "warning",
        "a write is retried on the same session: a lock, a deadlock, a full disk, a read-only target",
    ),
    LogEvent(
        "session.refused",
        "warning",
        "the target has no room for more sessions (`what`), so batches wait for one of the `open` ones. "
        "Lower `[pipeline] writers`, or raise `max_connections`",
    ),
    LogEvent(
        "statement.held_up",
        "warning",
        "for a second a statement has been waiting. Another session asked the server for what: a lock and "
        "its holder, or a synchronous standby that is down (`SyncRep`). Repeated every minute; `/readyz` "
        "and `walvec status` report it from 3 s on",
    ),
    LogEvent(
        "session.silent",
        "warning",
        "a statement had no answer for 30 s, and a second session got none either or heard that the server "
        "is idle: the network drops packets. walvec attaches again",
    ),
    LogEvent(
        "read.waiting_for_visibility",
        "warning",
        "commits that were decoded are not visible yet: they wait for a synchronous standby that is down, "
        "and reads wait with them",
    ),
    LogEvent(
        "read.waiting_for_transactions",
        "warning",
        "with pgoutput, a table that joined the publication is read once the transactions open at that "
        "moment have ended. `transactions` has the oldest of them. End those that are forgotten",
    ),
    LogEvent("http.listening", "info", "where the probes and metrics are: `host` and `port`"),
    LogEvent(
        "http.port_in_use",
        "warning",
        "another process listens there, for example the walvec for which this one stands by; walvec retries "
        "every second",
    ),
    LogEvent(
        "http.cannot_listen",
        "error",
        "while waiting for the port walvec met another obstacle, which `what` names; it keeps trying. The "
        "work is not affected",
    ),
    LogEvent(
        "http.request_failed",
        "warning",
        "an answer could not be written: a fault in walvec, report it. The work is not affected",
    ),
    LogEvent("tracing.started", "info", "variables of OpenTelemetry turned it on: [tracing](#tracing)"),
    LogEvent(
        "tracing.unavailable",
        "warning",
        "`walvec[otel]` is not installed (`what` names the package), or the SDK refuses the value of a "
        "variable. The work is not affected",
    ),
    LogEvent(
        "config.exposed",
        "warning",
        "`walvec.toml` holds a password and every user may read it: `chmod o-r`",
    ),
)
