"""File work within a bound."""

from __future__ import annotations

import threading

import pytest
import trio

from agentd.errors import AuditError, DiskTimeout
from agentd.session.disk import on_disk

SECONDS = 10.0


async def test_what_the_work_gives_is_given() -> None:
    assert await on_disk(SECONDS, "/audit", int, "ff", base=16) == 255


async def test_what_the_work_raises_is_raised() -> None:
    def fail() -> None:
        raise AuditError("no space")

    with pytest.raises(AuditError, match="no space"):
        await on_disk(SECONDS, "/audit", fail)


async def test_a_disk_that_hangs_is_given_up_by_its_name() -> None:
    answers = threading.Event()
    try:
        with pytest.raises(DiskTimeout, match=r"^/audit has not answered for 0\.01 s$"):
            await on_disk(0.01, "/audit", answers.wait)
    finally:
        answers.set()


async def test_a_cancelled_caller_does_not_wait_for_the_disk() -> None:
    answers = threading.Event()
    try:
        with trio.fail_after(SECONDS), trio.move_on_after(0.01) as scope:
            await on_disk(SECONDS * 2, "/audit", answers.wait)
    finally:
        answers.set()
    assert scope.cancelled_caught
