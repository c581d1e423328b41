"""What to do about a failure: try again, or stop and say why. One table for all of them.

A failure of a single row never comes here: it is parked on its way (`prepare`). A failing embedding service
does not either: `embed.dispatch` waits for it without end.
"""

from dataclasses import dataclass
from typing import Literal

import psycopg
import stamina
import structlog

from walvec.errors import CatalogChanged, EpochEnded, EvaluationFailed, LaneBehind, WalvecError
from walvec_slots.errors import ConnectionLost, MalformedMessage, PreconditionFailed, SlotActive

Decision = Literal["again", "retry", "stop"]  # again: at once; retry: after a wait


_log = structlog.get_logger(__name__)

_GRAVITY: dict[Decision, int] = {"again": 0, "retry": 1, "stop": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do about a kind of failure, and what to tell the operator while it lasts."""

    verdict: Decision
    hint: str | None = None


# The first class that fits decides. Retrying means: attach anew, from the checkpoint.
_ERRORS: tuple[tuple[type[BaseException], Rule], ...] = (
    (ConnectionLost, Rule("retry", "waiting for the server; nothing is lost, the slot keeps the changes")),
    (SlotActive, Rule("retry", "another process holds the slot; this one takes over when it lets go")),
    (CatalogChanged, Rule("again")),
    (LaneBehind, Rule("again")),
    (EpochEnded, Rule("again")),
    (
        MalformedMessage,
        Rule("stop", "report this with the LSN; `walvec resync` gets past it, and compares all rows"),
    ),
    (EvaluationFailed, Rule("retry")),
    (WalvecError, Rule("stop")),
    (OSError, Rule("retry")),
)

_IN_PLACE = {"40001", "40P01", "55P03", "25006", "53100"}

# SQLSTATEs, by class or in full, the longest first. What is not here is a fault of ours: stop and show it.
_SQLSTATES: dict[str, Rule] = {
    "08": Rule("retry", "the connection broke"),
    "57": Rule("retry", "the server ended the session or is starting up"),
    "53100": Rule("retry", "the disk of the server is full: make room"),
    "53": Rule("retry", "the server is short of memory, disk or connections"),
    "58": Rule("retry", "the server's file system fails"),
    "40": Rule("retry", "another transaction was in the way"),
    "55P03": Rule("retry", "somebody holds a lock on the target table: look at pg_locks"),
    "55006": Rule("retry", "an object is in use"),
    "25006": Rule("retry", "the database is read-only: a standby, or default_transaction_read_only"),
    "23502": Rule("retry", "the target was changed by somebody else; the batch is prepared again"),
    "0A000": Rule("retry", "a table changed under a prepared statement, which is prepared anew"),
    "42P01": Rule("retry", "a table is gone; it is looked up again"),
    "42703": Rule("retry", "a column is gone; it is looked up again"),
    "42704": Rule("retry", "a type or another object is gone; it is looked up again"),
    "XX000": Rule(
        "retry",
        "as a rule an object went while it was looked at, and is looked up again; if this stays, read the "
        "server's log",
    ),
    "42501": Rule("stop", "walvec's role lacks a right; `walvec check` says which"),
}


def rule_for(error: BaseException) -> Rule:
    """Return what to do about a failure."""
    if isinstance(error, psycopg.Error):
        return _rule_for_sqlstate(error)
    return next((rule for kind, rule in _ERRORS if isinstance(error, kind)), Rule("stop"))


def _rule_for_sqlstate(error: psycopg.Error) -> Rule:
    state = error.sqlstate
    if state is None:  # libpq's own: the connection is gone
        return (
            Rule("retry", "the connection broke")
            if isinstance(error, psycopg.OperationalError)
            else Rule("stop")
        )
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) or Rule("stop")


def worst(error: BaseException) -> BaseException:
    """Return what decides of a group of failures: one that must stop, one to wait for, or else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return max(map(worst, error.exceptions), key=lambda member: _GRAVITY[rule_for(member).verdict])


# SQLSTATE classes whose messages name objects, rights and states. Those of others may quote a row.
_SPEAKABLE = {"08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
_CONSTRAINT = "23"
_PRECONDITIONS = {"25", "28", "3D", "3F", "42"}


def explain_failure(error: BaseException) -> WalvecError | None:
    """Return the error a user is shown for a failure that ends a command; None for one that is a fault of
    ours.
    """
    rule = rule_for(error)
    if isinstance(error, WalvecError):
        lacks_hint = rule.verdict == "stop" and rule.hint is not None and error.hint is None
        return WalvecError(error.what, hint=rule.hint) if lacks_hint else error
    if not isinstance(error, psycopg.Error):
        return None
    hint, state = rule.hint, error.sqlstate
    if state is None:
        broke = isinstance(error, psycopg.OperationalError)
        return ConnectionLost("the connection to a database broke") if broke else None
    if state.startswith(_CONSTRAINT):
        constraint = error.diag.constraint_name or type(error).__name__
        what = f"the target table refuses what is written: {constraint} (SQLSTATE {state})"
        return WalvecError(what, hint=hint or "the target has to take every row: drop the constraint")
    if state[:2] not in _SPEAKABLE:
        name = type(error).__name__.rstrip("_")
        return WalvecError(f"the database reports {name} (SQLSTATE {state})", hint=hint) if hint else None
    kind = PreconditionFailed if state[:2] in _PRECONDITIONS else WalvecError
    said = error.diag.message_primary or type(error).__name__
    return kind(f"the database says: {said} (SQLSTATE {state})", hint=hint)


# SQLSTATE classes by which the target refuses what one row has: data, a constraint, a limit (of an index's
# entry, say), something that is not supported, a privilege that depends on the row.
_REFUSALS = {"22", "23", "54", "0A", "2B"}


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the target may refuse a single row, so that the rest of its batch can be written.

    Not where a vector is gone that was to be kept: then somebody else has changed the target.
    """
    gone = isinstance(error, psycopg.errors.NotNullViolation) and error.diag.column_name == "embedding"
    return (error.sqlstate or "")[:2] in _REFUSALS and not gone


def is_of_another_type(error: psycopg.Error) -> bool:
    """Whether a value is none of the type that it was to have."""
    return (error.sqlstate or "")[:2] == "22"


def refusal_of(error: psycopg.Error) -> tuple[str, str]:
    """Return the class of the target's refusal of a row, and why, without what may quote the row."""
    error_class, why = f"{type(error).__name__} ({error.sqlstate})", "the target table refuses the row"
    if constraint := error.diag.constraint_name:
        return error_class, f"{why} by {constraint}"
    if (error.sqlstate or "")[:2] in _SPEAKABLE:
        return error_class, f"{why}: {error.diag.message_primary}"
    return error_class, why


def _passes_in_place(error: Exception) -> bool:
    """Whether a statement may be tried again on the same session: something was in the way. Says so."""
    if not isinstance(error, psycopg.Error) or error.sqlstate not in _IN_PLACE:
        return False
    _log.warning("tried again", what=type(error).__name__, hint=rule_for(error).hint)
    return True


# Calls a function of the target again and again while something is in its way, and lets other lanes go on
# meanwhile.
in_place = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_initial=0.1, wait_max=10.0).on(
    _passes_in_place
)
