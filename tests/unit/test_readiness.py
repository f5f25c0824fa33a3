"""Waiting until a daemon and its Podman answer."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from agentd import readiness, wire
from agentd.errors import DaemonUnreachable
from tests.unit.builders import NOON

pytestmark = pytest.mark.contract("F-61")

SECONDS = 20.0
NEVER = 1e6
WELL = wire.Status(
    version="0.1.1",
    started_at=NOON,
    sessions=0,
    queued=0,
    podman_socket="/p",
    podman_version="5",
    rootless=True,
)
AWAY = msgspec.structs.replace(WELL, podman_error="no Podman")


@pytest.fixture
def place() -> Iterator[Path]:
    """A socket's path below directories that are not there."""
    with tempfile.TemporaryDirectory(prefix="agentd-") as base:
        yield Path(base, "run/agentd/agentd.sock")


@contextmanager
def listening(path: Path) -> Iterator[trio.SocketListener]:
    """Bound and listening at once: between the two there is no file event to wait for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield trio.SocketListener(trio.socket.from_stdlib_socket(server))


async def serve(listener: trio.SocketListener, *answers: wire.Event) -> None:
    """Answer so many connections, and no more."""
    for answer in answers:
        stream = await listener.accept()
        async with stream:
            await stream.receive_some(1024)
            await stream.send_all(wire.frame(wire.encode(answer)))


async def ready(path: Path) -> wire.Status:
    with trio.fail_after(SECONDS):
        return await readiness.wait_ready(path, NEVER)


async def test_a_daemon_that_answers_is_not_waited_for(place: Path) -> None:
    with listening(place) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, WELL)
            assert await ready(place) == WELL


async def test_a_daemon_is_seen_when_its_socket_appears(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the directory is there at first, and no time passes that would lead to a look."""
    monkeypatch.setattr(readiness, "RETRY_SECONDS", NEVER)
    found = []

    async def wait() -> None:
        found.append(await ready(place))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        for directory in reversed(place.parents):
            if not directory.exists():
                await trio.testing.wait_all_tasks_blocked(0.05)
                directory.mkdir()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert found == []
        with listening(place) as listener:
            await serve(listener, WELL)
    assert found == [WELL]


async def test_a_podman_that_is_away_is_asked_for_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "RETRY_SECONDS", 0.01)
    with listening(place) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, AWAY, AWAY, WELL)
            assert await ready(place) == WELL


@pytest.mark.parametrize("code", ["shutting_down", "too_many_connections"])
async def test_a_daemon_that_makes_way_or_is_crowded_is_asked_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """As in a hand-over, in which one daemon refuses until the next one has the socket."""
    monkeypatch.setattr(readiness, "RETRY_SECONDS", 0.01)
    refusal = wire.Failed(code=code, message="not now")
    with listening(place) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, refusal, refusal, WELL)
            assert await ready(place) == WELL


async def test_when_time_is_up_the_last_status_is_told(place: Path) -> None:
    with listening(place) as listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, AWAY)
            assert await readiness.wait_ready(place, 0.5) == AWAY


async def test_when_time_is_up_and_nobody_answered_that_is_an_error(place: Path) -> None:
    with pytest.raises(DaemonUnreachable, match=r"not ready after 0\.01 s: agentd is not running"):
        await readiness.wait_ready(place, 0.01)
