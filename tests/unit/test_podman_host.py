"""Finding the Podman service at startup, and what is refused about it."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from agentd import podman_host
from agentd.errors import HostUnsupported, PodmanUnreachable
from agentd.peer_credentials import peer_uid
from agentd.podman import Host
from agentd.podman_host import check_version, find_podman


@pytest.mark.contract("DMN-02")
@pytest.mark.parametrize("version", ["4.3.0", "4.3.1", "4.10.0", "5.0.0", "5.4.2-rc1", "10.0"])
def test_a_podman_that_is_new_enough_is_taken(version: str) -> None:
    check_version(version)


@pytest.mark.contract("DMN-02")
@pytest.mark.parametrize("version", ["4.2.9", "3.4.4", "0.1.2", "", "five", "4", "v4.3.1"])
def test_any_other_is_refused_by_its_version_with_advice(version: str) -> None:
    with pytest.raises(HostUnsupported, match=rf"Podman is {version} .* needs 4\.3 .* upgrade"):
        check_version(version)


@pytest.mark.contract("DMN-12")
async def test_an_absent_podman_is_waited_for_and_then_told_with_its_place(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No real socket is opened here: a clock that jumps must not run over one."""
    asked = 0

    async def ask(socket_path: Path) -> Host:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        raise PodmanUnreachable(f"no Podman service answers at {socket_path}")

    monkeypatch.setattr(podman_host, "_ask", ask)
    with pytest.raises(PodmanUnreachable, match=str(tmp_path / "podman.sock")) as caught:
        await find_podman(tmp_path / "podman.sock", {})
    assert asked == 40
    assert caught.value.exit_code == 6


@pytest.mark.contract("DMN-12")
async def test_a_podman_that_is_gone_just_after_its_answer_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It cannot be told when to go: this one's answers do not come through its socket."""
    monkeypatch.chdir(tmp_path)
    place = Path("podman.sock")
    with socket.socket(socket.AF_UNIX) as service:

        async def info() -> SimpleNamespace:
            await trio.lowlevel.checkpoint()
            if asked.pop() == "again":
                service.bind(str(place))
                service.listen()
            return SimpleNamespace(podman_version="4.3.1")

        @asynccontextmanager
        async def opened(_path: Path) -> AsyncIterator[SimpleNamespace]:
            await trio.lowlevel.checkpoint()
            yield SimpleNamespace(info=info)

        asked = ["again", "once"]
        monkeypatch.setattr(podman_host, "open_podman", opened)
        found, _ = await find_podman(place, {})
    assert (found, asked) == (place, [])


@pytest.mark.contract("DMN-12")
async def test_a_podman_that_is_too_old_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def ask(_socket_path: Path) -> Host:
        await trio.lowlevel.checkpoint()
        check_version("3.4.4")
        raise AssertionError

    monkeypatch.setattr(podman_host, "_ask", ask)
    with pytest.raises(HostUnsupported, match=r"3\.4\.4"):
        await find_podman(tmp_path / "podman.sock", {})


async def test_a_socket_that_exists_is_taken_before_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    present = tmp_path / "present.sock"
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(present.name)
    asked = []

    async def ask(socket_path: Path) -> Host:
        asked.append(socket_path)
        await trio.lowlevel.checkpoint()
        raise HostUnsupported("enough")

    monkeypatch.setattr(podman_host, "_ask", ask)
    candidates = (tmp_path / "absent.sock", present)
    monkeypatch.setattr("agentd.podman_host.paths.podman_sockets", lambda *_args: candidates)
    with pytest.raises(HostUnsupported):
        await find_podman(None, {"XDG_RUNTIME_DIR": "/x"})
    assert asked == [present]


async def test_the_other_end_of_a_socket_is_known_by_its_uid() -> None:
    ours, theirs = trio.socket.socketpair()
    with ours, theirs:
        await trio.lowlevel.checkpoint()
        assert peer_uid(ours) == os.geteuid()
