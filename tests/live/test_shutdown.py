"""How a daemon ends: once asked it drains, twice asked it kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentd import wire
from testbed.agentd_client import HOLD, Client
from testbed.agentd_process import Agentd, Table
from testbed.disk import small_disk
from testbed.podman_service import PodmanService
from testbed.processes import wait_until

pytestmark = pytest.mark.live

GRACE = 5.0
STUBBORN = "trap '' TERM INT HUP QUIT; echo ready; while :; do sleep 1000; done"


@pytest.fixture
def agentd(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.configure(declare(), shutdown_grace=f"{GRACE:g}s")
    own_agentd.start()
    return own_agentd


def draining(agentd: Agentd, script: str = HOLD) -> Client:
    """The client of a session that runs in a daemon which was asked to end once."""
    client = agentd.script(script)
    client.wait_for_line("ready")
    agentd.signal(signal.SIGTERM)
    agentd.wait_for("agentd.shutdown_started")
    return client


@pytest.mark.contract("DMN-24", "DMN-30", "CLI-26")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_at_the_first_signal(agentd: Agentd, number: signal.Signals) -> None:
    agentd.signal(number)
    left = (agentd.ended(), agentd.socket.exists(), agentd.pid_file.exists())
    assert left == (0, False, False)


@pytest.mark.contract("DMN-24", "DMN-29")
def test_a_running_session_ends_by_itself_and_its_client_hears_of_it(agentd: Agentd) -> None:
    client = draining(agentd, f"{HOLD}; exit 23")
    client.record.release()
    assert (client.wait().code, agentd.ended()) == (23, 0)


@pytest.mark.contract("DMN-24", "AUD-11")
def test_a_session_that_ends_in_a_drain_is_sealed(agentd: Agentd) -> None:
    client = draining(agentd)
    client.record.release()
    agentd.ended()
    assert client.record.facts["outcome"] == "success"


@pytest.mark.contract("DMN-24")
def test_a_client_may_ask_for_the_drain_and_wait_for_it(agentd: Agentd) -> None:
    session = agentd.script(HOLD)
    session.wait_for_line("ready")
    asking = agentd.command("shutdown")
    agentd.wait_for("agentd.shutdown_started", by="client", leave=False)
    session.record.release()
    ended = asking.wait()
    assert (ended.code, ended.stdout) == (0, "agentd has ended\n"), ended
    assert "1 live or waiting session waited for" in ended.stderr
    assert (session.wait().code, agentd.ended()) == (0, 0)


@pytest.mark.contract("DMN-25", "CLI-26")
def test_who_waits_for_a_drain_that_is_forced_is_told(agentd: Agentd) -> None:
    agentd.script(STUBBORN).wait_for_line("ready")
    asking = agentd.command("shutdown")
    agentd.wait_for("agentd.shutdown_started")
    agentd.signal(signal.SIGTERM)
    assert (asking.wait().code, agentd.ended()) == (6, 1)


@pytest.mark.contract("DMN-27", "DMN-28")
def test_a_new_client_finds_no_daemon_during_the_drain(agentd: Agentd) -> None:
    draining(agentd)
    ended = agentd.run("worker", "--work-unit", "exit 0")
    assert (ended.code, "agentd is not running" in ended.stderr) == (6, True), ended


@pytest.mark.contract("DMN-27")
def test_the_pid_file_stays_until_the_drain_is_over(agentd: Agentd) -> None:
    client = draining(agentd)
    agentd.run("worker", "--work-unit", "exit 0")
    during = (agentd.socket.exists(), agentd.pid_file.exists())
    client.record.release()
    agentd.ended()
    assert (during, agentd.pid_file.exists()) == ((False, True), False)


@pytest.mark.contract("DMN-31", "DMN-32", "LOG-14")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_a_socket_that_cannot_be_removed_is_told_of_when_all_has_ended(
    own_agentd: Agentd, declare: Callable[..., Table], tmp_path: Path
) -> None:
    with small_disk(tmp_path, "1m") as disk:
        own_agentd.socket = disk.place / "agentd.sock"
        own_agentd.configure(declare(), socket_path=str(own_agentd.socket))
        own_agentd.start()
        reaching = ("--socket-path", str(own_agentd.socket))
        client = own_agentd.client("worker", "--work-unit", HOLD, *reaching)
        client.wait_for_line("ready")
        disk.cover_read_only()
        own_agentd.signal(signal.SIGTERM)
        own_agentd.wait_for("agentd.shutdown_started")
        client.record.release()
        code = own_agentd.ended()
    told = [json.loads(line)["event"] for line in own_agentd.written().splitlines()]
    last = [
        "agentd.run_completed",
        "agentd.daemon_shutdown_cleanup_failed",
        "agentd.daemon_stopped",
    ]
    assert (code, told[-3:]) == (0, last)


@pytest.mark.contract("SOC-17")
def test_a_request_that_comes_too_late_is_refused(agentd: Agentd) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(agentd.socket))
        peer.settimeout(30)
        agentd.signal(signal.SIGTERM)
        reply = peer.makefile("rb").read()
    assert b"agentd is shutting down" in reply


@pytest.mark.contract("F-35")
@pytest.mark.parametrize("sent", [b"", wire.frame(bytes(100))[:50]], ids=["nothing", "half"])
def test_a_client_that_falls_silent_does_not_hold_up_the_end(agentd: Agentd, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(agentd.socket))
        peer.sendall(sent)
        started = time.monotonic()
        assert agentd.drained() == 0
    # Far below the 10 s that a peer has to send its request.
    assert time.monotonic() - started < 5


@pytest.mark.contract("F-35")
def test_a_client_that_reads_nothing_does_not_hold_up_the_end(agentd: Agentd) -> None:
    client = agentd.script(f"{HOLD}; seq 1 300000")
    client.wait_for_line("ready")
    client.process.send_signal(signal.SIGSTOP)
    client.record.release()
    agentd.wait_for("runner.session_teardown", session_id=client.session_id)
    try:
        assert agentd.drained() == 0
    finally:
        client.process.kill()


@pytest.mark.contract("DMN-25")
@pytest.mark.parametrize("script", [HOLD, STUBBORN])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_kills_what_runs_within_the_grace(
    agentd: Agentd, script: str, second: signal.Signals
) -> None:
    draining(agentd, script)
    started = time.monotonic()
    agentd.signal(second)
    code = agentd.ended()
    assert (code, time.monotonic() - started < GRACE) == (1, True)
    agentd.assert_nothing_left_in_podman()


@pytest.mark.contract("DMN-25", "F-34")
def test_a_third_signal_ends_the_process_at_once(
    own_agentd: Agentd, declare: Callable[..., Table], second_podman: PodmanService
) -> None:
    """Podman stands still, so that nothing can be killed within a grace that is long."""
    podman_socket = str(second_podman.socket)
    own_agentd.configure(declare(), podman_socket=podman_socket, shutdown_grace="10m")
    own_agentd.start()
    client = draining(own_agentd)
    second_podman.signal(signal.SIGSTOP)
    own_agentd.signal(signal.SIGINT)
    intent = client.record.directory / "agentd/intent.json"
    wait_until("it is written down that the session is killed", intent.exists)
    third = time.monotonic()
    own_agentd.signal(signal.SIGTERM)
    code = own_agentd.ended()
    assert (code, time.monotonic() - third < GRACE) == (1, True)
    client.wait()
    second_podman.signal(signal.SIGCONT)
    own_agentd.settle()
    assert client.record.facts["ended_by"] == "forced"
    own_agentd.assert_nothing_left()


@pytest.mark.contract("F-09")
def test_a_ctrl_c_at_the_daemons_terminal_reaches_no_session(agentd: Agentd) -> None:
    client = agentd.script(f"trap 'exit 9' INT; {HOLD}; exit 23")
    client.wait_for_line("ready")
    assert agentd.process is not None
    # A terminal signals the whole group of what it has in the foreground.
    os.killpg(agentd.process.pid, signal.SIGINT)
    agentd.wait_for("agentd.shutdown_started")
    client.record.release()
    assert (client.wait().code, agentd.ended()) == (23, 0)


@pytest.mark.contract("DMN-26")
def test_a_second_signal_removes_socket_and_pid_file(agentd: Agentd) -> None:
    draining(agentd)
    agentd.signal(signal.SIGTERM)
    agentd.ended()
    assert (agentd.socket.exists(), agentd.pid_file.exists()) == (False, False)


@pytest.mark.contract("DMN-25")
def test_the_client_of_a_killed_session_hears_that_it_was_killed(agentd: Agentd) -> None:
    client = draining(agentd)
    agentd.signal(signal.SIGTERM)
    ended = client.wait()
    line = "agentd: agentd was forced down and killed the session"
    assert (ended.code, ended.stderr.splitlines()[-1]) == (6, line)


@pytest.mark.contract("AUD-22")
def test_the_record_of_a_killed_session_stays_incomplete(agentd: Agentd) -> None:
    client = draining(agentd)
    agentd.signal(signal.SIGTERM)
    agentd.ended()
    assert "outcome" not in client.record.facts


def test_the_record_of_a_killed_session_says_how_it_ended_to_the_next_daemon(
    agentd: Agentd,
) -> None:
    client = draining(agentd)
    agentd.signal(signal.SIGTERM)
    agentd.ended()
    known = json.loads((client.record.directory / "agentd/session.json.next").read_bytes())
    shown = (known["outcome"], known["error_code"], known["ended_by"])
    assert shown == ("error", "forced_shutdown", "forced")


@pytest.mark.contract("DMN-25", "DMN-18")
def test_a_hand_over_during_a_drain_leaves_the_sessions_to_the_next_daemon(agentd: Agentd) -> None:
    client = agentd.script(f"{HOLD}; exit 7")
    client.wait_for_line("ready")
    agentd.signal(signal.SIGTERM)
    agentd.wait_for("agentd.shutdown_started", leave=False)
    agentd.signal(signal.SIGUSR1)
    assert agentd.ended() == 0, agentd.written()
    agentd.start()
    agentd.wait_for("runner.session_adopted")
    client.record.release()
    agentd.wait_for("runner.session_outcome", exit_code=7)
