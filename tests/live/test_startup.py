"""How a daemon starts, and what it refuses to start on."""

from __future__ import annotations

import json
import resource
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.processes import SECONDS, Lines, wait_until
from tests.conftest import LONG

pytestmark = pytest.mark.live

FAILURE, INFRASTRUCTURE = 1, 6


@pytest.fixture
def configured(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.configure(declare())
    return own_agentd


def assert_nothing_was_started(agentd: Agentd) -> None:
    assert (agentd.socket.exists(), agentd.pid_file.exists()) == (False, False)
    agentd.assert_nothing_left()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.contract("DMN-07", "DMN-08", "SOC-21", "F-19")
def test_socket_and_its_directory_are_for_the_daemons_user(configured: Agentd) -> None:
    configured.start()
    assert (mode(configured.socket), mode(configured.socket.parent)) == (0o600, 0o700)


@pytest.mark.contract("DMN-06")
def test_the_pid_file_holds_the_pid_and_nothing_else(configured: Agentd) -> None:
    configured.start()
    assert configured.process is not None
    assert configured.pid_file.read_text() == str(configured.process.pid)


@pytest.mark.contract("DMN-01")
def test_the_process_that_was_started_serves_the_socket(configured: Agentd) -> None:
    configured.start()
    assert configured.process is not None
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(configured.socket))
        peer = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    assert struct.unpack("3i", peer)[0] == configured.process.pid


@pytest.mark.contract("F-19")
def test_a_runtime_directory_that_others_can_write_is_refused(configured: Agentd) -> None:
    configured.socket.parent.mkdir()
    configured.socket.parent.chmod(0o777)
    code, written = configured.refusal()
    line = written.splitlines()[-1]
    expected = f"agentd: {configured.socket.parent} is writable for others"
    assert (code, line.startswith(expected), "chmod go-w" in line) == (FAILURE, True, True), line
    assert_nothing_was_started(configured)


def test_a_daemon_takes_all_the_descriptors_that_it_may_have(configured: Agentd) -> None:
    configured.program = ("/bin/sh", "-c", 'ulimit -S -n 64; exec "$@"', "sh", *configured.program)
    configured.start()
    assert configured.process is not None
    soft, hard = resource.prlimit(configured.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard > 64


class Stage(NamedTuple):
    """What is there when the daemon comes to a step of its start."""

    audit_root: bool = False
    pid_file: bool = False
    socket: bool = False


@pytest.mark.contract("DMN-02", "DMN-11")
@pytest.mark.parametrize(
    ("step", "there"),
    [
        ("agentd.claim:find_podman", Stage()),
        ("agentd.audit:prepare", Stage()),
        ("agentd.claim:claimed_pid_file", Stage(audit_root=True)),
        ("agentd.daemon.main:clear_stale_socket", Stage(audit_root=True, pid_file=True)),
        ("agentd.adoption:look_behind", Stage(audit_root=True, pid_file=True)),
        ("agentd.daemon.main:claimed_socket", Stage(audit_root=True, pid_file=True)),
        ("agentd.daemon.scheduler:Scheduler.run", Stage(True, True, True)),
    ],
)
def test_a_start_goes_step_by_step(configured: Agentd, step: str, there: Stage) -> None:
    """Shown by daemons that are killed just before a step."""
    configured.spawn_killed_at(f"{step}:before")
    assert configured.ended() == -signal.SIGKILL
    places = (configured.audit_root, configured.pid_file, configured.socket)
    assert Stage(*(place.exists() for place in places)) == there


@pytest.mark.contract("DMN-02", "DMN-11")
def test_the_socket_of_a_killed_daemon_is_gone_before_what_it_left_is_looked_for(
    configured: Agentd,
) -> None:
    configured.start()
    assert configured.process is not None
    configured.process.kill()
    configured.ended()
    left = configured.socket.is_socket()
    configured.spawn_killed_at("agentd.adoption:look_behind:before")
    configured.ended()
    assert (left, configured.socket.exists()) == (True, False)


@pytest.mark.contract("LOG-02", "F-43")
def test_the_log_is_json_a_line_and_stays_so_while_sessions_write(configured: Agentd) -> None:
    configured.start()
    configured.script("echo '{not json'; echo 'nor this' >&2").wait()
    assert configured.drained() == 0
    lines = [json.loads(line) for line in configured.written().splitlines()]
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)


@pytest.mark.contract("DMN-04", "DMN-05")
def test_a_second_daemon_on_a_pid_file_is_refused(
    configured: Agentd, declare: Callable[..., Table], tmp_path: Path, podman: PodmanService
) -> None:
    configured.start()
    assert configured.process is not None
    second = Agentd(podman, tmp_path, configured.runtime)
    second.configure(declare())
    code, written = second.refusal()
    expected = f"agentd: agentd is already running (pid {configured.process.pid})"
    assert (code, written.splitlines()[-1]) == (FAILURE, expected)


@pytest.mark.contract("DMN-05", "F-39")
def test_a_second_daemon_leaves_the_first_at_work(
    configured: Agentd, declare: Callable[..., Table], tmp_path: Path, podman: PodmanService
) -> None:
    configured.start()
    second = Agentd(podman, tmp_path, configured.runtime)
    second.configure(declare())
    second.refusal()
    assert configured.script("exit 0").wait().code == 0


@pytest.mark.contract("F-39")
def test_a_socket_that_another_daemon_serves_is_not_taken_over(
    configured: Agentd, declare: Callable[..., Table], tmp_path: Path, podman: PodmanService
) -> None:
    configured.start()
    second = Agentd(podman, tmp_path, configured.runtime)
    second.configure(declare(), pid_file=str(tmp_path / "second.pid"))
    code, written = second.refusal()
    expected = f"another process serves {configured.socket}"
    assert (code, expected in written) == (FAILURE, True), written


@pytest.mark.contract("DMN-09")
def test_a_stale_socket_is_replaced(configured: Agentd) -> None:
    configured.socket.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(configured.socket))
    configured.start()
    assert configured.script("exit 0").wait().code == 0


@pytest.mark.contract("DMN-04")
def test_a_pid_file_of_a_killed_daemon_means_nothing(configured: Agentd) -> None:
    configured.start()
    assert configured.process is not None
    configured.process.kill()
    configured.ended()
    configured.start()
    assert configured.script("exit 0").wait().code == 0


@pytest.mark.contract("DMN-10", "F-40")
def test_something_else_at_the_sockets_path_is_left_untouched(configured: Agentd) -> None:
    configured.socket.parent.mkdir(0o700)
    configured.socket.write_text("precious")
    code, written = configured.refusal()
    expected = f"agentd: socket_path exists but is not a Unix socket: {configured.socket}"
    assert (code, written.splitlines()[-1]) == (FAILURE, expected)
    assert configured.socket.read_text() == "precious"
    assert not configured.pid_file.exists()


@pytest.mark.contract("DMN-02", "DMN-10")
def test_a_socket_path_that_cannot_be_had_is_found_before_sessions_are_taken_up(
    configured: Agentd, declare: Callable[..., Table], tmp_path: Path, podman: PodmanService
) -> None:
    configured.start()
    second = Agentd(podman, tmp_path, configured.runtime)
    second.configure(declare(), pid_file=str(tmp_path / "second.pid"))
    _, served = second.refusal()
    assert configured.drained() == 0
    configured.socket.write_text("precious")
    _, obstructed = configured.refusal()
    looked = "agentd.startup_reconciliation_completed"
    assert (looked in served, looked in obstructed) == (False, False)


@pytest.mark.contract("CFG-43")
def test_every_mistake_of_a_configuration_is_a_line(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    own_agentd.configure(
        declare("Root", timeout="soon"),
        declare("worker", repo="/not/a/url", colour="red"),
        declare("worker", schedule="61 * * * *"),
    )
    code, written = own_agentd.refusal()
    lines = written.splitlines()
    places = [line.split(": ")[3] for line in lines]
    assert code == FAILURE
    assert places == [
        "agents[0].name",
        "agents[0].timeout",
        "agents[1].repo",
        "agents[1].colour",
        "agents[2].name",
        "agents[2].schedule",
    ]


@pytest.mark.contract("CFG-43", "DMN-03")
def test_a_configuration_with_five_mistakes_starts_nothing(
    own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    own_agentd.configure(
        declare("Root", timeout="soon", colour="red", pull="often"), max_sessions=-1
    )
    _, written = own_agentd.refusal()
    assert len(written.splitlines()) == 5, written
    assert not own_agentd.audit_root.exists()
    assert not own_agentd.socket.parent.exists()
    own_agentd.assert_nothing_left()


def test_a_configuration_that_is_not_there_is_one_sentence(own_agentd: Agentd) -> None:
    code, written = own_agentd.refusal()
    assert (code, len(written.splitlines()), str(own_agentd.config) in written) == (1, 1, True)


@pytest.mark.contract("DMN-02", "DMN-12", "F-10")
def test_a_podman_elsewhere_is_refused(configured: Agentd) -> None:
    address = "tcp://192.0.2.1:8080"
    code, written = configured.refusal({"CONTAINER_HOST": address})
    (line,) = written.splitlines()
    assert (code, f"CONTAINER_HOST is '{address}'" in line) == (INFRASTRUCTURE, True), line
    assert_nothing_was_started(configured)


@pytest.mark.skipif(not LONG, reason="waits ten seconds; AGENTD_TESTS_LONG=1")
@pytest.mark.contract("DMN-02", "DMN-12")
def test_a_podman_that_stays_away_ends_the_start(
    own_agentd: Agentd, declare: Callable[..., Table], tmp_path: Path
) -> None:
    own_agentd.configure(declare(), podman_socket=str(tmp_path / "podman.sock"))
    code, written = own_agentd.refusal()
    line = written.splitlines()[-1]
    assert (code, str(tmp_path / "podman.sock") in line) == (INFRASTRUCTURE, True), written
    assert_nothing_was_started(own_agentd)


@pytest.mark.contract("DMN-12")
def test_a_podman_that_comes_late_is_waited_for(
    own_agentd: Agentd, declare: Callable[..., Table], podman: PodmanService
) -> None:
    late = own_agentd.runtime / "late.sock"
    own_agentd.configure(declare(), podman_socket=str(late))
    own_agentd.spawn()
    late.symlink_to(podman.socket)
    own_agentd.wait_for("agentd.daemon_started")
    assert own_agentd.script("exit 0").wait().code == 0


@pytest.mark.contract("AUD-26", "AUD-28")
def test_an_audit_root_that_others_can_write_is_refused(configured: Agentd) -> None:
    configured.audit_root.mkdir()
    configured.audit_root.chmod(0o777)
    code, written = configured.refusal()
    line = written.splitlines()[-1]
    assert (code, f"audit root {configured.audit_root}" in line) == (INFRASTRUCTURE, True), line
    assert_nothing_was_started(configured)


@pytest.mark.contract("AUD-27")
def test_the_probe_of_the_audit_root_leaves_nothing(configured: Agentd) -> None:
    configured.start()
    assert list(configured.audit_root.iterdir()) == []


RACES = 100 if LONG else 3


@pytest.mark.contract("DMN-04", "DMN-05", "F-39", "F-40")
@pytest.mark.timeout(400)
def test_of_two_daemons_that_start_at_once_one_serves(configured: Agentd) -> None:
    """In half of the races both find what a killed daemon has left."""
    for race in range(RACES):
        configured.spawn()
        one, its_log = configured.process, configured.log
        configured.spawn()
        both = {configured.process: configured.log, one: its_log}
        serving = wait_for_one_to_serve(both)
        (loser,) = both.keys() - {serving}
        assert loser is not None
        assert loser.wait(SECONDS) == FAILURE
        refusal = both[loser]
        assert refusal is not None
        assert "agentd is already running" in refusal.complete()
        assert configured.command("ps").wait().code == 0
        configured.process, configured.log = serving, both[serving]
        configured.signal(signal.SIGTERM if race % 2 else signal.SIGKILL)
        assert configured.ended() == (0 if race % 2 else -signal.SIGKILL)


def wait_for_one_to_serve(
    both: dict[subprocess.Popen[bytes] | None, Lines | None],
) -> subprocess.Popen[bytes]:
    """The daemon that has said that it takes requests."""
    serving: list[subprocess.Popen[bytes]] = []

    def one_serves() -> bool:
        serving.extend(
            process
            for process, log in both.items()
            if process is not None and log is not None and "agentd.daemon_started" in log.text
        )
        return bool(serving)

    wait_until("one of them serves", one_serves)
    return serving[0]
