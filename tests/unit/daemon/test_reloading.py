"""Reading the configuration again: all of it counts or none, and it is said what has changed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack, cast
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.testing

from agentd import config, wire
from agentd.current import Current
from agentd.daemon import reloading
from agentd.daemon.notify import Notifier
from agentd.daemon.reloading import Reloading
from agentd.daemon.scheduler import Scheduler
from agentd.daemon.signals import Shutdown
from agentd.errors import (
    AgentdError,
    ConfigError,
    DiskTimeout,
    HostUnsupported,
    RestartNeeded,
    RuntimePathError,
    ShuttingDown,
)
from tests.unit.conftest import LogLines

pytestmark = pytest.mark.contract("F-57")


def document(*agents: str, daemon: str = "") -> str:
    """A configuration; an agent is its name, or its name and more of its keys."""
    tables = [
        f'[[agents]]\nname = "{name}"\nbase_image = "i"\nmethodology_dir = "m"\n'
        f'command = {{ argv = ["work"] }}\n{keys}\n'
        for name, _, keys in (agent.partition("\n") for agent in agents)
    ]
    return "\n".join([f"[daemon]\n{daemon}\n", *tables])


PODMAN_SOCKET = Path("/run/user/0/podman/podman.sock")


class FakeNotifier:
    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def reloading(self) -> Iterator[None]:
        self.told.append("reloading")
        try:
            yield
        finally:
            self.told.append("ready")


async def no_dispatch(agent: str, /, **options: Unpack[wire.RunOptions]) -> wire.Accepted:
    raise AssertionError(agent, options)


class World:
    """A daemon's configuration, and what reads it again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"XDG_RUNTIME_DIR": "/run/user/0", "XDG_STATE_HOME": "/state"}
        path.parent.mkdir(exist_ok=True)
        path.write_text(document("a", "b"))
        self.current = Current(config.load(path, self.environ))
        self.shutdown = Shutdown()
        self.notifier = FakeNotifier()
        self.zone: ZoneInfo | Exception = ZoneInfo("UTC")
        self.reloading = Reloading(
            path,
            self.environ,
            self.current,
            podman_socket=PODMAN_SOCKET,
            scheduler=Scheduler(self.current, self.find_zone, no_dispatch),
            notifier=cast(Notifier, self.notifier),
            shutdown=self.shutdown,
        )

    def find_zone(self) -> ZoneInfo:
        if isinstance(self.zone, Exception):
            raise self.zone
        return self.zone

    @property
    def agents(self) -> list[str]:
        return [agent.name for agent in self.current.config.agents]

    async def refused(self, kind: type[AgentdError]) -> str:
        """What is said of a reload that changes nothing."""
        before = self.current.config
        with pytest.raises(kind) as raised:
            await self.reloading.reload("client")
        assert self.current.config is before
        return raised.value.message


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path / "etc" / "agentd.toml")


async def test_what_has_changed_is_told(world: World) -> None:
    limits = "[agents.limits]\npids = 77"
    world.path.write_text(document(f'b\ntimeout = "2h"\n{limits}', "c", daemon="max_sessions=3"))
    assert await world.reloading.reload("client") == wire.Reloaded(
        config=str(world.path),
        added=("c",),
        removed=("a",),
        changed={"b": ("timeout", "limits.pids")},
        daemon=("max_sessions",),
    )
    assert (world.agents, world.current.config.daemon.max_sessions) == (["b", "c"], 3)


async def test_what_has_changed_is_one_line_of_the_log_without_values(
    world: World, logged: LogLines
) -> None:
    secret = 'b\nrepo = "https://example.org/s3cret"\nenvironment = { KEY = "s3cret" }'
    world.path.write_text(document(secret, "c", daemon="max_sessions=3"))
    await world.reloading.reload("SIGHUP")
    (line,) = logged
    assert (line["event"], line["level"], line["by"]) == (
        "agentd.config_reloaded",
        "info",
        "SIGHUP",
    )
    assert (line["added"], line["removed"]) == (["c"], ["a"])
    assert (line["changed"], line["daemon"]) == (["b.repo", "b.environment"], ["max_sessions"])
    assert "s3cret" not in json.dumps(line)


async def test_a_file_that_has_not_changed_changes_nothing(world: World) -> None:
    told = await world.reloading.reload("client")
    assert (told.added, told.removed, told.changed, told.daemon) == ((), (), {}, ())


async def test_of_a_bad_file_every_problem_is_told(world: World) -> None:
    world.path.write_text(document("a\nscedule = 1", "a", daemon="max_sessions = -1"))
    message = await world.refused(ConfigError)
    assert [word for word in ("scedule", "duplicate", "max_sessions") if word not in message] == []


async def test_a_bad_file_is_one_line_of_the_log(world: World, logged: LogLines) -> None:
    world.path.write_text(document("a\nscedule = 1", "b\nrepo = 'https://u:s3cret@example.org/x'"))
    await world.refused(ConfigError)
    (line,) = logged
    assert (line["event"], line["level"]) == ("agentd.config_reload_failed", "error")
    assert (line["by"], line["error_code"]) == ("client", "config_invalid")
    assert ("scedule" in line["error"], "s3cret" in line["error"]) == (True, False)


async def test_a_file_that_is_gone_changes_nothing(world: World) -> None:
    world.path.unlink()
    assert "No such file" in await world.refused(ConfigError)


async def test_a_file_that_needs_a_runtime_directory_which_is_not_there_changes_nothing(
    world: World,
) -> None:
    del world.environ["XDG_RUNTIME_DIR"]
    assert "XDG_RUNTIME_DIR" in await world.refused(RuntimePathError)


async def test_keys_that_cannot_change_are_named_and_nothing_changes(world: World) -> None:
    world.path.write_text(document("c", daemon='max_sessions=3\naudit_root="/x"\npid_file="/y"'))
    message = await world.refused(RestartNeeded)
    assert "daemon.pid_file, daemon.audit_root; nothing was changed" in message
    assert "max_sessions" not in message


@pytest.mark.parametrize(
    "key",
    [
        'socket_path = "/run/user/0/agentd/agentd.sock"',
        'pid_file = "/run/user/0/agentd/agentd.pid"',
        'audit_root = "/state/tesserine/audit"',
        f'podman_socket = "{PODMAN_SOCKET}"',
    ],
)
async def test_a_path_that_is_what_it_was_by_default_is_no_change(world: World, key: str) -> None:
    world.path.write_text(document("a", "b", daemon=key))
    assert (await world.reloading.reload("client")).daemon == ()
    world.path.write_text(document("a", "b"))
    assert (await world.reloading.reload("client")).daemon == ()


@pytest.mark.parametrize(
    "key", ['audit_root = "/state/tesserine"', 'podman_socket = "/run/other.sock"']
)
async def test_a_path_that_is_another_than_the_default_needs_a_restart(
    world: World, key: str
) -> None:
    world.path.write_text(document("a", "b", daemon=key))
    assert f"daemon.{key.split(maxsplit=1)[0]}; nothing" in await world.refused(RestartNeeded)


async def test_a_schedule_without_a_time_zone_changes_nothing(world: World) -> None:
    world.zone = HostUnsupported("TZ names no time zone")
    world.path.write_text(document('a\nrepo = "https://example.org/x"\nschedule = "@daily"'))
    assert "no time zone" in await world.refused(HostUnsupported)


async def test_a_daemon_that_ends_reads_nothing(world: World) -> None:
    world.shutdown.begin("client", leave=False)
    await world.refused(ShuttingDown)
    assert world.notifier.told == []


async def test_a_daemon_that_begins_to_end_meanwhile_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, environ: dict[str, str]) -> config.Config:
        trio.from_thread.run_sync(lambda: world.shutdown.begin("SIGTERM", leave=False))
        return config.Config(world.current.config.daemon, ())

    monkeypatch.setattr(config, "load", load)
    await world.refused(ShuttingDown)


async def test_a_file_that_does_not_answer_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO, as a file system that hangs."""
    world.path.unlink()
    os.mkfifo(world.path)
    monkeypatch.setattr(reloading, "DISK_SECONDS", 0.01)
    assert str(world.path) in await world.refused(DiskTimeout)
    # Lets the thread go that was left behind.
    world.path.open("w").close()


async def test_of_two_at_once_the_second_reads_after_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So neither undoes what the other has read later."""
    reading, go_on = threading.Semaphore(0), threading.Semaphore(0)
    load, under_way, most = config.load, 0, 0

    def slow_load(path: Path, environ: dict[str, str]) -> config.Config:
        nonlocal under_way, most
        under_way, most = under_way + 1, max(most, under_way + 1)
        loaded = load(path, environ)
        reading.release()
        go_on.acquire()
        under_way -= 1
        return loaded

    monkeypatch.setattr(config, "load", slow_load)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reloading.reload, "first")
        await trio.to_thread.run_sync(reading.acquire)
        world.path.write_text(document("c"))
        nursery.start_soon(world.reloading.reload, "second")
        await trio.testing.wait_all_tasks_blocked()
        go_on.release()
        go_on.release()
    assert (most, world.agents) == (1, ["c"])


async def test_systemd_hears_of_the_beginning_and_of_the_end_also_when_it_fails(
    world: World,
) -> None:
    await world.reloading.reload("client")
    world.path.unlink()
    await world.refused(ConfigError)
    assert world.notifier.told == ["reloading", "ready"] * 2


async def test_each_hangup_is_obeyed_whatever_comes_of_it(world: World, logged: LogLines) -> None:
    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.reloading.obey, receive)
        world.path.write_text("nonsense")
        await send.send(1)
        await trio.testing.wait_all_tasks_blocked(0.01)
        world.path.write_text(document("c"))
        await send.send(1)
        await world.current.other_than(world.current.config)
        world.shutdown.complete.set()
    assert world.agents == ["c"]
    assert [line["event"] for line in logged] == [
        "agentd.config_reload_failed",
        "agentd.config_reloaded",
    ]


# --- how files are replaced ----------------------------------------------------------------------


async def test_a_file_that_another_one_was_renamed_to_is_read(world: World) -> None:
    new = world.path.with_suffix(".new")
    new.write_text(document("c"))
    new.rename(world.path)
    await world.reloading.reload("client")
    assert world.agents == ["c"]


async def test_a_directory_that_is_a_link_may_be_switched(tmp_path: Path) -> None:
    """As configuration management does; relative paths follow, so no agent has changed for it."""
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
    link = tmp_path / "etc"
    link.symlink_to("v1")
    world = World(link / "agentd.toml")
    (tmp_path / "v2/agentd.toml").write_text(document("a", "c"))
    (tmp_path / "switch").symlink_to("v2")
    (tmp_path / "switch").rename(link)
    told = await world.reloading.reload("client")
    assert (told.added, told.removed, told.changed) == (("c",), ("b",), {})
