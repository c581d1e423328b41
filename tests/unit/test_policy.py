import psycopg
import pytest
from psycopg import errors

from walvec.database.connect import connection_error
from walvec.errors import CatalogChanged, ConfigInvalid
from walvec.policy import explain_failure, refusal_of, rule_for, worst
from walvec_slots.errors import ConnectionLost, MalformedMessage, PreconditionFailed
from walvec_slots.lsn import Lsn

# As libpq and psycopg say them.
AWAY = (
    'connection is bad: connection to server on socket "/tmp/.s.PGSQL.1" failed: No such file or directory\n'
    "\tIs the server running locally and accepting connections on that socket?"
)
SEVERAL = (
    'connection failed: connection to server at "10.0.0.2" failed: no\n'
    "Multiple connection attempts failed. All failures were:\n"
    "- host: 'a', port: '1', hostaddr: '10.0.0.1': connection failed: "
    'connection to server at "10.0.0.1" failed: refused\n'
    "\tIs the server running on that host and accepting TCP/IP connections?\n"
    "- host: 'b', port: '2', hostaddr: '10.0.0.2': connection failed: "
    'connection to server at "10.0.0.2" failed: no'
)


class TestConnectionError:
    """A connection that cannot be made is explained in one line."""

    def test_a_server_that_is_away(self) -> None:
        """The message has what failed, and not libpq's question."""
        error = connection_error("source", psycopg.OperationalError(AWAY), "source")
        assert isinstance(error, ConnectionLost)
        assert error.what == (
            'The source database cannot be reached: connection to server on socket "/tmp/.s.PGSQL.1" failed: '
            "No such file or directory"
        )

    def test_several_servers(self) -> None:
        """The message names each of them, in one line."""
        error = connection_error("target", psycopg.OperationalError(SEVERAL), "target")
        assert error.what == (
            'The target database cannot be reached: connection to server at "10.0.0.1" failed: refused; '
            'connection to server at "10.0.0.2" failed: no'
        )

    @pytest.mark.parametrize(
        "words",
        [
            'FATAL:  password authentication failed for user "walvec"',
            'FATAL:  database "nowhere" does not exist',
            'FATAL:  role "walvec" is not permitted to log in',
            "server does not support SSL, but SSL was required",
            "SSL error: certificate verify failed",
        ],
    )
    def test_a_server_that_refuses(self, words: str) -> None:
        """A refusal is a precondition, because waiting does not help."""
        failure = psycopg.OperationalError(f"connection failed: x failed: {words}")
        error = connection_error("target", failure, "source")
        assert isinstance(error, PreconditionFailed)
        assert error.hint == "check [source] dsn"
        assert error.what == f"The target database refuses the connection: x failed: {words}"


class TestWorst:
    """One failure of a group decides."""

    def test_one_that_must_stop(self) -> None:
        """The one that stops the process decides, however deep it lies."""
        fatal = ConfigInvalid("no")
        group = ExceptionGroup("", [CatalogChanged("x"), ExceptionGroup("", [OSError(), fatal])])
        assert worst(group) is fatal


class TestExplain:
    """A failure is explained without anything of a row."""

    def test_our_own(self) -> None:
        """Errors of walvec are shown as they are."""
        error = ConfigInvalid("no")
        assert explain_failure(error) is error

    def test_our_own_without_a_hint_gets_the_rule_s(self) -> None:
        """The hint of the table comes with a new error, and the old one stays as it is."""
        error = MalformedMessage("is not of wal2json's format 2", lsn=Lsn(1))
        shown = explain_failure(error)
        assert isinstance(shown, MalformedMessage)
        assert (shown.what, shown.lsn, error.hint) == (error.what, Lsn(1), None)
        assert "walvec resync" in (shown.hint or "")

    def test_what_passes_gets_none(self) -> None:
        """A hint about waiting is of no use once the process ends."""
        shown = explain_failure(ConnectionLost("no"))
        assert shown
        assert shown.hint is None

    def test_what_may_quote_a_row_is_not_shown(self) -> None:
        """PostgreSQL quotes values: `invalid input syntax for type integer: "the row's text"`."""
        assert explain_failure(errors.InvalidTextRepresentation("the row's text")) is None

    @pytest.mark.parametrize("kind", [errors.InternalError_, errors.FeatureNotSupported])
    def test_what_may_quote_a_row_and_passes(self, kind: type[psycopg.Error]) -> None:
        """The message has the kind of error, and the hint what is done about it."""
        assert rule_for(kind()).verdict == "retry"
        shown = explain_failure(kind("the row's text"))
        assert shown is not None
        assert shown.hint == rule_for(kind()).hint
        assert "the row's text" not in str(shown)

    @pytest.mark.parametrize("kind", [errors.UndefinedTable, errors.InsufficientPrivilege])
    def test_a_precondition(self, kind: type[psycopg.Error]) -> None:
        """An object or right that is missing is a precondition, which is exit code 3."""
        assert isinstance(explain_failure(kind()), PreconditionFailed)

    @pytest.mark.parametrize("kind", [errors.DiskFull, errors.LockNotAvailable, errors.AdminShutdown])
    def test_what_passes(self, kind: type[psycopg.Error]) -> None:
        """It is exit code 1, with what is in the way."""
        shown = explain_failure(kind())
        assert shown is not None
        assert (shown.exit_code, shown.hint) == (1, rule_for(kind()).hint)

    def test_a_broken_connection(self) -> None:
        """The library reports it without an SQLSTATE."""
        assert isinstance(
            explain_failure(psycopg.OperationalError("server closed the connection")), ConnectionLost
        )

    def test_a_constraint_of_the_users_own(self) -> None:
        """The message has its name, and not the row that it refuses."""
        shown = explain_failure(errors.CheckViolation("the row's text"))
        assert shown is not None
        assert "the row's text" not in str(shown)

    def test_a_fault_of_ours(self) -> None:
        """A defect of walvec has no explanation; its words are for the traceback."""
        assert explain_failure(ValueError("the row's text")) is None


@pytest.mark.parametrize("kind", [errors.InvalidTextRepresentation, errors.CheckViolation])
def test_a_dead_letter_does_not_quote_the_row(kind: type[psycopg.Error]) -> None:
    """It tells the kind of the target's refusal, and not the words, which quote the row."""
    error_class, why = refusal_of(kind("the row's text"))
    assert "the row's text" not in why
    assert error_class == f"{kind.__name__} ({kind.sqlstate})"
