"""Finding a daemon at its usual places, and not falling into what others have laid there."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from agentd import discovery, paths, wire
from agentd.cli.app import run_command_line
from agentd.errors import DaemonUnreachable, ProtocolMismatch

pytestmark = pytest.mark.contract("RTP-09")

SOMEBODY = 12345
PONG = wire.Pong(version="0.1.1")
OLD = wire.Failed(code=ProtocolMismatch.code, message="another protocol")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="agentd-") as directory:
        yield Path(directory)


def place(base: Path, name: str = "here") -> Path:
    directory = base / name
    directory.mkdir(mode=0o700)
    return directory / "agentd.sock"


def bound(path: Path) -> Path:
    """A socket at `path` at which nobody listens."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


@asynccontextmanager
async def daemon(path: Path, says: wire.Event = PONG) -> AsyncIterator[list[wire.Request]]:
    """One that answers everything with `says`; gives what it was asked."""
    asked = []

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(wire.decode_request((await stream.receive_some(1024))[4:]))
            await stream.send_all(wire.frame(wire.encode(says)))

    with trio.socket.socket(trio.socket.AF_UNIX) as server:
        await server.bind(str(path))
        server.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, answer, [trio.SocketListener(server)])
            yield asked
            nursery.cancel_scope.cancel()


# --- which places --------------------------------------------------------------------------------


def test_there_are_three_places() -> None:
    found = paths.well_known_sockets({"XDG_RUNTIME_DIR": "/run/user/7"}, 7)
    assert [str(path) for path in found] == [
        "/run/user/7/agentd/agentd.sock",
        "/tmp/agentd-7/agentd.sock",
        "/run/agentd/agentd.sock",
    ]


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run"}])
def test_without_a_runtime_directory_there_are_two(environ: dict[str, str]) -> None:
    assert len(paths.well_known_sockets(environ, 7)) == 2


# --- which of them -------------------------------------------------------------------------------


async def test_the_first_that_answers_is_taken(base: Path) -> None:
    absent, silent, third, fourth = (place(base, name) for name in "abcd")
    bound(silent)
    async with daemon(third) as asked, daemon(fourth) as never_asked:
        assert await discovery.first_answering([absent, silent, third, fourth]) == third
    assert ([type(each) for each in asked], never_asked) == ([wire.Ping], [])


async def test_what_answers_with_anything_but_a_pong_is_passed_over(base: Path) -> None:
    other, right = place(base, "a"), place(base, "b")
    async with daemon(other, OLD), daemon(right):
        assert await discovery.first_answering([other, right]) == right


async def test_what_does_not_answer_at_all_is_passed_over(
    base: Path, autojump_clock: trio.testing.MockClock
) -> None:
    hanging, right = place(base, "a"), place(base, "b")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(hanging))
        server.listen()
        with pytest.raises(DaemonUnreachable, match="no answer within 3 s"):
            await discovery.first_answering([hanging, right])


async def test_when_none_answers_each_is_named_with_the_reason(base: Path) -> None:
    absent, silent = place(base, "a"), bound(place(base, "b"))
    with pytest.raises(DaemonUnreachable) as caught:
        await discovery.first_answering([absent, silent])
    told = str(caught.value)
    assert f"{absent}: No such file" in told
    assert f"{silent}: agentd is not running" in told
    assert "--socket-path" in told


# --- traps ---------------------------------------------------------------------------------------


def foreign(path: Path) -> int:
    """Let `path` be somebody else's than the uid's that this gives."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, SOMEBODY)
        return 0
    return os.geteuid() + 1


def test_a_socket_of_ones_own_is_no_trap(base: Path) -> None:
    assert discovery.trap(bound(place(base)), os.geteuid()) is None


def test_a_directory_of_somebody_else_is_a_trap(base: Path) -> None:
    path = bound(place(base))
    told = discovery.trap(path, foreign(path.parent)) or ""
    assert told.startswith("its directory is not trusted: it belongs to uid")


def test_a_socket_of_somebody_else_is_a_trap(base: Path) -> None:
    path = bound(place(base))
    if os.geteuid():
        pytest.skip("only root can give a file away and keep its directory")
    assert discovery.trap(path, foreign(path)) == "it is not trusted: it belongs to uid 12345"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_in_which_others_write_is_a_trap(base: Path, mode: int) -> None:
    path = bound(place(base))
    path.parent.chmod(mode)
    told = discovery.trap(path, os.geteuid())
    assert told == "its directory is not trusted: others can write there"


def test_a_link_to_a_directory_is_a_trap(base: Path) -> None:
    real = bound(place(base))
    (base / "link").symlink_to(real.parent)
    told = discovery.trap(base / "link/agentd.sock", os.geteuid())
    assert told == "its directory is not trusted: it is a link or a file"


def test_a_link_to_a_socket_is_a_trap(base: Path) -> None:
    real, linked = bound(place(base)), place(base, "there")
    linked.symlink_to(real)
    assert discovery.trap(linked, os.geteuid()) == "it is no socket"


async def test_a_trap_is_sent_nothing(base: Path) -> None:
    path = place(base)
    path.parent.chmod(0o777)
    async with daemon(path) as asked:
        with pytest.raises(DaemonUnreachable, match="others can write there"):
            await discovery.first_answering([path])
    assert asked == []


# --- the option ----------------------------------------------------------------------------------

COMMANDS = [
    ("status",),
    ("ps",),
    ("run", "a"),
    ("logs", "a"),
    ("stop", "a"),
    ("inspect", "a"),
    ("agents",),
    ("schedule", "a"),
    ("shutdown",),
]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_socket_that_is_named_is_not_looked_for(
    capfd: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert run_command_line([*words, "--discover", "--socket-path", "x"]) == 2
    assert "--discover and --socket-path" in capfd.readouterr().err
