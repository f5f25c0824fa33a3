"""Two signals: the first drains, the second forces, and a third ends the process at once.

SIGUSR1 hands over instead, also during a drain: sessions that run are left to the next daemon. It
forces nothing, however often it comes. A client may take the part of the first signal.

SIGHUP is none of these, and never ends the process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from ..errors import EXIT_FAILURE, AgentdError, ShutdownForced
from ..logs import log

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

FLUSH_SECONDS = 0.5
"""What a process that ends at once gives its log's last lines."""


class Shutdown:
    """How far the end of the daemon has come."""

    def __init__(self) -> None:
        self.draining = trio.Event()
        """Set by the first signal, or for a client: take nothing new in, and end when the last
        session has."""
        self.forced = trio.Event()
        """Set by the second signal: sessions are killed."""
        self.leaving = trio.Event()
        """Set when the daemon does not wait for its sessions: the next one takes them up."""
        self.serving = False
        """Before the daemon has sessions, there is nothing to drain: the first signal ends it."""
        self.complete = trio.Event()
        """Set when no session is left."""

        self.fault: AgentdError | None = None
        """Why the daemon ends, when nobody asked it to."""

    def fail(self, fault: AgentdError) -> None:
        """Drain, because the daemon cannot take anything in any more."""
        log.error("agentd.daemon_failed", error_code=fault.code, error=fault.message)
        self.fault = fault
        self.begin("failure", leave=False)

    def begin(self, by: str, *, leave: bool) -> None:
        """Drain, or hand over, because a signal or a client asks for it.

        A drain can become a hand-over and not the other way round; what is asked again does not
        count.
        """
        if (self.leaving if leave else self.draining).is_set():
            return
        log.info("agentd.shutdown_started", by=by, leave=leave)
        if leave:
            self.leaving.set()
        self.draining.set()


def hold_hangups() -> None:
    """Let a SIGHUP wait until somebody receives it; one that comes too late for that is lost."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Linux keeps a blocked signal, also an ignored one, until it is unblocked, signal(7).
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


@contextmanager
def receiving_hangups() -> Iterator[AsyncIterator[int]]:
    """Gives the SIGHUPs that come while inside, those that were held before among them."""
    with trio.open_signal_receiver(signal.SIGHUP) as received:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        yield received


@asynccontextmanager
async def obeying_signals(grace_seconds: Callable[[], float]) -> AsyncIterator[Shutdown]:
    """Answer SIGINT, SIGTERM and SIGUSR1, in any mixture, while inside.

    The second cancels the body. A body that has not unwound when the grace is over, because a
    thread hangs on a disk, is cut short with the process: a thread obeys no cancel scope.

    Raises:
        ShutdownForced: the body was cancelled by a signal.
    """
    shutdown = Shutdown()
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as body:  # noqa: ASYNC100 - the body is the caller's
                nursery.start_soon(_obey, signals, shutdown, body, grace_seconds)  # noqa: ASYNC111
                yield shutdown
            nursery.cancel_scope.cancel()
    if body.cancelled_caught and shutdown.forced.is_set():
        raise ShutdownForced("agentd was forced down; sessions that lived were killed")


async def _obey(
    signals: AsyncIterator[int],
    shutdown: Shutdown,
    body: trio.CancelScope,
    grace_seconds: Callable[[], float],
) -> None:
    async for number in signals:
        leave = number == signal.SIGUSR1
        second = shutdown.draining.is_set() and not leave
        shutdown.begin(signal.Signals(number).name, leave=leave)
        if second:
            shutdown.forced.set()
            log.warning("agentd.shutdown_forced", signal=signal.Signals(number).name)
        if second or not shutdown.serving:
            break
    body.cancel()
    with trio.move_on_after(grace_seconds()):
        await anext(signals)
    log.flush(FLUSH_SECONDS)
    os._exit(EXIT_FAILURE)
