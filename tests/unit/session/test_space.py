"""Watching the disk while sessions live; the disk is a stand-in that is full."""

from __future__ import annotations

import math
from collections.abc import ValuesView
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import wait_all_tasks_blocked
from trio_util import AsyncValue

from agentd import audit
from agentd.session import space
from agentd.session.session import Session
from agentd.session.space import watch_space
from tests.unit import builders
from tests.unit.session.fake_podman import FakePodman

SECONDS = 10.0


class Live(dict[str, Session]):
    """Says when somebody has asked who lives."""

    def __init__(self, session: Session) -> None:
        super().__init__({"it": session})
        self.asked = trio.Event()

    def values(self) -> ValuesView[Session]:  # type: ignore[override]
        self.asked.set()
        return super().values()


@pytest.mark.contract("F-60")
async def test_a_session_that_is_taken_up_on_a_full_disk_has_doubtful_output_from_the_first_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look after it would be too late, for a disk that has room again by then."""
    monkeypatch.setattr(space, "SPACE_SECONDS", math.inf)
    monkeypatch.setattr(audit, "is_full", lambda _root: True)
    session = Session.of(builders.admitted(), builders.WHOSE, tmp_path)
    engine = msgspec.structs.replace(FakePodman().engine(), audit_root=tmp_path)
    live, busy = Live(session), AsyncValue(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_space, engine, live, busy)
        await wait_all_tasks_blocked()
        busy.value = 1
        with trio.fail_after(SECONDS):
            await live.asked.wait()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert session.output_doubtful
