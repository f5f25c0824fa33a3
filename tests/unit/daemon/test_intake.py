"""One connection at the daemon's socket, over a real pair of sockets; the supervisor is a fake."""

from __future__ import annotations

import datetime
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from trio_util import AsyncValue

from agentd import __version__, errors, wire
from agentd.daemon import answers as answers_module
from agentd.daemon import intake as intake_module
from agentd.daemon.answers import Answers, terminal
from agentd.daemon.declared import Declared
from agentd.daemon.health import Health
from agentd.daemon.history import History
from agentd.daemon.intake import LARGE_AT_ONCE, Intake
from agentd.daemon.reloading import Reloading
from agentd.daemon.signals import Shutdown
from agentd.errors import AgentdError
from agentd.metrics import Metrics
from agentd.outcome import TIMED_OUT, Label, Outcome, from_exit_code
from agentd.session.choice import EVERYTHING, Choice, Piece
from agentd.session.follow import Sink
from agentd.session.session import Session
from agentd.session.verdict import Ended
from agentd.supervisor import Supervisor
from testbed.metrics_text import counted
from tests.unit import builders
from tests.unit.builders import NOON, SESSION, SESSION_INFO

SECONDS = 10.0
CROWD = 8
STATUS = wire.Status(
    version="1",
    started_at=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    sessions=1,
    queued=2,
    podman_socket="/run/podman.sock",
    podman_version="4.3.1",
    rootless=True,
)
AT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PAST = wire.PastSession(
    session_id=SESSION, agent="builder", started_at=AT, record="/r", trigger="manual"
)
AGENTS = wire.Agents(zone="UTC", agents=(wire.AgentInfo(name="builder", base_image="i"),))
INSTANTS = wire.Instants(schedule="0 0 * * *", zone="UTC", instants=(wire.Instant(at=AT),))
INSPECTED = wire.Inspected(record="/r", state="closed", facts={})
ACCEPTED = wire.Accepted(session_id=SESSION, record=f"/var/audit/builder/{SESSION}")
RUNNING = wire.StateChanged(state="running")
CLOSING = wire.StateChanged(state="closing")
SUCCESS = wire.Finished(session_id=SESSION, outcome=Outcome(Label.SUCCESS, 0))


class FakeSession:
    """A session that ends when the test says so."""

    def __init__(self) -> None:
        self.id = SESSION
        self.record = SimpleNamespace(directory=Path("/var/audit/builder") / SESSION)
        self.ended: Ended | None = Ended(from_exit_code(0))
        self.teardown_error: str | None = None
        self.may_end = trio.Event()
        self.info = SESSION_INFO
        self.phase = AsyncValue("running")
        self.output_complete = False

    async def wait_end(self) -> None:
        await self.may_end.wait()


def ended(how: Outcome | AgentdError, teardown_error: str | None = None) -> Session:
    session = FakeSession()
    session.ended, session.teardown_error = Ended(how), teardown_error
    return cast(Session, session)


class FakeSupervisor:
    """Takes any run in, and notes it."""

    def __init__(self) -> None:
        self.session = FakeSession()
        self.started: list[wire.Run] = []
        self.refusal: BaseException | None = None
        self.output: list[Piece] = []
        self.progress: list[str] = []
        self.stopped: list[float] = []
        self.metrics = Metrics()
        self.choices: list[Choice] = []

    @property
    def known(self) -> FakeSupervisor:
        return self

    @property
    def infos(self) -> tuple[wire.SessionInfo, ...]:
        return (SESSION_INFO,)

    async def start(self, request: wire.Run, tell: Callable[[wire.Event], None]) -> Session:
        for line in self.progress:
            tell(wire.Progress(text=line))
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.started.append(request)
        return cast(Session, self.session)

    async def follow(self, _session: Session, sink: Sink) -> None:
        await sink(self.output)
        self.session.info = msgspec.structs.replace(SESSION_INFO, state="closing")

    def choose(self, wanted: str) -> Session:
        if wanted != SESSION:
            raise errors.UnknownSession(f"there is no session '{wanted}'")
        return cast(Session, self.session)

    async def stop(self, found: Session, grace_seconds: float) -> Session:
        self.stopped.append(grace_seconds)
        await trio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        return found

    async def logs(
        self, wanted: str, sink: Sink, choice: Choice = EVERYTHING, *, follow: bool
    ) -> None:
        self.choices.append(choice)
        self.choose(wanted)
        await sink(self.output)
        if follow:
            await self.session.may_end.wait()


class FakeDeclared:
    """One agent, which fires once more."""

    async def agents(self) -> wire.Agents:
        return AGENTS

    async def instants(self, request: wire.GetSchedule) -> wire.Instants:
        if request.agent != "builder":
            raise errors.UnknownAgent(request.agent)
        return INSTANTS


class FakeHistory:
    """Two batches of past sessions."""

    async def past(
        self, agent: str | None, tell: Callable[[wire.PastSessions], Awaitable[None]]
    ) -> tuple[wire.SessionInfo, ...]:
        assert agent in {None, "builder"}
        await tell(wire.PastSessions(sessions=(PAST,)))
        await tell(wire.PastSessions(sessions=(PAST, PAST)))
        return (SESSION_INFO,)

    async def inspect(self, wanted: str) -> wire.Inspected:
        if not SESSION.startswith(wanted):
            raise errors.UnknownSession(wanted)
        return INSPECTED


class FakeHealth:
    """Of a daemon that does well."""

    async def status(self) -> wire.Status:
        return STATUS


class Peer:
    """The client's end."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = wire.FrameBuffer()

    async def send(self, request: wire.Request) -> None:
        await self.stream.send_all(wire.frame(wire.encode(request)))

    async def next(self) -> wire.Event | None:
        with trio.fail_after(SECONDS):
            while (body := self._buffer.next_body()) is None:
                data = await self.stream.receive_some()
                if not data:
                    self._buffer.end()
                    return None
                self._buffer.feed(data)
        return wire.decode_event(body)

    async def all(self) -> list[wire.Event]:
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


class Daemon:
    """An intake with connections."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.supervisor = FakeSupervisor()
        self.shutdown = Shutdown()
        answers = Answers(
            cast(Supervisor, self.supervisor),
            cast(Declared, FakeDeclared()),
            cast(History, FakeHistory()),
            cast(Health, FakeHealth()),
            self.shutdown,
            reloading=cast(Reloading, None),
        )
        self.intake = Intake(answers.give)
        self._nursery = nursery
        self._peers: list[Peer] = []
        self.served: list[trio.Event] = []
        """Set when the daemon has done with a connection; in the order of the connections."""

    async def _serve(self, stream: trio.SocketStream, done: trio.Event) -> None:
        await self.intake.serve(stream)
        done.set()

    async def connect(self) -> Peer:
        ours, theirs = trio.socket.socketpair()
        served = trio.SocketStream(theirs)
        done = trio.Event()
        self.served.append(done)
        self._nursery.start_soon(self._serve, served, done)
        peer = Peer(trio.SocketStream(ours))
        self._peers.append(peer)
        return peer

    async def end(self) -> None:
        """Let every connection come to its end by itself."""
        self.supervisor.session.may_end.set()
        for peer in self._peers:
            await peer.stream.aclose()


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    async with trio.open_nursery() as nursery:
        opened = Daemon(nursery)
        yield opened
        await opened.end()
        nursery.cancel_scope.deadline = trio.current_time() + SECONDS


async def only(peer: Peer) -> wire.Event:
    events = await peer.all()
    assert len(events) == 1, events
    return events[0]


async def failure(peer: Peer) -> wire.Failed:
    event = await only(peer)
    assert isinstance(event, wire.Failed), event
    return event


# --- one request, one answer ---------------------------------------------------------------------


@pytest.mark.contract("SOC-04", "SOC-03")
async def test_a_ping_is_answered_and_the_connection_closed(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Ping())
    assert await only(peer) == wire.Pong(version=__version__)


@pytest.mark.contract("SOC-05", "SOC-06", "SOC-07", "CLI-15")
async def test_a_run_is_accepted_shown_and_finished(daemon: Daemon) -> None:
    daemon.supervisor.output = [Piece("stdout", b"\xff"), Piece("stderr", b"x")]
    daemon.supervisor.session.may_end.set()
    request = wire.Run(agent="a", input=wire.TextInput(description="- fix\0"))
    peer = await daemon.connect()
    await peer.send(request)
    assert await peer.all() == [
        ACCEPTED,
        RUNNING,
        wire.Output(stream="stdout", data=b"\xff"),
        wire.Output(stream="stderr", data=b"x"),
        CLOSING,
        SUCCESS,
    ]
    assert daemon.supervisor.started == [request]


@pytest.mark.contract("SCH-07")
async def test_a_detached_run_ends_with_its_acceptance(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a", detach=True))
    assert isinstance(await only(peer), wire.Accepted)


@pytest.mark.contract("SOC-09", "CLI-24")
async def test_a_refused_run_is_answered_with_code_and_words(daemon: Daemon) -> None:
    daemon.supervisor.refusal = errors.UnknownAgent("unknown agent 'x'")
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="x"))
    assert await failure(peer) == wire.Failed(code="unknown_agent", message="unknown agent 'x'")


@pytest.mark.contract("F-61")
async def test_who_asks_how_the_daemon_does_hears_it(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.GetStatus())
    assert await only(peer) == STATUS


@pytest.mark.contract("F-61")
@pytest.mark.parametrize("form", ["openmetrics", "prometheus"])
async def test_who_asks_for_the_metrics_gets_the_text(
    daemon: Daemon, form: wire.MetricsFormat
) -> None:
    peer = await daemon.connect()
    await peer.send(wire.GetMetrics(format=form))
    told = await only(peer)
    assert isinstance(told, wire.Metrics)
    assert told.text.startswith("# HELP")
    assert told.text.endswith("# EOF\n") == (form == "openmetrics")


async def test_the_metrics_of_ten_thousand_agents_come_in_pieces_that_fit_a_frame(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = daemon.supervisor.metrics
    metrics.declare(
        lambda: [builders.agent(name=f"agent-{number}") for number in range(10_000)], lambda: 0
    )
    text = await metrics.text("openmetrics")

    async def made_before(_form: wire.MetricsFormat) -> str:
        await trio.lowlevel.checkpoint()
        return text

    # Else a slow machine would take longer than a peer here waits.
    monkeypatch.setattr(metrics, "text", made_before)
    peer = await daemon.connect()
    await peer.send(wire.GetMetrics())
    *parts, last = await peer.all()
    told = [
        part.text for part in (*parts, last) if isinstance(part, wire.MetricsPart | wire.Metrics)
    ]
    assert (isinstance(last, wire.Metrics), "".join(told) == text) == (True, True)
    assert len(text) > wire.MAX_FRAME_BYTES
    # A character takes up to four bytes.
    assert max(map(len, told)) * 4 < wire.MAX_FRAME_BYTES


async def test_requests_are_counted_by_their_kind(daemon: Daemon) -> None:
    for request in (wire.Ping(), wire.Ping(), wire.GetStatus()):
        peer = await daemon.connect()
        await peer.send(request)
        await peer.all()
    text = daemon.supervisor.metrics.render("openmetrics")
    assert counted(text, "agentd_requests_total", "request") == {("ping",): 2, ("get_status",): 1}


@pytest.mark.contract("F-53")
async def test_who_asks_for_the_sessions_gets_them(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.ListSessions())
    assert await only(peer) == wire.Sessions(sessions=(SESSION_INFO,))


@pytest.mark.contract("DMN-24")
@pytest.mark.parametrize("leave", [False, True])
async def test_who_asks_for_the_end_of_the_daemon_hears_of_it(daemon: Daemon, leave: bool) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Shutdown(leave=leave))
    assert await peer.next() == wire.ShutdownStarted(sessions=1)
    assert (daemon.shutdown.draining.is_set(), daemon.shutdown.leaving.is_set()) == (True, leave)
    daemon.shutdown.complete.set()
    assert await peer.all() == [wire.ShutdownComplete()]


@pytest.mark.contract("F-53")
async def test_past_sessions_come_before_the_live_ones(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.ListSessions(past=True, agent="builder"))
    *batches, live = await peer.all()
    told = [
        each for batch in batches if isinstance(batch, wire.PastSessions) for each in batch.sessions
    ]
    assert (told, live) == ([PAST] * 3, wire.Sessions(sessions=(SESSION_INFO,)))


@pytest.mark.contract("F-53")
async def test_only_the_sessions_of_an_agent_are_told(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.ListSessions(agent="another"))
    assert await only(peer) == wire.Sessions(sessions=())


@pytest.mark.contract("F-53")
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (wire.Inspect(session=SESSION[:4]), INSPECTED),
        (wire.ListAgents(), AGENTS),
        (wire.GetSchedule(agent="builder"), INSTANTS),
    ],
)
async def test_what_is_asked_is_answered_at_once(
    daemon: Daemon, request_: wire.Request, answer: wire.Event
) -> None:
    peer = await daemon.connect()
    await peer.send(request_)
    assert await only(peer) == answer


@pytest.mark.contract("F-53")
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (wire.Inspect(session="ffff"), "unknown_session"),
        (wire.GetSchedule(agent="x"), "unknown_agent"),
    ],
)
async def test_what_is_not_there_is_refused(
    daemon: Daemon, request_: wire.Request, code: str
) -> None:
    peer = await daemon.connect()
    await peer.send(request_)
    assert (await failure(peer)).code == code


@pytest.mark.contract("F-53")
async def test_logs_end_with_the_end_of_the_output(daemon: Daemon) -> None:
    daemon.supervisor.output = [Piece("stdout", b"\xff")]
    peer = await daemon.connect()
    await peer.send(wire.Logs(session=SESSION))
    assert await peer.all() == [wire.Output(stream="stdout", data=b"\xff"), wire.EndOfOutput()]


@pytest.mark.contract("F-53")
async def test_followed_logs_end_with_the_session(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Logs(session=SESSION, follow=True))
    await trio.testing.wait_all_tasks_blocked()
    daemon.supervisor.session.may_end.set()
    assert await only(peer) == wire.EndOfOutput()


@pytest.mark.contract("F-53")
async def test_a_stop_tells_asked_and_ended_apart(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Stop(session=SESSION, grace_seconds=7.5))
    assert await peer.next() == ACCEPTED
    daemon.supervisor.session.may_end.set()
    assert await peer.all() == [SUCCESS]
    assert daemon.supervisor.stopped == [7.5]


@pytest.mark.contract("F-53")
async def test_who_has_gone_when_it_would_hear_of_its_stop_has_asked_all_the_same(
    daemon: Daemon,
) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Stop(session=SESSION, grace_seconds=7.5))
    await peer.stream.aclose()
    with trio.fail_after(SECONDS):
        await daemon.served[0].wait()
    assert daemon.supervisor.stopped == [7.5]


@pytest.mark.parametrize("request_", [wire.Logs(session="ff"), wire.Stop(session="ff")])
async def test_a_session_that_nobody_knows_is_refused(
    daemon: Daemon, request_: wire.Request
) -> None:
    peer = await daemon.connect()
    await peer.send(request_)
    assert (await failure(peer)).code == "unknown_session"


async def test_a_run_that_waits_is_stopped_before_it_began(daemon: Daemon) -> None:
    daemon.supervisor.refusal = errors.StoppedBeforeStart("in the queue")
    peer = await daemon.connect()
    await peer.send(wire.Stop(session=SESSION))
    assert (await failure(peer)).code == "stopped_before_start"


# --- the progress of a run -----------------------------------------------------------------------


@pytest.mark.contract("SES-43")
async def test_progress_comes_before_the_acceptance(daemon: Daemon) -> None:
    daemon.supervisor.progress = ["pulling", "copying"]
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a", detach=True))
    said = [wire.Progress(text="pulling"), wire.Progress(text="copying")]
    assert await peer.all() == [*said, ACCEPTED]


@pytest.mark.contract("SES-43")
async def test_a_refusal_comes_after_the_progress_that_led_to_it(daemon: Daemon) -> None:
    daemon.supervisor.progress = ["pulling"]
    daemon.supervisor.refusal = errors.ImageUnavailable("no such image")
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    failed = wire.Failed(code="image_unavailable", message="no such image")
    assert await peer.all() == [wire.Progress(text="pulling"), failed]


@pytest.mark.contract("SES-43", "SOC-17")
async def test_a_peer_that_leaves_during_the_pull_ends_no_run(daemon: Daemon) -> None:
    daemon.supervisor.progress = ["pulling"]
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert daemon.supervisor.started == [wire.Run(agent="a")]


@pytest.mark.contract("SES-43")
async def test_more_progress_than_a_peer_reads_is_dropped(daemon: Daemon) -> None:
    daemon.supervisor.progress = [str(number) for number in range(1000)]
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a", detach=True))
    *said, last = await peer.all()
    assert last == ACCEPTED
    assert 0 < len(said) < 1000


@pytest.mark.contract("SOC-12")
async def test_what_follows_the_request_is_ignored(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.stream.send_all(wire.frame(wire.encode(wire.Ping())) + b"\0\0\0\x01junk")
    assert await peer.next() == wire.Pong(version=__version__)


@pytest.mark.contract("F-20", "INP-17")
async def test_a_large_request_is_taken_whole(daemon: Daemon) -> None:
    document = b"x" * (wire.MAX_FRAME_BYTES - 1000)
    given = wire.ArtifactInput(artifact_type="t", artifact_id="i", document=document)
    daemon.supervisor.session.may_end.set()
    peer = await daemon.connect()
    with trio.fail_after(SECONDS):
        await peer.send(wire.Run(agent="a", input=given, detach=True))
    assert isinstance(await only(peer), wire.Accepted)
    assert daemon.supervisor.started[0].input == given


@pytest.mark.contract("SOC-03")
async def test_a_request_may_come_byte_by_byte(daemon: Daemon) -> None:
    peer = await daemon.connect()
    for byte in wire.frame(wire.encode(wire.Ping())):
        await peer.stream.send_all(bytes([byte]))
    assert await only(peer) == wire.Pong(version=__version__)


@pytest.mark.contract("DMN-23")
async def test_connections_do_not_wait_for_each_other(daemon: Daemon) -> None:
    silent, running, quick = [await daemon.connect() for _ in range(3)]
    await running.send(wire.Run(agent="a"))
    assert isinstance(await running.next(), wire.Accepted)
    await quick.send(wire.Ping())
    assert await only(quick) == wire.Pong(version=__version__)
    daemon.supervisor.session.may_end.set()
    assert await running.all() == [RUNNING, CLOSING, SUCCESS]
    await silent.stream.aclose()


# --- what is no request --------------------------------------------------------------------------


@pytest.mark.contract("SOC-11")
async def test_a_peer_that_sends_nothing_and_goes_is_no_event(
    daemon: Daemon, logged: list[dict[str, Any]]
) -> None:
    peer = await daemon.connect()
    await peer.stream.send_eof()
    assert await peer.all() == []
    assert list(logged) == []


@pytest.mark.contract("SOC-02", "SOC-10", "SOC-13")
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\0\0\0\0", "protocol_error"),
        (b"\xff\xff\xff\xff", "protocol_error"),
        (b'{"type":"ping"}\n', "protocol_error"),
        (b"GET / HTTP/1.1\r\n\r\n", "protocol_error"),
        (wire.frame(b"\xc1"), "protocol_error"),
        (
            wire.frame(b"\x83\xa8protocol%c\xa4type\xa3run\xa5agent\xa1\xff" % wire.PROTOCOL),
            "protocol_error",
        ),
        (wire.frame(b"\x91" * 60_000), "protocol_error"),
        (wire.frame(msgspec.msgpack.encode({"type": "ping"})), "protocol_error"),
        (
            wire.frame(msgspec.msgpack.encode({"type": "ping", "protocol": 99})),
            "protocol_mismatch",
        ),
    ],
)
async def test_every_malformed_request_gets_a_reply_with_a_code(
    daemon: Daemon, sent: bytes, code: str
) -> None:
    peer = await daemon.connect()
    await peer.stream.send_all(sent)
    assert (await failure(peer)).code == code


@pytest.mark.contract("SOC-12")
async def test_a_request_that_is_cut_short_gets_a_reply(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.stream.send_all(wire.frame(wire.encode(wire.Ping()))[:-1])
    await peer.stream.send_eof()
    assert "in the middle of a frame" in (await failure(peer)).message


@pytest.mark.contract("F-20", "F-35")
async def test_a_silent_peer_is_given_up(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "REQUEST_SECONDS", 0.05)
    peer = await daemon.connect()
    assert "no request within" in (await failure(peer)).message


@pytest.fixture
async def crowd(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> list[Peer]:
    """As many peers as may wait; the first has begun a request, the others are silent."""
    monkeypatch.setattr(intake_module, "MAX_WAITING", CROWD)
    peers: list[Peer] = []
    for number in (1, 1, CROWD - 2):
        peers += [await daemon.connect() for _ in range(number)]
        # Tasks that start together start in any order.
        await trio.testing.wait_all_tasks_blocked()
    await peers[0].stream.send_all(wire.frame(wire.encode(wire.Ping()))[:5])
    await trio.testing.wait_all_tasks_blocked()
    return peers


@pytest.mark.contract("F-20")
async def test_one_peer_more_than_may_wait_is_served(daemon: Daemon, crowd: list[Peer]) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Ping())
    assert isinstance(await only(peer), wire.Pong)


@pytest.mark.contract("F-20")
async def test_the_oldest_silent_peer_gives_way_and_is_told(
    daemon: Daemon, crowd: list[Peer]
) -> None:
    await daemon.connect()
    assert (await failure(crowd[1])).code == "too_many_connections"


@pytest.mark.contract("F-20")
async def test_who_has_begun_a_request_is_not_the_first_to_give_way(
    daemon: Daemon, crowd: list[Peer]
) -> None:
    for _ in range(CROWD - 1):
        await daemon.connect()
    await trio.testing.wait_all_tasks_blocked()
    await crowd[0].stream.send_all(wire.frame(wire.encode(wire.Ping()))[5:])
    assert isinstance(await only(crowd[0]), wire.Pong)


@pytest.mark.contract("F-20")
async def test_among_peers_that_have_all_begun_the_oldest_gives_way(
    daemon: Daemon, crowd: list[Peer]
) -> None:
    for peer in crowd[1:]:
        await peer.stream.send_all(b"\0")
    await trio.testing.wait_all_tasks_blocked()
    await daemon.connect()
    assert (await failure(crowd[0])).code == "too_many_connections"


@pytest.mark.contract("F-20")
async def test_followers_leave_the_sessions_enough_descriptors(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.intake, "_most", 2)
    for _ in range(2):
        follower = await daemon.connect()
        await follower.send(wire.Run(agent="a"))
        assert isinstance(await follower.next(), wire.Accepted)
    refused = await failure(await daemon.connect())
    assert (refused.code, "2 connections are open" in refused.message) == (
        "too_many_connections",
        True,
    )


@pytest.mark.contract("F-20")
async def test_a_silent_peer_gives_way_when_descriptors_are_few(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon.intake, "_most", 1)
    silent = await daemon.connect()
    await trio.testing.wait_all_tasks_blocked()
    peer = await daemon.connect()
    await peer.send(wire.Ping())
    assert isinstance(await only(peer), wire.Pong)
    assert (await failure(silent)).code == "too_many_connections"


@pytest.mark.contract("F-20")
@pytest.mark.parametrize(
    ("soft", "most"), [(1024, 256), (20_000, 1024), (3, 1), (resource.RLIM_INFINITY, 1024)]
)
def test_connections_may_be_a_quarter_of_the_descriptors_and_no_more_than_memory_bears(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, soft))
    assert intake_module.most_connections() == most


LARGE = wire.frame(
    wire.encode(
        wire.Run(
            agent="a",
            detach=True,
            input=wire.ArtifactInput(
                artifact_type="t", artifact_id="i", document=bytes(wire.MAX_FRAME_BYTES // 2)
            ),
        )
    )
)


async def stalled_large(daemon: Daemon) -> list[Peer]:
    """As many peers as may have sent more than a small request; none goes on."""
    peers = [await daemon.connect() for _ in range(LARGE_AT_ONCE)]
    for peer in peers:
        await peer.stream.send_all(LARGE[:200_000])
    await trio.testing.wait_all_tasks_blocked()
    return peers


@pytest.mark.contract("F-20")
async def test_slow_large_requests_give_way_to_one_that_waits(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "LARGE_SECONDS", 0.05)
    monkeypatch.setattr(intake_module, "REQUEST_SECONDS", 1000)
    slow = await stalled_large(daemon)
    peer = await daemon.connect()
    with trio.fail_after(SECONDS):
        await peer.stream.send_all(LARGE)
    assert isinstance(await only(peer), wire.Accepted)
    (gone,) = [one for one, done in zip(slow, daemon.served, strict=False) if done.is_set()]
    assert (await failure(gone)).code == "too_many_connections"


@pytest.mark.contract("F-20")
async def test_a_slow_large_request_that_nobody_waits_for_is_taken(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "LARGE_SECONDS", 0.001)
    peer = await daemon.connect()
    with trio.fail_after(SECONDS):
        for at in range(0, len(LARGE), 500_000):
            await peer.stream.send_all(LARGE[at : at + 500_000])
            await trio.sleep(0.005)
    assert isinstance(await only(peer), wire.Accepted)


@pytest.mark.contract("F-20")
async def test_slow_large_requests_do_not_hold_up_small_ones(daemon: Daemon) -> None:
    await stalled_large(daemon)
    peer = await daemon.connect()
    await peer.send(wire.Ping())
    assert isinstance(await only(peer), wire.Pong)


@pytest.mark.contract("SOC-21", "F-20")
async def test_a_peer_of_another_user_is_refused_by_number(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "peer_uid", lambda _socket: 4242)
    peer = await daemon.connect()
    assert "uid 4242 may not use this daemon" in (await failure(peer)).message


@pytest.mark.contract("SOC-21", "F-20")
@pytest.mark.parametrize("uid", [0, os.geteuid()])
async def test_root_and_the_daemons_own_user_are_served(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    monkeypatch.setattr(intake_module, "peer_uid", lambda _socket: uid)
    peer = await daemon.connect()
    await peer.send(wire.Ping())
    assert isinstance(await only(peer), wire.Pong)


@pytest.mark.contract("LOG-13", "SOC-21")
async def test_peers_that_are_no_clients_are_a_warning_now_and_then(
    daemon: Daemon, logged: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "peer_uid", lambda _socket: 4242)
    for _ in range(3):
        await failure(await daemon.connect())
    event = "agentd.operator_connection_failed"
    (line,) = [line for line in logged if line["event"] == event]
    assert ("uid 4242" in line["error"], line["level"], line["count"]) == (True, "warning", 1)


@pytest.mark.contract("LOG-13")
async def test_a_request_that_is_only_refused_is_no_warning(
    daemon: Daemon, logged: list[dict[str, Any]]
) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Stop(session="0" * 16, grace_seconds=1))
    await failure(peer)
    assert {line["level"] for line in logged} == {"debug"}


# --- peers that go, bugs, and the end ------------------------------------------------------------


@pytest.mark.contract("SOC-14")
async def test_a_client_that_goes_away_detaches_without_a_word(
    daemon: Daemon, logged: list[dict[str, Any]]
) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert isinstance(await peer.next(), wire.Accepted)
    await peer.stream.aclose()
    daemon.supervisor.session.may_end.set()
    assert list(logged) == []


@pytest.mark.contract("SOC-14", "F-20")
@pytest.mark.parametrize("request_", [wire.Run(agent="a"), wire.Logs(session=SESSION, follow=True)])
async def test_who_follows_a_silent_session_and_goes_away_costs_nothing_any_more(
    daemon: Daemon, request_: wire.Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "FAREWELL_SECONDS", 1000)
    peer = await daemon.connect()
    await peer.send(request_)
    await trio.testing.wait_all_tasks_blocked()
    await peer.stream.aclose()
    with trio.fail_after(SECONDS):
        await daemon.served[0].wait()
    assert not daemon.supervisor.session.may_end.is_set()


@pytest.mark.contract("SOC-12")
@pytest.mark.parametrize("more", [b"", b"what nobody asked for"])
async def test_who_has_no_more_to_say_hears_the_end_of_its_session(
    daemon: Daemon, more: bytes
) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    await peer.stream.send_all(more)
    await peer.stream.send_eof()
    assert await peer.next() == ACCEPTED
    await trio.testing.wait_all_tasks_blocked()
    daemon.supervisor.session.may_end.set()
    # And no further: what was sent for nothing makes a reset of the connection's end.
    assert [await peer.next() for _ in range(3)] == [RUNNING, CLOSING, SUCCESS]


@pytest.mark.contract("SOC-09")
async def test_an_error_that_fits_no_frame_is_shortened(daemon: Daemon) -> None:
    daemon.supervisor.refusal = errors.UnknownAgent("x" * (wire.MAX_FRAME_BYTES + 1))
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    refused = await failure(peer)
    assert (refused.code, f"({wire.MAX_FRAME_BYTES + 1} characters)" in refused.message) == (
        "unknown_agent",
        True,
    )


@pytest.mark.contract("SOC-09")
async def test_an_error_that_names_a_path_that_is_no_text_is_told(daemon: Daemon) -> None:
    daemon.supervisor.refusal = errors.MountUnusable("cannot read /srv/\udcff")
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert (await failure(peer)).message == "cannot read /srv/\\udcff"


async def test_no_state_is_told_of_a_session_before_it_runs(daemon: Daemon) -> None:
    daemon.supervisor.session.phase.value = "starting"
    daemon.supervisor.session.may_end.set()
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert await peer.next() == ACCEPTED
    await trio.testing.wait_all_tasks_blocked()
    daemon.supervisor.session.output_complete = True
    daemon.supervisor.session.phase.value = "closing"
    assert await peer.all() == [CLOSING, SUCCESS]


@pytest.mark.contract("F-53")
async def test_what_of_the_logs_is_wanted_is_passed_on(daemon: Daemon) -> None:
    time = "2026-08-20T10:11:12.123456789+02:00"
    daemon.supervisor.output = [Piece("stderr", b"x\n", time)]
    peer = await daemon.connect()
    await peer.send(
        wire.Logs(session=SESSION, stream="stderr", since=NOON, tail=0, timestamps=True)
    )
    assert await peer.all() == [
        wire.Output(stream="stderr", data=b"x\n", time=time),
        wire.EndOfOutput(),
    ]
    assert daemon.supervisor.choices == [Choice(("stderr",), NOON, 0, timestamps=True)]


async def test_output_comes_in_pieces_that_every_client_takes(daemon: Daemon) -> None:
    data = bytes(2 * wire.MAX_OUTPUT_BYTES + 1)
    daemon.supervisor.output = [Piece("stdout", data), Piece("stderr", b"x")]
    peer = await daemon.connect()
    await peer.send(wire.Logs(session=SESSION))
    *output, _end = await peer.all()
    sizes = [(each.stream, len(each.data)) for each in output if isinstance(each, wire.Output)]
    most = wire.MAX_OUTPUT_BYTES
    assert sizes == [("stdout", most), ("stdout", most), ("stdout", 1), ("stderr", 1)]


@pytest.mark.contract("DMN-33")
@pytest.mark.parametrize("bug", [KeyError("bug"), ExceptionGroup("g", [KeyError("bug")])])
async def test_a_bug_costs_one_connection_and_is_logged(
    daemon: Daemon, logged: list[dict[str, Any]], bug: Exception
) -> None:
    daemon.supervisor.refusal = bug
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert await peer.all() == []
    assert [(line["event"], line["error"]) for line in logged] == [
        ("agentd.operator_connection_panicked", "KeyError('bug')")
    ]
    other = await daemon.connect()
    await other.send(wire.Ping())
    assert isinstance(await only(other), wire.Pong)


@pytest.mark.contract("SOC-17", "F-35")
@pytest.mark.parametrize(
    "sent",
    [b"", wire.frame(bytes(100))[:50], wire.frame(bytes(100_000))[:70_000]],
    ids=["nothing", "half", "half of a large one"],
)
async def test_a_peer_that_falls_silent_does_not_hold_up_the_drain(
    daemon: Daemon, sent: bytes
) -> None:
    peer = await daemon.connect()
    await peer.stream.send_all(sent)
    await trio.testing.wait_all_tasks_blocked()
    daemon.intake.drain()
    text = "agentd is shutting down"
    assert await failure(peer) == wire.Failed(code="shutting_down", message=text)


@pytest.mark.contract("SOC-17")
async def test_a_request_that_races_with_the_drain_is_refused(daemon: Daemon) -> None:
    daemon.intake.drain()
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert (await failure(peer)).code == "shutting_down"
    assert daemon.supervisor.started == []


@pytest.mark.contract("DMN-29")
async def test_a_session_that_runs_during_the_drain_is_told_to_its_end(daemon: Daemon) -> None:
    peer = await daemon.connect()
    await peer.send(wire.Run(agent="a"))
    assert isinstance(await peer.next(), wire.Accepted)
    daemon.intake.drain()
    daemon.supervisor.session.may_end.set()
    assert await peer.all() == [RUNNING, CLOSING, SUCCESS]


@pytest.mark.contract("SOC-07", "SES-29")
def test_an_outcome_is_told_with_what_could_not_be_removed() -> None:
    assert terminal(ended(TIMED_OUT, "stuck")) == wire.Finished(
        session_id=SESSION, outcome=TIMED_OUT, teardown_error="stuck"
    )


@pytest.mark.contract("SOC-09")
def test_an_end_without_an_outcome_is_a_failure() -> None:
    assert terminal(ended(errors.ExitCodeLost("lost"))) == wire.Failed(
        code="exit_code_lost", message="lost", session_id=SESSION
    )
