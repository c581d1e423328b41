"""What to do about a failure: try again, or stop and say why.

There is one table for all failures but two kinds. A row that fails is parked on its way (`prepare`), and a
failing embedding service is waited for without end (`embed.dispatch`).
"""

from dataclasses import dataclass
from typing import Literal

import psycopg
import stamina
import structlog

from walvec.errors import CatalogChanged, EpochEnded, EvaluationFailed, LaneBehind, WalvecError
from walvec_slots.errors import ConnectionLost, MalformedMessage, PreconditionFailed, SlotActive

# again: attach at once; retry: attach after a wait; stop: end the process.
Decision = Literal["again", "retry", "stop"]

_log = structlog.get_logger(__name__)

_GRAVITY: dict[Decision, int] = {"again": 0, "retry": 1, "stop": 2}


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do about a kind of failure, and what to say while it lasts."""

    verdict: Decision
    hint: str | None = None


# The first class that fits decides. Retrying means to attach again, from the checkpoint.
_ERRORS: tuple[tuple[type[BaseException], Rule], ...] = (
    (ConnectionLost, Rule("retry", "waiting for the server; nothing is lost, the slot keeps the changes")),
    (SlotActive, Rule("retry", "another process holds the slot; this one takes over when it lets go")),
    (CatalogChanged, Rule("again")),
    (LaneBehind, Rule("again")),
    (EpochEnded, Rule("again")),
    (
        MalformedMessage,
        Rule("stop", "report this with the LSN; `walvec resync` skips it and compares all rows"),
    ),
    (EvaluationFailed, Rule("retry")),
    (WalvecError, Rule("stop")),
    (OSError, Rule("retry")),
)

# SQLSTATEs of what passes while the session stays.
_IN_PLACE = {"40001", "40P01", "55P03", "25006", "53100"}

# SQLSTATEs, in full or by class; one in full decides before its class. What is missing here is a defect of
# walvec: stop and show it.
_SQLSTATES: dict[str, Rule] = {
    "08": Rule("retry", "the connection broke"),
    "57": Rule("retry", "the server ended the session or is starting up"),
    "53100": Rule("retry", "the disk of the server is full: make room"),
    "53": Rule("retry", "the server is short of memory, disk or connections"),
    "58": Rule("retry", "the server's file system fails"),
    "40": Rule("retry", "another transaction was in the way"),
    "55P03": Rule("retry", "another session holds a lock on the target table; see pg_locks"),
    "55006": Rule("retry", "an object is in use"),
    "25006": Rule("retry", "the database is read-only: a standby, or default_transaction_read_only"),
    "23502": Rule("retry", "the target was changed by somebody else; the batch is prepared again"),
    "0A000": Rule("retry", "a table changed under a prepared statement, which is prepared again"),
    "42P01": Rule("retry", "a table is gone; it is looked up again"),
    "42703": Rule("retry", "a column is gone; it is looked up again"),
    "42704": Rule("retry", "a type or another object is gone; it is looked up again"),
    "XX000": Rule(
        "retry",
        "usually an object was dropped while it was read, and is looked up again; if this stays, read the "
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
    if state is None:
        # The error is of libpq: the connection is gone.
        return (
            Rule("retry", "the connection broke")
            if isinstance(error, psycopg.OperationalError)
            else Rule("stop")
        )
    return _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) or Rule("stop")


def worst(error: BaseException) -> BaseException:
    """Return the gravest error of a group; of equally grave ones, the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return max(map(worst, error.exceptions), key=lambda member: _GRAVITY[rule_for(member).verdict])


# SQLSTATE classes whose messages name objects, rights and states. Those of others may quote a row.
_SPEAKABLE = {"08", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58"}
_CONSTRAINT = "23"
_PRECONDITIONS = {"25", "28", "3D", "3F", "42"}


def explain_failure(error: BaseException) -> WalvecError | None:
    """Return the error that a user is shown for a failure that ends a command.

    None for a defect of walvec, which is shown with its traceback.
    """
    rule = rule_for(error)
    if isinstance(error, WalvecError):
        return _with_hint(error, rule.hint) if rule.verdict == "stop" else error
    if not isinstance(error, psycopg.Error):
        return None
    hint, state = rule.hint, error.sqlstate
    if state is None:
        broke = isinstance(error, psycopg.OperationalError)
        return ConnectionLost("The connection to a database broke") if broke else None
    if state.startswith(_CONSTRAINT):
        constraint = error.diag.constraint_name or type(error).__name__
        what = f"The target table refuses what is written: {constraint} (SQLSTATE {state})"
        return WalvecError(what, hint=hint or "the target has to take every row: drop the constraint")
    if state[:2] not in _SPEAKABLE:
        name = type(error).__name__.rstrip("_")
        return WalvecError(f"The database reports {name} (SQLSTATE {state})", hint=hint) if hint else None
    kind = PreconditionFailed if state[:2] in _PRECONDITIONS else WalvecError
    said = error.diag.message_primary or type(error).__name__
    return kind(f"The database says: {said} (SQLSTATE {state})", hint=hint)


def _with_hint(error: WalvecError, hint: str | None) -> WalvecError:
    """Return the error, or one like it that has the hint where it has none."""
    if error.hint or not hint:
        return error
    kind = type(error)
    shown = kind.__new__(kind, *error.args)
    vars(shown).update(vars(error), hint=hint)
    return shown.with_traceback(error.__traceback__)


# SQLSTATE classes that the values of one row can cause: data, a constraint, a limit (as of an index's entry).
_OF_ONE_ROW = {"22", "23", "54"}

# Besides these, the target may say that something is not supported, or that a privilege depends on the row.
_REFUSALS = _OF_ONE_ROW | {"0A", "2B"}

# Besides these, a function that an expression calls may raise an error.
_RAISED = _OF_ONE_ROW | {"38", "39", "P0"}


def is_row_failure(error: psycopg.Error) -> bool:
    """Whether an expression may fail on a single row.

    So may a function that lacks a right, which depends on the row.
    """
    return (error.sqlstate or "")[:2] in _RAISED or isinstance(error, psycopg.errors.InsufficientPrivilege)


def is_refusal(error: psycopg.Error) -> bool:
    """Whether the target may refuse a single row, so that the others can be written.

    It does not where a vector is gone that was to be kept: then another session has changed the target.
    """
    gone = isinstance(error, psycopg.errors.NotNullViolation) and error.diag.column_name == "embedding"
    return (error.sqlstate or "")[:2] in _REFUSALS and not gone


def is_of_another_type(error: psycopg.Error) -> bool:
    """Whether a value is not of the type that it should have."""
    return (error.sqlstate or "")[:2] == "22"


def refusal_of(error: psycopg.Error) -> tuple[str, str]:
    """Return the class of the target's refusal of a row, and why.

    Words that may quote the row are left out.
    """
    error_class, why = f"{type(error).__name__} ({error.sqlstate})", "the target table refuses the row"
    if constraint := error.diag.constraint_name:
        return error_class, f"{why} by {constraint}"
    if (error.sqlstate or "")[:2] in _SPEAKABLE:
        return error_class, f"{why}: {error.diag.message_primary}"
    return error_class, why


def _passes_in_place(error: Exception) -> bool:
    """Whether a statement may be tried again on the same session; log why."""
    if not isinstance(error, psycopg.Error) or error.sqlstate not in _IN_PLACE:
        return False
    _log.warning("statement.retried", what=type(error).__name__, hint=rule_for(error).hint)
    return True


# Calls a function of the target again while something is in its way. Other lanes go on in between.
retry_in_place = stamina.AsyncRetryingCaller(attempts=None, timeout=None, wait_initial=0.1, wait_max=10.0).on(
    _passes_in_place
)
