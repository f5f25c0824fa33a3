"""The daemon's log: what it says of sessions, and a reader that is stuck, gone or never was."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed.agentd_client import AGENTD, HOLD, Client, Ended
from testbed.agentd_process import Agentd, Event, Table
from testbed.processes import Lines, wait_until

pytestmark = pytest.mark.live

STUBBORN = "trap '' TERM INT; echo ready; while :; do sleep 1000; done"

PRINTS = "printf 'OUT%s\\n' PUT; printf 'OUT%s\\n' PUT >&2"
"""Prints OUTPUT twice; the word does not stand in the work unit, which is in the log."""


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare(), declare("hasty", timeout="1h"), environ={"AGENTD_LOG": "debug"})


def run(agentd: Agentd, script: str, agent: str = "worker") -> Ended:
    """A session whose last line in the log has been written."""
    ended = agentd.script(script, agent).wait()
    agentd.wait_for("agentd.run_completed", session_id=ended.session_id)
    return ended


@pytest.fixture(scope="module")
def usual(agentd: Agentd) -> Ended:
    """A session without trouble; its agent has a time-out."""
    return run(agentd, "exit 0", "hasty")


@pytest.fixture(scope="module")
def failed(agentd: Agentd) -> Ended:
    """A session that printed and failed; its agent has no time-out."""
    return run(agentd, f"{PRINTS}; exit 23")


@pytest.fixture(scope="module")
def blocked(agentd: Agentd) -> Ended:
    return run(agentd, "exit 3")


def lines_of(agentd: Agentd, ended: Ended) -> list[Event]:
    """What operators see of the session itself."""
    events = agentd.events(session_id=ended.session_id)
    return [
        event
        for event in events
        if event["event"].startswith("runner.") and event["level"] != "debug"
    ]


# --- what is told of a session -------------------------------------------------------------------


@pytest.mark.contract("LOG-16", "LOG-17", "LOG-19", "LOG-22")
def test_a_session_is_three_lines(agentd: Agentd, usual: Ended) -> None:
    lines = lines_of(agentd, usual)
    assert [line["event"] for line in lines] == [
        "runner.session_started",
        "runner.session_outcome",
        "runner.session_teardown",
    ]


@pytest.mark.contract("LOG-07", "LOG-16", "LOG-17", "LOG-19", "LOG-22")
def test_the_lines_of_a_session_have_these_fields_and_no_null(agentd: Agentd, usual: Ended) -> None:
    common = {
        "session_id": usual.session_id,
        "agent": "hasty",
        "level": "info",
        "container_name": f"{agentd.prefix}hasty-{usual.session_id}",
    }
    lines = lines_of(agentd, usual)
    assert all(line.pop("timestamp") for line in lines)
    assert [{key: line[key] for key in line if key not in common} for line in lines] == [
        {
            "event": "runner.session_started",
            "trigger": "manual",
            "work_unit_present": True,
            "timeout_ms": 3_600_000,
            "record": str(usual.record.directory),
        },
        {"event": "runner.session_outcome", "outcome": "success", "exit_code": 0},
        {"event": "runner.session_teardown", "result": "ok"},
    ]
    assert all(common.items() <= line.items() for line in lines)


@pytest.mark.contract("LOG-07", "LOG-16")
def test_a_session_without_a_time_out_tells_none(agentd: Agentd, failed: Ended) -> None:
    started, *_ = lines_of(agentd, failed)
    assert "timeout_ms" not in started


@pytest.mark.contract("LOG-11", "LOG-17")
def test_an_end_that_wants_a_look_is_a_warning(agentd: Agentd, failed: Ended) -> None:
    assert ends(agentd, failed) == [
        ("runner.session_outcome", "warning", 23),
        ("agentd.run_completed", "warning", 23),
    ]


@pytest.mark.contract("LOG-11", "LOG-17")
def test_an_agent_that_is_blocked_is_no_warning(agentd: Agentd, blocked: Ended) -> None:
    assert ends(agentd, blocked) == [
        ("runner.session_outcome", "info", 3),
        ("agentd.run_completed", "info", 3),
    ]


def ends(agentd: Agentd, ended: Ended) -> list[tuple[str, str, int]]:
    """Name, level and exit code of the lines that tell how a session ended."""
    return [
        (line["event"], line["level"], line["exit_code"])
        for line in agentd.events(session_id=ended.session_id)
        if "outcome" in line
    ]


@pytest.mark.contract("F-43")
def test_what_a_session_prints_is_not_in_the_log(agentd: Agentd, failed: Ended) -> None:
    assert "OUTPUT\n" in failed.stdout
    assert "OUTPUT\n" in failed.stderr
    assert [event for event in agentd.events() if "OUTPUT" in json.dumps(event)] == []


@pytest.mark.contract("LOG-16")
def test_the_lines_of_a_stop_carry_session_and_agent(agentd: Agentd) -> None:
    """It is asked for, and carried out, by a task that is not the session's."""
    client = agentd.script(HOLD, "hasty")
    client.wait_for_line("ready")
    agentd.command("stop", client.session_id, "--grace", "0s").wait()
    session = {"session_id": client.session_id, "agent": "hasty"}
    agentd.wait_for("runner.session_stopping", **session)


@pytest.mark.contract("LOG-16")
@pytest.mark.usefixtures("usual", "failed")
def test_every_line_about_a_session_says_which(agentd: Agentd) -> None:
    about = [event for event in agentd.events() if event["event"].startswith("runner.")]
    assert about
    assert [
        event for event in about if not {"session_id", "agent", "container_name"} <= event.keys()
    ] == []


@pytest.mark.contract("LOG-12")
def test_a_run_that_is_refused_is_a_warning(agentd: Agentd) -> None:
    agentd.run("nobody")
    rejected = agentd.wait_for("agentd.run_rejected", agent="nobody")
    assert (rejected["level"], rejected["trigger"]) == ("warning", "manual")
    assert rejected["error_code"] == "unknown_agent"
    assert rejected["error"].startswith("unknown agent 'nobody'")


# --- the reader ----------------------------------------------------------------------------------


@pytest.fixture
def configured(own_agentd: Agentd, declare: Callable[..., Table]) -> Agentd:
    own_agentd.configure(declare())
    return own_agentd


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe so full that one more byte would block."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"\n" * 4096)
    os.set_blocking(writing, True)
    yield reading, writing
    for descriptor in (reading, writing):
        with suppress(OSError):
            os.close(descriptor)


def start(agentd: Agentd, stderr: int, *before: str) -> None:
    """Start a daemon whose log we cannot wait for; returns when it takes requests."""
    agentd.process = subprocess.Popen(
        [*before, AGENTD, "daemon", "--config", agentd.config],
        env=agentd.environ,
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )
    agentd.log = Lines(Path(os.devnull).open("rb"))  # noqa: SIM115 - it closes what it reads
    wait_until("the daemon listens", lambda: listens(agentd.socket))


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def ready(agentd: Agentd, script: str) -> Client:
    client = agentd.script(script)
    client.wait_for_line("ready")
    return client


@pytest.mark.contract("LOG-01")
def test_a_reader_that_is_stuck_holds_nothing_up_and_loses_no_warning(
    configured: Agentd, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    start(configured, writing)
    refused = configured.run("nobody")
    ended = configured.script("exit 23").wait()
    os.close(writing)
    configured.log = Lines(os.fdopen(os.dup(reading), "rb"))
    code = configured.drained()
    warnings = [
        event["event"]
        for event in map(json.loads, filter(str.strip, configured.written().splitlines()))
        if event["level"] == "warning"
    ]
    assert (refused.code, ended.code, code) == (2, 23, 0)
    # Before them, a rootless daemon may say that it has no cgroup controllers.
    expected = ["agentd.run_rejected", "runner.session_outcome", "agentd.run_completed"]
    assert warnings[-3:] == expected


@pytest.mark.contract("DMN-25", "DMN-26")
def test_two_signals_end_a_daemon_whose_reader_is_stuck(
    configured: Agentd, pipe: tuple[int, int]
) -> None:
    """Why it ended is told on the same stream, and that must not hang either."""
    start(configured, pipe[1])
    client = ready(configured, STUBBORN)
    configured.signal(signal.SIGTERM)
    wait_until("the daemon drains", lambda: not configured.socket.exists())
    configured.signal(signal.SIGINT)
    assert configured.ended() == 1
    client.wait()


def test_a_reader_that_has_gone_ends_nothing(configured: Agentd, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    start(configured, writing)
    assert configured.script("exit 23").wait().code == 23
    assert configured.drained() == 0


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_daemon_that_cannot_log_works(configured: Agentd, where: str) -> None:
    start(configured, subprocess.DEVNULL, "sh", "-c", f'exec "$@" {where}', "sh")
    assert configured.process is not None
    assert configured.pid_file.read_text() == str(configured.process.pid)
    assert configured.command("ps").wait().code == 0
    assert configured.drained() == 0


@pytest.mark.contract("LOG-03")
def test_pretty_is_a_line_of_words_for_each_event(configured: Agentd) -> None:
    configured.spawn({"AGENTD_LOG_FORMAT": "pretty"})
    assert configured.log is not None
    configured.log.wait_for("the start", lambda line: "agentd.daemon_started" in line)
    assert configured.drained() == 0
    lines = configured.written().splitlines()
    form = re.compile(r"(info|warning): agentd\.[a-z_]+( [a-z_]+=.+)*")
    assert [line for line in lines if not form.fullmatch(line)] == []


@pytest.mark.contract("LOG-10")
def test_start_and_end_of_a_daemon_are_told(configured: Agentd) -> None:
    configured.start()
    configured.drained()
    first, last = configured.events(event="agentd.daemon_started"), configured.events()[-1]
    paths = {"socket_path": str(configured.socket), "pid_file": str(configured.pid_file)}
    assert [paths.items() <= event.items() for event in first] == [True]
    assert last.keys() == {"event", "level", "timestamp"}
    assert last["event"] == "agentd.daemon_stopped"
