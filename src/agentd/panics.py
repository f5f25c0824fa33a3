"""What becomes of a bug: it is told, and costs what it touches and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVarTuple

import trio

from .errors import leaves
from .logs import log

PANIC_SECONDS: Final = 30.0
"""After a bug, how long its work rests: it may come again at once."""

_Args = TypeVarTuple("_Args")


def told(bug: BaseException) -> str:
    """What is wrong, in one line for whoever mends it; of a group each plain error."""
    return "; ".join(repr(leaf) for leaf in leaves(bug))


async def unfailing(work: Callable[[*_Args], Awaitable[None]], *args: *_Args) -> None:
    """Await `work`; what raises is logged and done again a little later, and ends nothing else."""
    while True:
        try:
            return await work(*args)
        except Exception as bug:  # noqa: BLE001
            log.error("agentd.task_panicked", task=getattr(work, "__name__", "?"), error=told(bug))
        await trio.sleep(PANIC_SECONDS)
