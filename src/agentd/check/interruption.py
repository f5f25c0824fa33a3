"""Ending at a signal with everything cleaned up."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio


async def interruptible(work: Callable[[], Awaitable[None]]) -> int | None:
    """Do `work`; SIGINT or SIGTERM cancels it, and no second one hurries its cleaning up.

    Gives the number of the signal, or None when the work came to its end. What the work raises
    comes in a group.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        received: int | None = None

        async def cancel_at_signal() -> None:
            nonlocal received
            async for number in signals:
                received = number
                nursery.cancel_scope.cancel()
                return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_at_signal)
            await work()
            nursery.cancel_scope.cancel()
        return received
