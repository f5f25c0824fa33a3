"""What is let through of many occurrences of the same."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from agentd.daemon.seldom import Seldom


async def test_one_in_so_many_seconds_with_the_count_of_those_between(
    autojump_clock: MockClock,
) -> None:
    seldom = Seldom(60)
    assert [seldom.take() for _ in range(3)] == [1, 0, 0]
    await trio.sleep(59)
    assert seldom.take() == 0
    await trio.sleep(1)
    assert [seldom.take(), seldom.take()] == [4, 0]
