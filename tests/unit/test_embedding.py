"""What a program's own supervisor refuses before any session hears of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio

from agentd.embedding import EmbeddedSession
from agentd.errors import InvalidInvocation
from agentd.session.session import Session
from agentd.supervisor import Supervisor
from tests.unit.builders import SESSION


@pytest.mark.parametrize("grace", [-1.0, float("nan"), 86_401.0])
async def test_a_grace_that_is_none_stops_nothing(grace: float) -> None:
    async with trio.open_nursery() as helpers:
        session = cast(Session, SimpleNamespace(id=SESSION))
        embedded = EmbeddedSession(session, cast(Supervisor, None), helpers)
        with pytest.raises(InvalidInvocation, match="grace_seconds: "):
            await embedded.stop(grace=grace)
