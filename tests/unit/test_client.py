"""The client's end of the daemon's socket, against a daemon that says what a test tells it to."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio
import trio.testing

import agentd
from agentd import exchange, wire
from agentd.errors import (
    AgentdError,
    ConnectionLost,
    DaemonUnreachable,
    ProtocolMismatch,
    UnknownAgent,
    WireError,
)
from agentd.outcome import Label, Outcome

SECONDS = 10.0
FINISHED = wire.Finished(session_id="s", outcome=Outcome(Label.SUCCESS, 0))
ACCEPTED = wire.Accepted(session_id="s", record="/r")
OUTPUT = wire.Output(stream="stdout", data=b"x")
T = TypeVar("T")
Answer = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path short enough for a socket, wherever pytest keeps its directories."""
    monkeypatch.chdir(tmp_path)
    return Path("agentd.sock")


@asynccontextmanager
async def served(path: Path, answer: Answer) -> AsyncIterator[None]:
    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            await answer(stream)

    with trio.socket.socket(trio.socket.AF_UNIX) as bound:
        await bound.bind(str(path))
        bound.listen()
        listener = trio.SocketListener(bound)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, handle, [listener])
            with trio.fail_after(SECONDS):  # noqa: ASYNC100 - the body is the caller's
                yield
            nursery.cancel_scope.cancel()


def says(*events: wire.Event, raw: bytes = b"", read: bool = True) -> Answer:
    async def answer(stream: trio.SocketStream) -> None:
        if read:
            await stream.receive_some(wire.MAX_FRAME_BYTES)
        for event in events:
            await stream.send_all(wire.frame(wire.encode(event)))
        if raw:
            await stream.send_all(raw)

    return answer


async def run(path: Path, answer: Answer) -> tuple[wire.Finished, list[wire.Event]]:
    seen: list[wire.Event] = []

    async def follow() -> wire.Finished:
        async with client.run("a") as session:
            seen.extend([event async for event in session])
            return await session.wait()

    async with served(path, answer), agentd.connect(path) as client:
        finished = await bare(follow())
    return result_of(finished), seen


async def ping(path: Path, answer: Answer) -> wire.Pong:
    async with served(path, answer), agentd.connect(path) as client:
        pong = await bare(client.ping())
    return result_of(pong)


async def bare(call: Awaitable[T]) -> T | AgentdError:
    """The call's result or error, kept out of the group that the serving nursery would make."""
    try:
        return await call
    except AgentdError as error:
        return error


def result_of(result: T | AgentdError) -> T:
    if isinstance(result, AgentdError):
        raise result
    return result


# --- a daemon that answers -----------------------------------------------------------------------


@pytest.mark.contract("SOC-04")
async def test_a_ping_gives_the_daemons_version(path: Path) -> None:
    pong = wire.Pong(version="1.2.3")
    assert await ping(path, says(pong)) == pong


@pytest.mark.contract("SOC-20")
async def test_a_run_gives_its_events_in_order_and_then_its_end(path: Path) -> None:
    finished, seen = await run(path, says(ACCEPTED, OUTPUT, OUTPUT, FINISHED))
    assert finished == FINISHED
    assert seen == [ACCEPTED, OUTPUT, OUTPUT]


@pytest.mark.contract("SOC-09", "CLI-24")
async def test_a_refusal_is_raised_as_what_the_daemon_raised(path: Path) -> None:
    failed = wire.Failed(code="unknown_agent", message="unknown agent 'a'")
    with pytest.raises(UnknownAgent, match=r"^unknown agent 'a'$"):
        await run(path, says(failed))


@pytest.mark.contract("F-62")
async def test_a_daemon_of_another_build_is_told_apart(path: Path) -> None:
    failed = wire.Failed(code="protocol_mismatch", message="use the agentd of the daemon's build")
    with pytest.raises(ProtocolMismatch):
        await run(path, says(failed))


@pytest.mark.contract("F-20")
async def test_a_daemon_that_refuses_before_it_has_read_all_is_heard(path: Path) -> None:
    document = bytes(4 * 2**20)
    artifact = wire.ArtifactInput(artifact_type="t", artifact_id="i", document=document)
    failed = wire.Failed(code="unknown_agent", message="no such")

    async with served(path, says(failed, read=False)), agentd.connect(path) as client:
        with pytest.raises(UnknownAgent):
            async with client.run("a", artifact=artifact) as session:
                await session.wait()


async def test_a_request_too_large_for_a_frame_is_refused_here(path: Path) -> None:
    given = "x" * wire.MAX_FRAME_BYTES

    async with served(path, says()), agentd.connect(path) as client:
        with pytest.raises(WireError, match="too large"):
            async with client.run("a", request=given):
                pass


async def test_calls_may_overlap(path: Path) -> None:
    pong = wire.Pong(version="1")
    async with (
        served(path, says(pong)),
        agentd.connect(path) as client,
        trio.open_nursery() as nursery,
    ):
        for _ in range(20):
            nursery.start_soon(client.ping)


# --- no daemon, and no agentd --------------------------------------------------------------------


@pytest.mark.contract("SOC-18", "CLI-25")
@pytest.mark.parametrize("kind", ["missing", "refused", "no socket", "too long"])
async def test_nobody_there_is_one_sentence_with_the_path(path: Path, kind: str) -> None:
    if kind == "refused":
        with trio.socket.socket(trio.socket.AF_UNIX) as left:
            await left.bind(str(path))
    elif kind == "no socket":
        await trio.Path(path).write_text("")
    elif kind == "too long":
        path = path / ("x" * 200)
    async with agentd.connect(path) as client:
        with pytest.raises(DaemonUnreachable) as caught:
            await client.ping()
    assert caught.value.message.startswith(f"agentd is not running (socket {path})")
    assert caught.value.exit_code == 6


@pytest.fixture
def queue(path: Path) -> Iterator[socket.socket]:
    """A socket that listens, and whose queue is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        full = False
        while not full:
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            full = waiting.connect_ex(str(path)) == errno.EAGAIN
        yield listener


@pytest.mark.contract("SOC-18")
async def test_a_place_in_a_full_queue_is_waited_for(path: Path, queue: socket.socket) -> None:
    pong = wire.Pong(version="1")

    async def accept() -> None:
        await trio.testing.wait_all_tasks_blocked()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(queue.dup()))
        await trio.serve_listeners(handle, [listener])

    async def handle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await says(pong)(stream)

    async with trio.open_nursery() as nursery, agentd.connect(path) as client:
        nursery.start_soon(accept)
        with trio.fail_after(SECONDS):
            assert await client.ping() == pong
        nursery.cancel_scope.cancel()


@pytest.mark.contract("SOC-18", "CLI-25")
async def test_a_daemon_that_takes_no_connection_is_one_sentence(
    path: Path, queue: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "CONNECT_SECONDS", 0.05)
    async with agentd.connect(path) as client:
        with pytest.raises(DaemonUnreachable, match="takes no connections"):
            async with client.run("a"):
                pass


@pytest.mark.contract("SOC-19")
@pytest.mark.parametrize("events", [(), (ACCEPTED,), (ACCEPTED, OUTPUT)])
async def test_a_connection_that_ends_early_is_no_outcome(
    path: Path, events: tuple[wire.Event, ...]
) -> None:
    with pytest.raises(ConnectionLost, match="went away before the end"):
        await run(path, says(*events))


@pytest.mark.contract("SOC-19")
async def test_a_connection_that_ends_in_a_frame_is_no_outcome(path: Path) -> None:
    cut = wire.frame(wire.encode(FINISHED))[:-1]
    with pytest.raises(ConnectionLost):
        await run(path, says(ACCEPTED, raw=cut))


@pytest.mark.contract("SOC-19")
@pytest.mark.parametrize(
    "raw",
    [
        b"\0\0\0\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        wire.frame(b"\xc1"),
        wire.frame(msgspec.msgpack.encode({"type": "dance"})),
        wire.frame(b"\x82\xa4type\xa4pong\xa7version\xa1\xff"),
    ],
)
async def test_what_is_no_event_is_a_wire_error(path: Path, raw: bytes) -> None:
    with pytest.raises(WireError):
        await run(path, says(raw=raw))


@pytest.mark.contract("SOC-19")
async def test_a_pong_is_no_end_of_a_run(path: Path) -> None:
    with pytest.raises(WireError, match="unexpected Pong"):
        await run(path, says(wire.Pong(version="1")))


@pytest.mark.contract("SOC-19")
async def test_an_end_is_no_pong(path: Path) -> None:
    with pytest.raises(WireError, match="unexpected Finished"):
        await ping(path, says(FINISHED))
