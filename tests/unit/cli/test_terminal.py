"""What `agentd run` shows on a real terminal, in front of a daemon that says what a test tells."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from agentd import wire
from agentd.outcome import from_exit_code
from testbed.terminal import Terminal, terminal

AGENTD = (sys.executable, "-m", "agentd")
ACCEPTED = wire.Accepted(session_id="0123456789abcdef", record="/r")
RUNNING = wire.StateChanged(state="running")
CLOSING = wire.StateChanged(state="closing")
SUCCESS = wire.Finished(session_id="0123456789abcdef", outcome=from_exit_code(0))
TOLD = "agentd: session 0123456789abcdef, record /r"
FRAME = "[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]"


def output(data: bytes) -> wire.Output:
    return wire.Output(stream="stdout", data=data)


class Daemon:
    """Takes one request, and says what the test has it say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(30)
        self._listener.bind(str(path))
        self._listener.listen()
        self._peer: socket.socket | None = None

    def say(self, *events: wire.Event) -> None:
        if self._peer is None:
            self._peer, _ = self._listener.accept()
        self._peer.sendall(b"".join(wire.frame(wire.encode(event)) for event in events))

    def close(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._listener.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.chdir(tmp_path)
    daemon = Daemon(Path("agentd.sock"))
    yield daemon
    daemon.close()


@pytest.fixture
def run(daemon: Daemon) -> Iterator[Callable[..., Terminal]]:
    """Starts `agentd run` on a terminal."""
    with ExitStack() as stack:

        def run(*words: str, stdout: int | None = None, **environ: str) -> Terminal:
            program = (*AGENTD, "run", "a", *words, "--socket-path", str(daemon.path))
            environ = {"PATH": os.environ["PATH"], **environ}
            return stack.enter_context(terminal(program, environ, stdout=stdout))

        yield run


def phase(words: str) -> Callable[[list[str]], bool]:
    """Whether the last row is the status line, with these words."""
    line = re.compile(rf"{FRAME} {words}")
    return lambda rows: bool(line.match(rows[-1]))


@pytest.mark.contract("F-54", "SES-43")
def test_each_phase_is_said_in_one_line_that_ends_with_the_run(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(wire.Progress(text="Copying blob sha256:12"))
    shown.wait_for("a pull", phase(r"pulling the image \ds  Copying blob sha256:12$"))
    daemon.say(wire.Queued(session_id="0123456789abcdef", position=3))
    shown.wait_for("a place in the queue", phase(r"queued \ds  number 3 in the queue$"))
    daemon.say(ACCEPTED)
    assert shown.wait_for("a start", phase(r"starting \ds$"))[:-1] == [TOLD]
    daemon.say(RUNNING)
    shown.wait_for("a session that runs", phase(r"running \ds$"))
    daemon.say(CLOSING)
    shown.wait_for("a session that is closed", phase(r"closing the record \ds$"))
    daemon.say(SUCCESS)
    assert shown.wait() == 0
    assert shown.rows == [TOLD, "session success", ""]


@pytest.mark.contract("F-54")
def test_the_line_gives_way_to_output_and_comes_back_below_it(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(ACCEPTED, RUNNING)
    shown.wait_for("a session that runs", phase("running"))
    daemon.say(output(b"one\ntwo\n"))
    rows = shown.wait_for("the line below", lambda rows: len(rows) == 4 and phase("running")(rows))
    assert rows[:-1] == [TOLD, "one", "two"]
    daemon.say(SUCCESS)
    shown.wait()
    assert shown.rows == [TOLD, "one", "two", "session success", ""]


@pytest.mark.contract("F-54")
def test_an_unfinished_line_of_the_agent_is_left_alone(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(ACCEPTED, RUNNING)
    shown.wait_for("a session that runs", phase("running"))
    daemon.say(output(b"what is "))
    shown.wait_for_text("what is")
    daemon.say(CLOSING, output(b"left\n"))
    rows = shown.wait_for("the line below", phase("closing"))
    assert rows[:-1] == [TOLD, "what is left"]
    assert not re.search(rf"what is \r?{FRAME}", shown.written)


def test_what_the_agent_writes_reaches_the_terminal_as_it_is(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    """Colours of its own included: no line of ours comes between with an end to them."""
    shown = run()
    daemon.say(ACCEPTED, RUNNING, output(b"\x1b[31mred\n"))
    shown.wait_for("the line below", phase("running"))
    behind = shown.written.partition("red")[2]
    assert "\x1b[31mred" in shown.written
    assert not re.search(r"\x1b\[[0-9;]*m", behind)


def test_a_run_that_is_refused_leaves_only_its_error(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(wire.Progress(text="Trying to pull"))
    shown.wait_for("a pull", phase("pulling"))
    daemon.say(wire.Failed(code="image_unavailable", message="no such image"))
    assert shown.wait() == 6
    assert shown.rows == ["agentd: no such image", ""]


@pytest.mark.contract("F-54")
def test_ctrl_c_detaches_and_says_how_to_go_on(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(ACCEPTED, RUNNING)
    shown.wait_for("a session that runs", phase("running"))
    shown.interrupt()
    assert shown.wait() == 130
    text = "".join(shown.rows)
    assert text.startswith(f"{TOLD}agentd: detached; session 0123456789abcdef goes on: 'agentd")
    assert "'agentd stop 0123456789abcdef' ends it" in text
    assert (shown.modes_now(), "Traceback" in text) == (shown.modes, False)


def test_ctrl_c_before_there_is_a_session_says_that_the_run_may_go_on(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(wire.Progress(text="Trying to pull"))
    shown.wait_for("a pull", phase("pulling"))
    shown.interrupt()
    assert shown.wait() == 130
    assert shown.rows[0].startswith("agentd: detached; if the daemon has taken the run in")


@pytest.mark.contract("SES-43")
def test_a_detached_run_shows_its_pull_and_leaves_its_id(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run("--detach")
    daemon.say(wire.Progress(text="Trying to pull"))
    shown.wait_for("a pull", phase(r"pulling the image \ds  Trying to pull$"))
    daemon.say(ACCEPTED)
    assert shown.wait() == 0
    assert shown.rows == ["0123456789abcdef", TOLD, ""]


def test_ctrl_c_during_the_pull_of_a_detached_run_says_that_the_run_may_go_on(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run("--detach")
    daemon.say(wire.Progress(text="Trying to pull"))
    shown.wait_for("a pull", phase("pulling"))
    shown.interrupt()
    assert shown.wait() == 130
    assert shown.rows[0].startswith("agentd: detached; if the daemon has taken the run in")
    assert shown.modes_now() == shown.modes


def test_ctrl_c_again_and_again_leaves_a_sound_terminal(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(ACCEPTED, RUNNING)
    shown.wait_for("a session that runs", phase("running"))
    for _ in range(5):
        shown.interrupt()
    assert shown.wait() in {130, -2}
    assert shown.modes_now() == shown.modes
    # Nothing was hidden or switched that somebody would have to bring back.
    assert not re.search(r"\x1b\[\?", shown.written)


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"CI": "true"}, {"TERM": ""}])
def test_where_nothing_can_be_drawn_over_there_are_plain_lines(
    daemon: Daemon, run: Callable[..., Terminal], environ: dict[str, str]
) -> None:
    shown = run(**environ)
    daemon.say(wire.Progress(text="Trying to pull"), ACCEPTED, RUNNING, CLOSING, SUCCESS)
    shown.wait()
    assert shown.written.split("\r\n") == [
        "agentd: Trying to pull",
        TOLD,
        "session success",
        "",
    ]


def test_without_colours_there_is_none(daemon: Daemon, run: Callable[..., Terminal]) -> None:
    shown = run(NO_COLOR="1")
    daemon.say(ACCEPTED)
    shown.wait_for("a start", phase("starting"))
    assert not re.search(r"\x1b\[([0-9]+;)*3[0-7][;m]", shown.written)


def test_a_quiet_run_shows_its_last_line_alone(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run("--quiet")
    daemon.say(wire.Progress(text="pulling"), ACCEPTED, RUNNING, output(b"x\n"), CLOSING, SUCCESS)
    shown.wait()
    assert shown.written == "session success\r\n"


def test_a_line_never_goes_past_the_last_column(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    shown.resize(30)
    daemon.say(wire.Progress(text="sha256:" + 64 * "0"))
    rows = shown.wait_for("a pull", phase("pulling the image"))
    assert (len(rows), len(rows[0])) == (1, 29)
    shown.resize(20)
    rows = shown.wait_for("the line in its new width", lambda rows: len(rows[0]) == 19)
    assert len(rows) == 1


def test_text_of_others_moves_nothing_on_the_terminal(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    shown = run()
    daemon.say(wire.Progress(text="\x1b[2J\x9b1Aevil"))
    shown.wait_for("what it says", lambda rows: rows[-1].endswith(r"\x1b[2J\x9b1Aevil"))


def test_output_that_goes_elsewhere_leaves_the_line_where_it_is(
    daemon: Daemon, run: Callable[..., Terminal], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as file:
        shown = run(stdout=file.fileno())
    daemon.say(ACCEPTED, RUNNING, output(b"no newline"), CLOSING)
    shown.wait_for("a session that is closed", phase("closing"))
    assert (tmp_path / "out").read_bytes() == b"no newline"


def test_a_program_that_reads_the_output_has_the_terminal_for_itself(
    daemon: Daemon, run: Callable[..., Terminal]
) -> None:
    reading, writing = os.pipe()
    shown = run(stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        daemon.say(ACCEPTED, RUNNING)
        shown.wait_for("a session that runs", phase("running"))
        daemon.say(output(b"x\n"), CLOSING, SUCCESS)
        assert shown.wait() == 0
        assert pipe.read() == b"x\nsession success\n"
    assert (shown.rows, "closing" in shown.written) == ([TOLD, ""], False)


def test_rich_is_imported_at_a_terminal_alone(tmp_path: Path) -> None:
    """Design D18."""
    program = "import sys; from agentd.cli.show import show_run; show_run(quiet=False)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print('rich' in sys.modules)"],
        check=True,
        capture_output=True,
    )
    assert done.stdout == b"False\n"
