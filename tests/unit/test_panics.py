"""What a bug costs."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from agentd.panics import unfailing
from tests.unit.conftest import LogLines


@pytest.mark.contract("DMN-33")
async def test_work_that_stumbles_is_told_of_and_done_again(
    logged: LogLines, autojump_clock: MockClock
) -> None:
    stumbles = [ZeroDivisionError("one"), ExceptionGroup("", [KeyError("two")])]
    done = []

    async def work(word: str) -> None:
        if stumbles:
            raise stumbles.pop(0)
        done.append(word)

    await unfailing(work, "done")
    assert done == ["done"]
    assert [(line["event"], line["task"], line["error"]) for line in logged] == [
        ("agentd.task_panicked", "work", "ZeroDivisionError('one')"),
        ("agentd.task_panicked", "work", "KeyError('two')"),
    ]
