"""The client's end of the daemon's socket, against a daemon that says what a test tells it to."""

from __future__ import annotations

import datetime
import errno
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    suppress,
)
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio
import trio.testing

import agentd
from agentd import exchange, wire
from agentd.client import DISK_REPLY_SECONDS, REPLY_SECONDS
from agentd.errors import (
    AgentdError,
    ConnectionLost,
    DaemonUnreachable,
    InvalidInvocation,
    ProtocolMismatch,
    UnknownAgent,
    WireError,
)
from agentd.outcome import Label, Outcome
from agentd.session.disk import DISK_SECONDS

SECONDS = 10.0
FINISHED = wire.Finished(session_id="s", outcome=Outcome(Label.SUCCESS, 0))
ACCEPTED = wire.Accepted(session_id="s", record="/r")
QUEUED = wire.Queued(session_id="s", position=1)
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


@asynccontextmanager
async def jumping(path: Path, answer: Answer) -> AsyncIterator[None]:
    """As `served`, for tests whose clock jumps: it has no bound of its own."""
    with trio.socket.socket(trio.socket.AF_UNIX) as bound:
        await bound.bind(str(path))
        bound.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, answer, [trio.SocketListener(bound)])
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


async def test_metrics_that_come_in_pieces_are_one_text(path: Path) -> None:
    parts = [wire.MetricsPart(text="# HELP"), wire.MetricsPart(text=" a b\n")]
    answer = says(*parts, wire.Metrics(text="# EOF\n"))
    async with served(path, answer), agentd.connect(path) as client:
        assert await client.metrics() == "# HELP a b\n# EOF\n"


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


# --- a daemon that hangs -------------------------------------------------------------------------

BOUNDED: dict[str, tuple[float, Callable[[agentd.Client], Awaitable[object]]]] = {
    "ping": (REPLY_SECONDS, lambda client: client.ping()),
    "status": (REPLY_SECONDS, lambda client: client.status()),
    "sessions": (REPLY_SECONDS, lambda client: client.sessions()),
    "past sessions": (DISK_REPLY_SECONDS, lambda client: client.past_sessions()),
    "inspect": (DISK_REPLY_SECONDS, lambda client: client.inspect("s")),
    "agents": (DISK_REPLY_SECONDS, lambda client: client.agents()),
    "schedule": (REPLY_SECONDS, lambda client: client.schedule("a")),
    "metrics": (REPLY_SECONDS, lambda client: client.metrics()),
    "reload": (DISK_REPLY_SECONDS, lambda client: client.reload()),
    "stop": (REPLY_SECONDS, lambda client: client.stop("s")),
    "shutdown": (REPLY_SECONDS, lambda client: client.shutdown()),
}


@pytest.mark.contract("SOC-18", "CLI-25")
@pytest.mark.parametrize("name", BOUNDED)
async def test_a_daemon_that_says_nothing_is_given_up(
    path: Path, autojump_clock: trio.testing.MockClock, name: str
) -> None:
    """It listens, and takes no connection; nothing real is waited for, so time may jump."""
    seconds, call = BOUNDED[name]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        before = trio.current_time()
        async with agentd.connect(path) as client:
            with pytest.raises(DaemonUnreachable, match="does not answer"):
                await call(client)
        assert trio.current_time() - before == pytest.approx(seconds)


STALLING: dict[str, tuple[wire.Event, Callable[[agentd.Client], Awaitable[object]]]] = {
    "past sessions": (wire.PastSessions(sessions=()), lambda client: client.past_sessions()),
    "metrics": (wire.MetricsPart(text="# HELP"), lambda client: client.metrics()),
}


@pytest.mark.parametrize("name", STALLING)
async def test_a_daemon_that_stops_in_the_middle_is_given_up(
    path: Path, autojump_clock: trio.testing.MockClock, name: str
) -> None:
    event, call = STALLING[name]

    async def answer(stream: trio.SocketStream) -> None:
        await says(event)(stream)
        await trio.sleep_forever()

    async with jumping(path, answer), agentd.connect(path) as client:
        assert isinstance(await bare(call(client)), DaemonUnreachable)


@pytest.mark.parametrize(
    ("first", "call"),
    [
        (ACCEPTED, lambda client: client.stop("s")),
        (wire.ShutdownStarted(sessions=1), lambda client: client.shutdown()),
    ],
)
async def test_the_end_of_a_session_is_waited_for_as_long_as_it_takes(
    path: Path,
    autojump_clock: trio.testing.MockClock,
    first: wire.Event,
    call: Callable[[agentd.Client], Awaitable[object]],
) -> None:
    last = FINISHED if first is ACCEPTED else wire.ShutdownComplete()

    async def answer(stream: trio.SocketStream) -> None:
        await says(first)(stream)
        await trio.sleep(10 * DISK_REPLY_SECONDS)
        await says(last, read=False)(stream)

    async with jumping(path, answer), agentd.connect(path) as client:
        assert not isinstance(await bare(call(client)), AgentdError)


def test_the_client_waits_longer_than_the_daemon_waits_for_its_disk() -> None:
    assert DISK_REPLY_SECONDS > DISK_SECONDS


# --- a session and its events --------------------------------------------------------------------


async def test_a_session_knows_its_id_its_record_and_its_end(path: Path) -> None:
    async with (
        served(path, says(QUEUED, ACCEPTED, OUTPUT, FINISHED)),
        agentd.connect(path) as client,
        client.run("a") as session,
    ):
        known = [(session.id, session.record, session.outcome)]
        async for _ in session:
            known.append((session.id, session.record, session.outcome))
    assert known == [(None, None, None), ("s", None, None)] + 2 * [("s", Path("/r"), None)]
    assert (session.outcome, session.finished) == (FINISHED.outcome, FINISHED)


async def test_a_session_that_has_ended_gives_nothing_more_and_the_same_end(path: Path) -> None:
    async with (
        served(path, says(ACCEPTED, FINISHED)),
        agentd.connect(path) as client,
        client.run("a") as session,
    ):
        first = await session.wait()
        assert [event async for event in session] == []
        assert await session.wait() is first


@pytest.mark.parametrize(
    "answer",
    [
        says(ACCEPTED, wire.Failed(code="container_vanished", message="it is gone")),
        says(ACCEPTED, raw=wire.frame(b"\xc1")),
        says(ACCEPTED),
    ],
)
async def test_a_session_that_has_failed_fails_again_in_the_same_way(
    path: Path, answer: Answer
) -> None:
    async with served(path, answer), agentd.connect(path) as client, client.run("a") as session:
        first, second = [await bare(session.wait()) for _ in range(2)]
    assert isinstance(first, AgentdError)
    assert (type(first), str(first)) == (type(second), str(second))


async def test_what_a_dispatch_waits_for_is_told(path: Path) -> None:
    pulling = wire.Progress(text="pulling")
    told: list[wire.Progress] = []
    async with served(path, says(pulling, pulling, ACCEPTED)), agentd.connect(path) as client:
        assert await client.dispatch("a", progress=told.append) == ACCEPTED
    assert told == [pulling, pulling]


async def test_what_is_asked_of_a_run_reaches_the_daemon(path: Path) -> None:
    asked: list[wire.Request] = []

    async def answer(stream: trio.SocketStream) -> None:
        buffer = wire.FrameBuffer()
        while (body := buffer.next_body()) is None:
            buffer.feed(await stream.receive_some(wire.MAX_FRAME_BYTES))
        asked.append(wire.decode_request(body))
        await stream.send_all(wire.frame(wire.encode(ACCEPTED)))

    async with served(path, answer), agentd.connect(path) as client:
        await client.dispatch("a", repo="u", request="words", timeout=3.5, trigger="schedule")
    expected = wire.Run(
        agent="a",
        repo_url="u",
        input=wire.TextInput(description="words"),
        timeout=3.5,
        trigger="schedule",
        detach=True,
    )
    assert asked == [expected]


ARTIFACT = wire.ArtifactInput(artifact_type="t", artifact_id="i", document=b"{}")
IMPOSSIBLE: dict[str, wire.RunOptions] = {
    "timeout": {"timeout": -1},
    "must be UTF-8": {"repo": "\udcff"},
    "cannot be used together": {"request": "words", "artifact": ARTIFACT},
}


@pytest.mark.parametrize("words", IMPOSSIBLE)
async def test_what_no_run_can_have_is_refused_before_anything_is_sent(
    path: Path, words: str
) -> None:
    async with agentd.connect(path) as client:
        with pytest.raises(InvalidInvocation, match=words):
            await client.dispatch("a", **IMPOSSIBLE[words])


NAIVE = datetime.datetime(2026, 8, 20)
UNASKABLE: dict[str, Callable[[agentd.Client], Awaitable[object]]] = {
    "session: ": lambda client: client.inspect("f" * 1025),
    "agent: ": lambda client: client.past_sessions("a" * 1025),
    "count: ": lambda client: client.schedule("a", count=0),
    "after: .*timezone": lambda client: client.schedule("a", after=NAIVE),
    "grace_seconds: .* >= 0": lambda client: client.stop("s", grace=-1),
    "grace_seconds: .* <= ": lambda client: client.stop("s", grace=1e9),
    "tail: ": lambda client: read(client.logs("s", tail=-1)),
    "ints": lambda client: read(client.logs("s", tail=10**20)),
    "since: .*timezone": lambda client: read(client.logs("s", since=NAIVE)),
    "must be UTF-8": lambda client: client.inspect("\udcff"),
}


async def read(entered: AbstractAsyncContextManager[object]) -> None:
    async with entered:
        pass


@pytest.mark.parametrize("words", UNASKABLE)
async def test_what_cannot_be_asked_for_is_refused_before_anything_is_sent(
    path: Path, words: str
) -> None:
    """Nobody listens at the path, so whatever had been sent would be another error."""
    async with agentd.connect(path) as client:
        with pytest.raises(InvalidInvocation, match=words):
            await UNASKABLE[words](client)


async def test_a_misspelt_option_is_no_option(path: Path) -> None:
    async with agentd.connect(path) as client:
        with pytest.raises(TypeError, match="requst"):
            await client.dispatch("a", requst="words")  # type: ignore[call-arg]


@pytest.mark.contract("RTP-05", "RTP-06")
async def test_without_a_path_the_client_looks_where_the_commands_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/of-nobody")
    async with agentd.connect() as client:
        with pytest.raises(DaemonUnreachable, match=r"/run/of-nobody/agentd/agentd\.sock"):
            await client.ping()


async def test_a_stop_is_told_first_that_it_was_asked(path: Path) -> None:
    told: list[wire.Accepted] = []
    async with served(path, says(ACCEPTED, FINISHED)), agentd.connect(path) as client:
        assert await client.stop("s", accepted=told.append) == FINISHED
    assert told == [ACCEPTED]


async def test_a_shutdown_is_told_first_what_still_lives(path: Path) -> None:
    begun, done = wire.ShutdownStarted(sessions=2), wire.ShutdownComplete()
    told: list[wire.ShutdownStarted] = []
    async with served(path, says(begun, done)), agentd.connect(path) as client:
        await client.shutdown(started=told.append)
    assert told == [begun]


# --- leaving early -------------------------------------------------------------------------------


class Left(Exception):
    """Why a test leaves."""


async def by_break(session: agentd.RemoteSession) -> None:
    async for _ in session:
        break


async def by_return(session: agentd.RemoteSession) -> None:
    async for _ in session:
        return


async def by_exception(session: agentd.RemoteSession) -> None:
    async for _ in session:
        raise Left


async def by_cancellation(session: agentd.RemoteSession) -> None:
    async for _ in session:
        scope.get().cancel()


async def by_timeout(session: agentd.RemoteSession) -> None:
    await anext(session)
    with trio.fail_after(0):
        await anext(session)


scope: ContextVar[trio.CancelScope] = ContextVar("scope")


@pytest.mark.filterwarnings("error")
@pytest.mark.contract("SOC-14")
@pytest.mark.parametrize("leave", [by_break, by_return, by_exception, by_cancellation, by_timeout])
async def test_leaving_a_session_early_closes_its_connection(
    path: Path, leave: Callable[[agentd.RemoteSession], Awaitable[None]]
) -> None:
    gone = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(wire.frame(wire.encode(ACCEPTED)))
        assert await stream.receive_some() == b""
        gone.set()

    async with served(path, answer), agentd.connect(path) as client:
        with trio.CancelScope() as cancelled, suppress(Left, trio.TooSlowError):
            scope.set(cancelled)
            async with client.run("a") as session:
                await leave(session)
        await gone.wait()
        gc.collect()
    assert cancelled.cancelled_caught == (leave is by_cancellation)


async def test_a_cancelled_step_takes_no_event_along(path: Path) -> None:
    go_on = trio.Event()
    frames = [wire.frame(wire.encode(event)) for event in (ACCEPTED, OUTPUT, FINISHED)]

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        # Half of an event has come when the client's step is cancelled.
        await stream.send_all(frames[0] + frames[1][:7])
        await go_on.wait()
        await stream.send_all(frames[1][7:] + frames[2])

    async with (
        served(path, answer),
        agentd.connect(path) as client,
        client.run("a") as session,
    ):
        assert await anext(session) == ACCEPTED
        async with trio.open_nursery() as nursery:
            nursery.start_soon(anext, session)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(0):
            await anext(session)
        go_on.set()
        assert [event async for event in session] == [OUTPUT]
    assert session.finished == FINISHED


async def test_wherever_a_step_is_cancelled_every_event_comes_once(path: Path) -> None:
    outputs = [wire.Output(stream="stdout", data=bytes([number])) for number in range(60)]
    seen: list[wire.Event] = []

    async def step(session: agentd.RemoteSession) -> None:
        seen.append(await anext(session))

    async with (
        served(path, says(*outputs, FINISHED)),
        agentd.connect(path) as client,
        client.run("a") as session,
    ):
        for number in range(40):
            async with trio.open_nursery() as steps:
                steps.start_soon(step, session)
                for _ in range(number % 4):
                    await trio.lowlevel.checkpoint()
                steps.cancel_scope.cancel()
        assert 0 < len(seen) < 40
        seen.extend([event async for event in session])
    assert seen == outputs


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.contract("SOC-14")
async def test_cancelled_calls_cost_no_descriptor(path: Path) -> None:
    """At every point: before they have a connection, and while they wait for the answer."""

    async def answer(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    async def follow(client: agentd.Client) -> None:
        async with client.run("a") as session:
            await session.wait()

    async with served(path, answer), agentd.connect(path) as client:
        before = descriptors()
        for number in range(100):
            async with trio.open_nursery() as calls:
                calls.start_soon(client.ping)
                calls.start_soon(follow, client)
                for _ in range(number % 10):
                    await trio.lowlevel.checkpoint()
                calls.cancel_scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert descriptors() == before
