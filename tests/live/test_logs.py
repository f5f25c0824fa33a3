"""`agentd logs` and its options, on sessions that live and on those that are past."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from testbed.agentd_client import HOLD, Client, Ended
from testbed.agentd_process import Agentd, Table

pytestmark = [pytest.mark.live, pytest.mark.contract("F-53")]

SECRET = "k9-s3cret-value"
LIVE_OR_PAST = pytest.mark.parametrize("session", ["live", "past"], indirect=True)
SCRIPT = f"seq 5; echo wrong >&2; {HOLD}; printf 'half'; sleep 0.1; echo ' a line'; echo late >&2"
CHATTY = "n=0; until [ -e .runa/enough ]; do n=$((n + 1)); echo $n; done; echo end"


@pytest.fixture(scope="module")
def agentd(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    keyed = declare(credentials=[{"name": "KEY", "source": "OPERATOR_KEY"}])
    return start_agentd(keyed, environ={"OPERATOR_KEY": SECRET})


@contextmanager
def killed(agentd: Agentd, script: str) -> Iterator[Client]:
    """A session that has written `ready`, and is killed at the end if it still lives."""
    client = agentd.script(script)
    try:
        client.wait_for_line("ready")
        yield client
    finally:
        agentd.command("stop", client.session_id, "--grace", "0s").wait()
        client.wait()


class Session:
    """A session that was half-way through `SCRIPT` at that instant, and goes on."""

    def __init__(self, client: Client) -> None:
        client.wait_for_line("ready")
        self.id = client.session_id
        self.began = datetime.datetime.now(datetime.UTC)
        client.record.release()
        client.stderr.wait_for("late", lambda line: line == "late\n")


@pytest.fixture(scope="module")
def past_session(agentd: Agentd) -> Session:
    client = agentd.script(SCRIPT)
    session = Session(client)
    client.wait()
    return session


@pytest.fixture(scope="module")
def live_session(agentd: Agentd) -> Iterator[Session]:
    with killed(agentd, f"{SCRIPT}; exec sleep 1000") as client:
        yield Session(client)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> Session:
    found: Session = request.getfixturevalue(f"{request.param}_session")
    return found


def logs(agentd: Agentd, session: str, *words: str) -> Ended:
    ended = agentd.command("logs", session, *words).wait()
    assert ended.code == 0, ended.stderr
    return ended


@LIVE_OR_PAST
def test_a_tail_is_the_last_lines(agentd: Agentd, session: Session) -> None:
    shown = logs(agentd, session.id, "--tail", "3", "--stdout")
    assert (shown.stdout, shown.stderr) == ("5\nready\nhalf a line\n", "")


@LIVE_OR_PAST
def test_one_stream_alone_can_be_shown(agentd: Agentd, session: Session) -> None:
    shown = logs(agentd, session.id, "--stderr", "--tail", "2")
    assert (shown.stdout, shown.stderr) == ("", "wrong\nlate\n")


@LIVE_OR_PAST
def test_lines_since_an_instant_are_those_that_began_then(agentd: Agentd, session: Session) -> None:
    shown = logs(agentd, session.id, "--since", session.began.isoformat())
    assert (shown.stdout, shown.stderr) == ("half a line\n", "late\n")


def test_lines_of_the_last_hour_are_all_lines(agentd: Agentd, past_session: Session) -> None:
    assert logs(agentd, past_session.id, "--since", "1h") == logs(agentd, past_session.id)


@LIVE_OR_PAST
def test_each_line_has_the_time_at_which_it_began(agentd: Agentd, session: Session) -> None:
    """Though the monitor wrote one of them down in two parts."""
    shown = logs(agentd, session.id, "--timestamps", "--stdout", "--tail", "2")
    (before, ready), (after, half) = (line.split(" ", 1) for line in shown.stdout.splitlines())
    assert (ready, half) == ("ready", "half a line")
    times = [datetime.datetime.fromisoformat(time) for time in (before, after)]
    assert times[0] < session.began < times[1]


def test_a_tail_goes_on_with_what_comes_without_a_gap(agentd: Agentd) -> None:
    """While the agent writes, so that the seam lies anywhere."""
    with killed(agentd, f"echo ready; {CHATTY}") as client:
        client.wait_for_line("1000")
        following = agentd.command("logs", "-f", "--tail", "10", client.session_id)
        following.stdout.wait_for("a hundred lines", _counted(100))
        (client.record.runa / "enough").touch()
        shown = following.wait().stdout.splitlines()
        written = client.wait().stdout.splitlines()
    assert len(shown) > 100
    # The client that was there all the time says in addition how the session ended.
    assert shown == written[-len(shown) - 1 : -1]
    numbers = [int(line) for line in shown[:-1]]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def _counted(wanted: int) -> Callable[[str], bool]:
    """True for the line of that number from now on."""
    lines = iter(range(1, wanted + 1))
    return lambda _line: next(lines) == wanted


def test_a_credential_that_begins_before_the_cut_shows_no_end(agentd: Agentd) -> None:
    begin, end = SECRET[:8], SECRET[8:]
    script = f"printf 'a\\nb {begin}'; {HOLD.replace('echo ready', 'echo ready >&2')}; echo '{end}'"
    client = agentd.script(script)
    client.stderr.wait_for("ready", lambda line: line == "ready\n")
    tail = ("--tail", "1", "--stdout")
    while_held = logs(agentd, client.session_id, *tail).stdout
    following = agentd.command("logs", "-f", "--tail", "0", client.session_id)
    since = datetime.datetime.now(datetime.UTC).isoformat()
    client.record.release()
    client.wait()
    assert while_held == "b "
    assert following.wait().stdout == ""
    assert logs(agentd, client.session_id, *tail).stdout == "b ***\n"
    assert logs(agentd, client.session_id, "--since", since).stdout == ""


def test_a_past_log_is_followed_to_its_end(agentd: Agentd, past_session: Session) -> None:
    assert logs(agentd, past_session.id, "-f", "--tail", "1", "--stdout").stdout == "half a line\n"
