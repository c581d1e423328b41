"""Sessions are opened side by side, and one that never begins to open leaves nothing behind."""

import asyncio
import gc
from contextlib import AsyncExitStack
from typing import Any, cast

import pytest

from walvec.attach import enter_session
from walvec.config.load import Config
from walvec.database.silence import PATIENCE, Patience
from walvec_slots.settle import Connection


async def test_session_that_never_begins_to_open_is_no_unawaited_coroutine() -> None:
    """Where the attachment fails before a session's turn has come, nothing was made for it."""
    connected: list[str] = []

    async def connect(config: Config, *, role: str, patience: Patience) -> Connection:
        connected.append(role)
        return cast("Connection", None)

    async def fail() -> None:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as opening:
            opening.create_task(enter_session(stack, connect, cast("Any", None), "evaluate", PATIENCE))
            raise ConnectionError

    with pytest.raises(ExceptionGroup):
        await fail()
    gc.collect()
    assert connected == []
