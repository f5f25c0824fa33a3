"""Taking connections while descriptors are short; the listener is a fake that says so."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from agentd.daemon.accepting import RETRY_SECONDS, SILENT_SECONDS, accept_connections
from agentd.errors import AgentdError

Stream = trio.SocketStream


class Listener(trio.abc.Listener[Stream]):
    """Gives what it was made with, and then nothing for ever."""

    def __init__(self, results: Sequence[OSError | Stream]) -> None:
        self._results = list(results)
        self.closed = False

    async def accept(self) -> Stream:
        await trio.lowlevel.checkpoint()
        if not self._results:
            await trio.sleep_forever()
        result = self._results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


def connection() -> Stream:
    ours, theirs = trio.socket.socketpair()
    ours.close()
    return trio.SocketStream(theirs)


def short(number: int) -> OSError:
    return OSError(number, "short")


def unexpected(fault: AgentdError) -> None:
    raise fault


async def served(
    listener: Listener, seconds: float, fail: Callable[[AgentdError], None] = unexpected
) -> list[Stream]:
    streams: list[Stream] = []

    async def handle(stream: Stream) -> None:
        async with stream:
            streams.append(stream)

    async with trio.open_nursery() as handlers, trio.open_nursery() as accepting:
        await accepting.start(accept_connections, listener, handle, handlers, fail)
        await trio.sleep(seconds)
        accepting.cancel_scope.cancel()
    return streams


@pytest.mark.contract("F-20", "DMN-23")
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_connections_are_taken_again_once_there_is_room(
    number: int, autojump_clock: trio.testing.MockClock, logged: list[dict[str, Any]]
) -> None:
    listener = Listener([*[short(number)] * 5, connection()])
    assert len(await served(listener, 6 * RETRY_SECONDS)) == 1


@pytest.mark.contract("DMN-27", "DMN-34")
async def test_the_end_of_it_leaves_the_listener_to_whoever_removes_its_file() -> None:
    listener = Listener([])
    await served(listener, 0)
    assert not listener.closed


@pytest.mark.contract("F-20")
async def test_that_connections_wait_is_said_once(
    autojump_clock: trio.testing.MockClock, logged: list[dict[str, Any]]
) -> None:
    # With a connection now and then, as it is at the edge.
    waves = [(short(errno.EMFILE), short(errno.EMFILE), connection()) for _ in range(20)]
    await served(Listener([each for wave in waves for each in wave]), SILENT_SECONDS / 2)
    assert [(line["event"], line["error"]) for line in logged] == [
        ("agentd.connections_wait", "Too many open files")
    ]


async def test_that_connections_wait_is_said_again_after_a_while(
    autojump_clock: trio.testing.MockClock, logged: list[dict[str, Any]]
) -> None:
    await served(Listener([short(errno.EMFILE)] * 10_000), SILENT_SECONDS * 1.5)
    assert len(list(logged)) == 2


@pytest.mark.contract("DMN-31")
async def test_a_socket_that_does_not_work_any_more_is_told_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    listener, faults = Listener([short(errno.EBADF), short(errno.EBADF)]), list[AgentdError]()
    assert await served(listener, SILENT_SECONDS, faults.append) == []
    assert [fault.code for fault in faults] == ["intake_failed"]
