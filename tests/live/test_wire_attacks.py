"""The daemon's socket under attack: it refuses with a code, stays small, and goes on serving.

With AGENTD_TESTS_LONG=1 a million frames are sent, else a few thousand. `pytest -s` shows figures.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from agentd import wire
from agentd.client import Client as TrioClient
from agentd.daemon.intake import (
    DESCRIPTOR_SHARE,
    LARGE_AT_ONCE,
    MAX_WAITING,
    REQUEST_SECONDS,
)
from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table
from testbed.hostile_peer import REFUSED_AGENT, connected, judged, read_all, said
from testbed.processes import ProcessFigures, wait_until
from tests.conftest import LONG

pytestmark = [pytest.mark.live, pytest.mark.timeout(3600 if LONG else 300)]

ATTACKERS: Final = 4
FRAMES: Final = (1_000_000 if LONG else 4000) // ATTACKERS
"""That each attacker sends."""

MEBIBYTE: Final = 1024 * 1024
ALLOWED: Final = 160 * MEBIBYTE
"""How far the daemon may grow under attack: 256 peers with a small request that is not whole, and
four with a large one, in the copies that receiving and decoding it make."""

FEW_DESCRIPTORS: Final = 80

CHATTY: Final = "head -c 3000000 /dev/zero | tr '\\0' x | fold -w 999"
PING: Final = wire.frame(wire.encode(wire.Ping()))


class Process(ProcessFigures):
    """What the kernel says of the daemon."""

    def __init__(self, agentd: Agentd) -> None:
        assert agentd.process is not None
        super().__init__(agentd.process.pid)

    def descriptors(self) -> int:
        return len(self._open())

    def first_free(self) -> int:
        used = self._open()
        return next(number for number in itertools.count() if number not in used)

    def _open(self) -> set[int]:
        return {int(path.name) for path in (self._proc / "fd").iterdir()}


class Pings:
    """Asks whether the daemon is there, while something else happens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.slowest = 0.0
        self.number = 0

    def ping(self) -> None:
        began = time.monotonic()
        assert said(self._path, PING) == "Pong"
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.number += 1


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Iterator[Agentd]:
    """A daemon; whatever the attacks were, nothing went wrong in it."""
    agentd = start_agentd(declare(), declare(REFUSED_AGENT, methodology_dir="/nowhere"))
    yield agentd
    assert agentd.log is not None
    lines = [json.loads(line) for line in agentd.log.text.splitlines()]
    assert [line for line in lines if line["level"] == "error"] == []


@pytest.fixture(scope="module")
def warm(agentd: Agentd) -> Process:
    """The daemon once it has had a session: its memory is then as large as an idle one's."""
    assert agentd.script("true").wait().code == 0
    return Process(agentd)


@pytest.fixture
def bounded(agentd: Agentd, warm: Process, request: pytest.FixtureRequest) -> Iterator[Pings]:
    """Memory and descriptors stay bounded, and all descriptors come back."""
    descriptors = warm.descriptors()
    warm.forget_peak()
    before = warm.memory("VmRSS")
    pings = Pings(agentd.socket)
    yield pings
    peak = warm.memory("VmHWM")
    print(
        f"\n{request.node.name}:"
        f" memory {before / MEBIBYTE:.0f} MiB, peak {peak / MEBIBYTE:.0f} MiB;"
        f" {pings.number} pings, slowest {pings.slowest * 1000:.0f} ms; {descriptors} descriptors"
    )
    assert peak - before < ALLOWED

    def all_closed() -> bool:
        if warm.descriptors() <= descriptors:
            return True
        # A connection to Podman that has expired is closed when the next call is made.
        trio.run(TrioClient(agentd.socket).status)
        return False

    wait_until("all descriptors are closed", all_closed)


@contextmanager
def connections(agentd: Agentd, number: int, sent: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections that have sent something and do not read."""
    with ExitStack() as stack:
        peers = []
        for _ in range(number):
            peer = stack.enter_context(connected(agentd.socket))
            peer.sendall(sent)
            peers.append(peer)
        yield peers


@pytest.fixture
def held(agentd: Agentd) -> Iterator[Client]:
    """A session that waits and writes nothing."""
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    yield client
    client.record.release()
    assert client.wait().code == 0


def logs_of(client: Client) -> bytes:
    return wire.frame(wire.encode(wire.Logs(session=client.session_id, follow=True)))


def output(reply: bytes) -> bytes:
    """The output in a reply that is whole."""
    assert judged(PING, reply) == "EndOfOutput"
    buffer = wire.FrameBuffer()
    buffer.feed(reply)
    events = map(wire.decode_event, iter(buffer.next_body, None))
    return b"".join(event.data for event in events if isinstance(event, wire.Output))


def run_of(agent: str, size: int) -> bytes:
    given = wire.ArtifactInput(artifact_type="t", artifact_id="i", document=bytes(size))
    return wire.frame(wire.encode(wire.Run(agent=agent, input=given)))


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.contract("SOC-10", "SOC-13", "F-20", "DMN-33")
def test_hostile_frames_get_a_code_each_and_a_ping_its_answer_meanwhile(
    agentd: Agentd, bounded: Pings
) -> None:
    records = agentd.records()
    began = time.monotonic()
    attackers = [
        subprocess.Popen(
            [sys.executable, "-m", "testbed.hostile_peer", agentd.socket, str(seed), str(FRAMES)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(ATTACKERS)
    ]
    while any(attacker.poll() is None for attacker in attackers):
        bounded.ping()
        with suppress(subprocess.TimeoutExpired):
            attackers[0].wait(0.02)
    ended = [attacker.communicate() for attacker in attackers]
    assert [stderr for _, stderr in ended] == [""] * ATTACKERS
    replies = sum((Counter(json.loads(stdout)) for stdout, _ in ended), Counter[str]())
    print(f"\n{replies.total()} frames in {time.monotonic() - began:.0f} s: {dict(replies)}")
    assert replies.total() == ATTACKERS * FRAMES
    expected = {"Pong", "Sessions", "protocol_error", "protocol_mismatch", "unknown_agent"}
    assert expected | {"unknown_session", "methodology_unusable"} <= set(replies)
    # A run that was abandoned may still be looked at: it probes the audit root.
    wait_until("no run has left a record", lambda: agentd.records() == records)


HOSTILE_IDS: Final[list[object]] = [
    *("", "*", "..", "../../../../etc", "/etc/passwd", "nul\0nul", "\x1b[2J", "[0-9a-f]", "f" * 17),
    *("x" * wire.MAX_NAME, "x" * (wire.MAX_NAME + 1), "x" * (wire.MAX_FRAME_BYTES - 100)),
    *(b"\xff" * 16, None, 16, [], msgspec.Raw(b"\xa3\xed\xa0\x80")),
]


@pytest.mark.contract("SOC-10", "F-20", "F-53")
@pytest.mark.parametrize("type_", ["logs", "stop"])
def test_a_hostile_id_is_refused_with_a_code(agentd: Agentd, bounded: Pings, type_: str) -> None:
    for hostile in HOSTILE_IDS:
        request = {"type": type_, "protocol": wire.PROTOCOL, "session": hostile}
        code = said(agentd.socket, wire.frame(msgspec.msgpack.encode(request)))
        assert code in {"unknown_session", "protocol_error"}, (hostile, code)
    bounded.ping()


@pytest.mark.contract("SOC-09", "F-20")
@pytest.mark.parametrize("field", ["agent", "repo_url", "work_unit"])
def test_a_run_with_words_as_long_as_a_frame_is_refused_in_one_line(
    agentd: Agentd, bounded: Pings, field: str
) -> None:
    assert agentd.log is not None
    written = len(agentd.log.text)
    run = {"type": "run", "protocol": wire.PROTOCOL, "agent": "unknown"}
    huge = {**run, field: "x" * (wire.MAX_FRAME_BYTES - 100)}
    assert said(agentd.socket, wire.frame(msgspec.msgpack.encode(huge))) == "protocol_error"
    bounded.ping()
    assert len(agentd.log.text) - written < 10_000


@pytest.mark.contract("F-20")
def test_frames_of_the_greatest_size_are_answered_and_forgotten(
    agentd: Agentd, bounded: Pings
) -> None:
    whole = run_of("unknown", wire.MAX_FRAME_BYTES - 1000)
    for _ in range(20):
        assert said(agentd.socket, whole) == "unknown_agent"
        assert said(agentd.socket, whole[:-1]) == "protocol_error"
    bounded.ping()


@pytest.mark.contract("SOC-12")
def test_a_request_that_comes_a_byte_at_a_time_is_answered(agentd: Agentd, bounded: Pings) -> None:
    with connections(agentd, 1) as (slow,):
        for byte in PING:
            slow.sendall(bytes([byte]))
            bounded.ping()
        assert judged(PING, read_all(slow)) == "Pong"


# --- peers that do not go on ---------------------------------------------------------------------


@pytest.mark.contract("F-20", "F-35", "DMN-23")
def test_500_silent_connections_lock_nobody_out(agentd: Agentd, bounded: Pings) -> None:
    with connections(agentd, 500) as peers:
        bounded.ping()
        assert agentd.command("ps").wait().code == 0
        given_up = [judged(b"-", read_all(peer)) for peer in peers[: 500 - MAX_WAITING]]
    assert Counter(given_up) == {"too_many_connections": 500 - MAX_WAITING}


@pytest.mark.contract("F-20")
def test_large_requests_that_stall_hold_up_no_other_large_one_for_long(
    agentd: Agentd, bounded: Pings
) -> None:
    with connections(agentd, LARGE_AT_ONCE, run_of("unknown", 4 * MEBIBYTE)[:200_000]):
        bounded.ping()
        began = time.monotonic()
        assert said(agentd.socket, run_of("unknown", 4 * MEBIBYTE)) == "unknown_agent"
        took = time.monotonic() - began
    print(f"\na large request behind {LARGE_AT_ONCE} that stall: {took:.1f} s")
    assert took < REQUEST_SECONDS


@pytest.mark.contract("F-20")
def test_small_requests_that_stall_stay_small(agentd: Agentd, bounded: Pings) -> None:
    with connections(agentd, MAX_WAITING, run_of("unknown", 4 * MEBIBYTE)[:60_000]):
        bounded.ping()


# --- followers -----------------------------------------------------------------------------------


@pytest.mark.contract("SOC-14", "F-60")
def test_50_followers_that_never_read_hold_up_nobody(agentd: Agentd, bounded: Pings) -> None:
    client = agentd.script(f"{HOLD}; {CHATTY}")
    client.wait_for_line("ready")
    with connections(agentd, 50, logs_of(client)):
        client.record.release()
        bounded.ping()
        ended = client.wait()
        bounded.ping()
    assert (ended.code, ended.stdout.count("x")) == (0, 3_000_000)


@pytest.mark.contract("F-53", "F-60")
def test_many_followers_of_one_session_all_get_all_of_it(agentd: Agentd, bounded: Pings) -> None:
    client = agentd.script(f"{HOLD}; {CHATTY}")
    client.wait_for_line("ready")
    with connections(agentd, 20, logs_of(client)) as peers:
        client.record.release()
        bounded.ping()
        got = {output(read_all(peer)).count(b"x") for peer in peers}
    assert (client.wait().code, got) == (0, {3_000_000})


@pytest.mark.contract("SOC-14", "F-20")
def test_followers_of_a_silent_session_cost_nothing_once_they_are_gone(
    agentd: Agentd, warm: Process, held: Client
) -> None:
    before = warm.descriptors()
    with connections(agentd, 50, logs_of(held)) as peers:
        for peer in peers:
            assert peer.recv(1)
        assert warm.descriptors() >= before + 50
    wait_until("their descriptors are closed", lambda: warm.descriptors() <= before)
    assert held.process.poll() is None


@pytest.mark.contract("F-20", "SOC-14")
def test_more_followers_than_descriptors_leave_a_session_enough_to_end_well(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    own_agentd.configure(declare())
    limited = f'ulimit -n {FEW_DESCRIPTORS}; exec "$@"'
    own_agentd.program = ("/bin/sh", "-c", limited, "sh", *own_agentd.program)
    own_agentd.start()
    client = own_agentd.script(HOLD)
    client.wait_for_line("ready")
    # The session's own client is one of them too.
    most = FEW_DESCRIPTORS // DESCRIPTOR_SHARE - 1
    with connections(own_agentd, most, logs_of(client)) as peers:
        for peer in peers:
            assert peer.recv(1)
        code = said(own_agentd.socket, PING)
        client.record.release()
        ended = client.wait()
    assert (code, ended.code) == ("too_many_connections", 0)
    assert ended.record.facts["outcome"] == "success"
    assert own_agentd.drained() == 0


# --- no descriptor left --------------------------------------------------------------------------


@pytest.mark.contract("F-20", "DMN-23")
def test_a_daemon_out_of_descriptors_says_so_once_keeps_its_sessions_and_recovers(
    agentd: Agentd, warm: Process, held: Client
) -> None:
    assert agentd.process is not None
    pid = agentd.process.pid
    usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # As if all the others were in use: the next connection is one too many.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (warm.first_free(), usual[1]))
    with connections(agentd, 50, PING) as peers:
        try:
            agentd.wait_for("agentd.connections_wait")
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        assert {judged(PING, read_all(peer)) for peer in peers} == {"Pong"}
    assert len(agentd.events(event="agentd.connections_wait")) == 1
    assert held.process.poll() is None
