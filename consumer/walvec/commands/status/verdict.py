"""What a Report means, in one sentence: all is well, or what to fix and how. Pure.

The rules are in the order in which they matter. The first that applies is the verdict, the others are in
`also`. What may lose changes or fill a disk comes first, then what keeps everything waiting, then what
concerns one vectorizer or a few rows, then what passes by itself.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from walvec.commands.status.reading import Report, VectorizerStatus
from walvec.config.masking import printable
from walvec.stages.confirm import IDLE_BYTES
from walvec.stages.timing import TIMING
from walvec.units import byte_size, duration
from walvec_slots.lsn import Lsn
from walvec_slots.probe import Level

# Share of the WAL that the slot may retain, from which it is at risk.
AT_RISK = 0.8
# Bytes of WAL retained while little waits, from which another transaction must be the reason.
KEPT_WITHOUT_NEED = 2**30
# Seconds within which a healthy process saves its progress.
PROCESS_SILENT_AFTER = 30.0
# Seconds without progress after which /readyz fails too.
STALLED_LONG = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The sentence, and the same for programs.

    `remedy` is a command or a statement, if there is one; `also` names the other states that apply.
    """

    level: Level
    state: str
    text: str
    remedy: str | None = None
    also: tuple[str, ...] = ()


def unreadable(why: str) -> Verdict:
    """Return the verdict when the databases could not be read."""
    return Verdict("failed", "unreadable", f"{printable(why).rstrip('.')}, so the status is unknown.")


def judge(report: Report) -> Verdict:
    """Return the verdict on a report."""
    first, *others = _found(report)
    also = tuple(other.state for other in others if other.level != "ok")
    return Verdict(first.level, first.state, first.text, first.remedy, also)


def _found(report: Report) -> Iterator[Verdict]:
    """Yield every verdict that applies, the gravest first; the last always does."""
    for rule in _RULES:
        if verdict := rule(report):
            yield verdict
    longest = f"{TIMING.stall_after:.0f} seconds"
    yield Verdict("ok", "fine", f"All is well: no change has been waiting for longer than {longest}.")


def _source_away(report: Report) -> Verdict | None:
    if report.slot.exists is not None:
        return None
    text = "The source database cannot be reached; once it is back, `walvec run` continues by itself."
    return Verdict("failed", "source_away", text)


def _slot_lost(report: Report) -> Verdict | None:
    if report.slot.wal_status != "lost":
        return None
    text = "The slot is lost, and changes with it; run `walvec resync`, which embeds what differs."
    return Verdict("failed", "slot_lost", text, "walvec resync")


def _not_set_up(report: Report) -> Verdict | None:
    slot = report.slot
    if slot.checkpoint_lsn is not None:
        return None
    if report.vectorizers and slot.exists:
        text = f'Slot "{slot.name}" has no checkpoint in the target; run `walvec resync`.'
        return Verdict("failed", "no_checkpoint", text, "walvec resync")
    return Verdict(
        "failed", "not_set_up", f'Slot "{slot.name}" is not set up; run `walvec setup`.', "walvec setup"
    )


def _slot_missing(report: Report) -> Verdict | None:
    if report.slot.exists is not False or report.slot.checkpoint_lsn is None:
        return None
    text = f'Slot "{report.slot.name}" no longer exists; run `walvec resync`.'
    return Verdict("failed", "slot_missing", text, "walvec resync")


def _old_primary(report: Report) -> Verdict | None:
    if not report.slot.old_primary:
        return None
    text = "This is an old primary that came back after a failover; point [source] dsn to the present one."
    return Verdict("failed", "old_primary", text, "walvec check")


def _promoted(report: Report) -> Verdict | None:
    if not report.slot.promoted:
        return None
    text = "The source was promoted and has a copy of the slot; `walvec run` goes on with it or says why not."
    return Verdict("warning" if report.slot.writer else "failed", "promoted", text, "walvec run")


def _other_server(report: Report) -> Verdict | None:
    if report.slot.same_server is not False or report.slot.promoted:
        return None
    text = "The source was promoted, restored or replaced since the checkpoint; run `walvec resync`."
    return Verdict("failed", "other_server", text, "walvec resync")


def _checkpoint_ahead(report: Report) -> Verdict | None:
    slot = report.slot
    if not _after(slot.checkpoint_lsn, slot.source_lsn):
        return None
    text = "The checkpoint lies past the source's end, as after a restore; run `walvec resync`."
    return Verdict("failed", "checkpoint_ahead", text, "walvec resync")


def _slot_moved(report: Report) -> Verdict | None:
    slot = report.slot
    if not _after(slot.confirmed_lsn, slot.checkpoint_lsn):
        return None
    text = "Somebody else moved the slot past the checkpoint, so changes are missing; run `walvec resync`."
    return Verdict("failed", "slot_moved", text, "walvec resync")


def _standby_away(report: Report) -> Verdict | None:
    """Name the standby for which the server holds back the stream."""
    away = next((gap for gap in report.slot.failover_gaps if gap.holds_up), None)
    if away is None:
        return None
    text = f"{away.subject} {away.detail}; start the standby, or remove its name from the setting."
    level: Level = "failed" if (report.slot.lag_bytes or 0) >= IDLE_BYTES else "warning"
    return Verdict(level, "standby_away", text, away.remedy)


def _failover_gap(report: Report) -> Verdict | None:
    found = [gap for gap in report.slot.failover_gaps if not gap.holds_up]
    if not found:
        return None
    first = found[0]
    more = f" ({len(found) - 1} more: `walvec check`)" if len(found) > 1 else ""
    text = f"All is well until a failover: {first.subject} {first.detail}{more}."
    return Verdict("warning", "failover_gap", text, first.remedy)


def _slot_at_risk(report: Report) -> Verdict | None:
    slot = report.slot
    safe, kept = slot.safe_wal_bytes, slot.retained_bytes or 0
    unreserved = slot.wal_status == "unreserved"
    if not unreserved and (safe is None or kept < AT_RISK * (kept + safe)):
        return None
    after = "at the server's next checkpoint" if unreserved else f"after {byte_size(safe)} more WAL"
    act = "read its log to see what it waits for" if slot.writer else "start `walvec run`"
    text = f"The slot will be lost {after}; raise max_slot_wal_keep_size and {act} now."
    remedy = "ALTER SYSTEM SET max_slot_wal_keep_size = …; SELECT pg_reload_conf()"
    return Verdict("failed" if unreserved else "warning", "slot_at_risk", text, remedy)


def _foreign_reader(report: Report) -> Verdict | None:
    slot = report.slot
    if not slot.active or slot.writer:
        return None
    text = f"Process {slot.reader_pid} reads the slot but does not write to this target; stop it."
    return Verdict("failed", "foreign_reader", text, "walvec slots list")


def _not_running(report: Report) -> Verdict | None:
    slot = report.slot
    if slot.active or slot.writer:
        return None
    kept = f", and WAL is retained ({byte_size(slot.retained_bytes)} so far)" if slot.retained_bytes else ""
    text = f"No process is running, so changes are not embedded{kept}; start `walvec run`."
    return Verdict("failed", "not_running", text, "walvec run")


def _stalled(report: Report) -> Verdict | None:
    slot = report.slot
    if slot.stalled_seconds is None or not slot.waits_for:
        return None
    why = printable(slot.waits_for).rstrip(".")
    text = f"Rows have been waiting for {duration(slot.stalled_seconds)}: {why}."
    level: Level = "failed" if slot.stalled_seconds >= STALLED_LONG else "warning"
    return Verdict(level, "stalled", text, "walvec check")


def _starting(report: Report) -> Verdict | None:
    if report.slot.active or not report.slot.writer:
        return None
    holder = report.slot.holder or ""
    text = f"{holder[:1].upper()}{holder[1:]} holds the lock but reads no stream yet; check again soon."
    return Verdict("warning", "starting", text)


def _no_progress(report: Report) -> Verdict | None:
    """Find a process that neither saves progress nor says what it waits for."""
    slot = report.slot
    age, lag = slot.checkpoint_seconds or 0.0, slot.lag_bytes or 0
    if not slot.active or slot.stalled_seconds is not None or age < PROCESS_SILENT_AFTER or lag < IDLE_BYTES:
        return None
    text = (
        f"No progress has been saved for {duration(age)} and {byte_size(lag)} of WAL; read the log of "
        "`walvec run`: either the server decodes a large transaction, or the process hangs."
    )
    return Verdict("warning", "no_progress", text)


def _paused(report: Report) -> Verdict | None:
    paused = [vectorizer for vectorizer in report.vectorizers if vectorizer.paused]
    if not paused:
        return None
    who = f"{paused[0].name} is" if len(paused) == 1 else f"{paused[0].name} and {len(paused) - 1} more are"
    what = (paused[0].paused or "").rstrip(".")
    return Verdict("failed", "paused", f"{who} paused until this is fixed: {what}.", "walvec check")


def _dead_letters(report: Report) -> Verdict | None:
    parked = sum(vectorizer.dead_letters for vectorizer in report.vectorizers)
    if not parked:
        return None
    rows = "1 row is" if parked == 1 else f"{parked:,} rows are"
    retried = sum(vectorizer.dead_letters_retried for vectorizer in report.vectorizers)
    if retried == parked:
        alone = "it is retried automatically" if parked == 1 else "they are retried automatically"
        text = (
            f"Everything else is embedded, but {rows} parked; {alone}: `walvec dead-letter list` says when."
        )
    else:
        some = f" ({retried:,} of them retried automatically)" if retried else ""
        text = f"Everything else is embedded, but {rows} parked{some}; see why: `walvec dead-letter list`."
    return Verdict("warning", "dead_letters", text, "walvec dead-letter list")


def _wal_kept(report: Report) -> Verdict | None:
    slot = report.slot
    kept = slot.retained_bytes or 0
    if kept < KEPT_WITHOUT_NEED or kept < 2 * (slot.lag_bytes or 0):
        return None
    text = (
        f"The slot retains {byte_size(kept)} of WAL that walvec no longer needs, because of a transaction "
        "that stays open; look for it in pg_stat_activity."
    )
    remedy = "SELECT pid, xact_start FROM pg_stat_activity ORDER BY xact_start LIMIT 1"
    return Verdict("warning", "wal_kept", text, remedy)


def _nothing_followed(report: Report) -> Verdict | None:
    if report.vectorizers:
        return None
    text = (
        "Nothing is embedded, because there is no vectorizer; add a [[vectorizer]], then run `walvec setup`."
    )
    return Verdict("warning", "nothing_followed", text, "walvec setup")


def _backfilling(report: Report) -> Verdict | None:
    at_work = [
        vectorizer
        for vectorizer in report.vectorizers
        if vectorizer.phase != "done" and not vectorizer.paused
    ]
    if not at_work:
        return None
    first = at_work[0]
    more = f" and {len(at_work) - 1} more" if len(at_work) > 1 else ""
    text = f"Nothing to do: existing rows are being embedded ({first.name}{more}: {_progress_of(first)})."
    return Verdict("ok", "backfilling", text)


def _catching_up(report: Report) -> Verdict | None:
    slot = report.slot
    if slot.stalled_seconds is None:
        return None
    text = f"Nothing to do: changes are being embedded, the oldest for {duration(slot.stalled_seconds)}."
    return Verdict("ok", "catching_up", text)


def _progress_of(vectorizer: VectorizerStatus) -> str:
    if vectorizer.phase == "sweep":
        return "looking for rows that are gone"
    if vectorizer.phase == "index":
        return "building the index"
    if not vectorizer.rows_estimated:
        return f"{vectorizer.rows_done:,} rows so far"
    share = min(vectorizer.rows_done / vectorizer.rows_estimated, 0.99)
    left = f", {duration(vectorizer.seconds_left)} left" if vectorizer.seconds_left is not None else ""
    return f"{share:.0%}{left}"


def _after(lsn: str | None, other: str | None) -> bool:
    return lsn is not None and other is not None and Lsn.parse(lsn) > Lsn.parse(other)


_RULES: tuple[Callable[[Report], Verdict | None], ...] = (
    _source_away,
    _slot_lost,
    _not_set_up,
    _old_primary,
    _promoted,
    _other_server,
    _slot_missing,
    _checkpoint_ahead,
    _slot_moved,
    _slot_at_risk,
    _standby_away,
    _foreign_reader,
    _not_running,
    _stalled,
    _starting,
    _no_progress,
    _paused,
    _dead_letters,
    _wal_kept,
    _failover_gap,
    _nothing_followed,
    _backfilling,
    _catching_up,
)
