"""What is said to keep work in flight from getting done."""

from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest
from psycopg import errors

from walvec.embed.dispatch import Dispatcher
from walvec.embed.service import Failure
from walvec.stages.obstacles import Obstacles


def obstacles(failure: Failure | None = None) -> Obstacles:
    """Return the obstacles beside a service that fails in this way; `secret` is what may not be shown."""
    dispatcher: Any = SimpleNamespace(failure=failure)
    return Obstacles(cast("Dispatcher", dispatcher), lambda text: text.replace("secret", "***"))


def test_nothing_is_in_the_way() -> None:
    """Work that takes its time has no reason."""
    assert obstacles().reason() is None


def test_a_service_that_fails() -> None:
    """Its failure and the hint are given, without secrets."""
    reason = obstacles(Failure("key secret is refused", "set another", monotonic())).reason()
    assert reason is not None
    assert "key *** is refused" in reason
    assert "set another" in reason


@pytest.mark.parametrize(("since", "is_said"), [(10.0, True), (1.0, False)])
def test_a_failure_counts_once_it_has_lasted(since: float, *, is_said: bool) -> None:
    """A service that has just begun to fail may be well again in a moment."""
    failure = Failure("away", None, monotonic() - since)
    assert (obstacles(failure).reason(5.0) is not None) == is_said


def test_a_write_that_fails_until_one_succeeds() -> None:
    """The kind of error is given, and nothing that may quote a row."""
    found = obstacles()
    found.note_write(errors.CheckViolation("the row's text"))
    reason = found.reason()
    assert reason is not None
    assert "CheckViolation" in reason
    assert "the row's text" not in reason
    found.note_write(None)
    assert found.reason() is None
