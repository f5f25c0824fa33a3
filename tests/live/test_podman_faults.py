"""A Podman service that fails single calls: an error 500, or a connection that breaks.

A real service shows these faults only by luck, when it is killed or out of memory at that moment:
so a proxy in front of it spoils chosen calls, and all others are real Podman's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from _pytest.mark import ParameterSet

from testbed.agentd_client import HOLD, Ended
from testbed.agentd_process import Agentd, Table
from testbed.faulty_proxy import (
    WORDS,
    Fault,
    FaultyProxy,
    cut_in_body,
    cut_in_headers,
    faulty_proxy,
    internal_error,
    reset,
)
from testbed.podman_service import PodmanService
from tests.conftest import LONG

pytestmark = pytest.mark.live

SELDOM = pytest.mark.skipif(not LONG, reason="one more of a kind; AGENTD_TESTS_LONG=1")

TOKEN = {"credentials": [{"name": "TOKEN", "source": "FAULTY_TOKEN"}]}

IMAGE = r"GET /images/"
CREATE_SECRET = r"POST /secrets/create"
CREATE = r"POST /containers/create"
START = r"POST /containers/.*/start"
INSPECT = r"GET /containers/agentd-.*/json"
KILL = r"POST /containers/.*/kill"
STOP = r"POST /containers/.*/stop"
REMOVE = r"DELETE /containers/"
REMOVE_SECRET = r"DELETE /secrets/"
EVENTS = r"GET /events"


@pytest.fixture(scope="module")
def module_proxy(podman: PodmanService) -> Iterator[FaultyProxy]:
    with faulty_proxy(podman.socket) as proxy:
        yield proxy


@pytest.fixture
def proxy(module_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    """Spoils nothing before and after the test."""
    module_proxy.forget()
    yield module_proxy
    module_proxy.heal()


@pytest.fixture(scope="module")
def module_agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], module_proxy: FaultyProxy
) -> Agentd:
    return start_agentd(
        declare(**TOKEN),
        declare("hasty", timeout="1s", **TOKEN),
        environ={"FAULTY_TOKEN": "a value to mask"},
        podman_socket=str(module_proxy.path),
    )


@pytest.fixture
def agentd(module_agentd: Agentd, proxy: FaultyProxy) -> Iterator[Agentd]:
    """A daemon that reaches Podman through the proxy, and still serves after the test."""
    yield module_agentd
    proxy.heal()
    module_agentd.assert_nothing_left()


def shown(*usual: Fault, seldom: tuple[Fault, ...] = ()) -> list[ParameterSet]:
    """These faults as parameters; some of them with AGENTD_TESTS_LONG=1 alone."""
    return [
        *(pytest.param(fault, id=fault.__name__) for fault in usual),
        *(pytest.param(fault, id=fault.__name__, marks=SELDOM) for fault in seldom),
    ]


def assert_told(ended: Ended, fault: Fault) -> None:
    """The client was told what happened, in one place, with the infrastructure's exit code."""
    words = WORDS if fault is internal_error else "connection to Podman"
    assert (ended.code, words in ended.stderr) == (6, True), ended


# --- what must not fail: the container is there, and lives ---------------------------------------


@pytest.mark.parametrize(
    "fault", shown(internal_error, seldom=(reset, cut_in_headers, cut_in_body))
)
def test_calls_that_fail_once_cost_the_session_nothing(
    agentd: Agentd, proxy: FaultyProxy, fault: Fault
) -> None:
    for call in (INSPECT, REMOVE_SECRET, REMOVE):
        proxy.spoil(call, fault, times=1)
    ended = agentd.script("exit 7").wait()
    assert (proxy.hits, ended.code, ended.record.facts["exit_code"]) == (3, 7, 7), ended


@pytest.mark.parametrize("fault", shown(cut_in_headers, seldom=(cut_in_body,)))
def test_a_session_survives_a_start_whose_reply_is_lost(
    agentd: Agentd, proxy: FaultyProxy, fault: Fault
) -> None:
    proxy.spoil(START, fault, times=1)
    ended = agentd.script("echo once; exit 7").wait()
    assert (proxy.hits, ended.code, ended.stdout.count("once")) == (1, 7, 1), ended


@pytest.mark.contract("SES-23", "F-34")
@pytest.mark.parametrize("fault", shown(seldom=(internal_error, reset)))
def test_a_kill_that_fails_is_sent_again(agentd: Agentd, proxy: FaultyProxy, fault: Fault) -> None:
    proxy.spoil(KILL, fault, times=2)
    ended = agentd.script("sleep 60", agent="hasty").wait()
    assert (proxy.hits, ended.code, ended.record.facts["outcome"]) == (2, 124, "timed_out"), ended


@pytest.mark.parametrize("fault", shown(seldom=(internal_error, reset)))
def test_a_stop_that_fails_is_sent_again(agentd: Agentd, proxy: FaultyProxy, fault: Fault) -> None:
    client = agentd.script(f"trap 'exit 7' INT; {HOLD}")
    client.wait_for_line("ready")
    proxy.spoil(STOP, fault, times=1)
    assert agentd.command("stop", client.session_id).wait().code == 0
    assert (proxy.hits, client.wait().record.facts["ended_by"]) == (1, "stop")


@pytest.mark.skipif(not LONG, reason="like a service that stands still; AGENTD_TESTS_LONG=1")
def test_a_session_ends_though_podman_fails_for_a_while(agentd: Agentd, proxy: FaultyProxy) -> None:
    client = agentd.script(f"{HOLD}; echo after; exit 7")
    client.wait_for_line("ready")
    proxy.spoil(".", internal_error)
    client.record.release()
    client.wait_for_line("after")
    proxy.wait_for_hits(3)
    listed = agentd.command("ps").wait()
    assert client.session_id in listed.stdout
    proxy.heal()
    assert client.wait().code == 7


@SELDOM
def test_streams_that_break_off_are_asked_for_again(agentd: Agentd, proxy: FaultyProxy) -> None:
    client = agentd.script(f"{HOLD}; exit 7")
    client.wait_for_line("ready")
    proxy.spoil(EVENTS, cut_in_headers, times=2)
    proxy.break_streams()
    proxy.wait_for_hits(2)
    client.record.release()
    assert client.wait().code == 7


# --- what fails the session: it never ran --------------------------------------------------------


def test_a_run_is_refused_before_anything_of_it_exists(agentd: Agentd, proxy: FaultyProxy) -> None:
    before = agentd.records()
    proxy.spoil(IMAGE, internal_error, times=1)
    assert_told(agentd.script("exit 0").wait(), internal_error)
    assert agentd.records() == before


@pytest.mark.contract("SES-05", "SES-13")
@pytest.mark.parametrize(
    "fault", shown(cut_in_body, seldom=(internal_error, reset, cut_in_headers))
)
@pytest.mark.parametrize("call", [pytest.param(CREATE_SECRET, marks=SELDOM), CREATE])
def test_a_session_that_cannot_be_made_is_told_why_and_leaves_a_closed_record(
    agentd: Agentd, proxy: FaultyProxy, call: str, fault: Fault
) -> None:
    proxy.spoil(call, fault, times=1)
    ended = agentd.script("exit 0").wait()
    assert_told(ended, fault)
    assert ended.record.facts["outcome"] == "error"


@SELDOM
def test_a_session_that_podman_will_not_start_is_told_why(
    agentd: Agentd, proxy: FaultyProxy
) -> None:
    proxy.spoil(START, internal_error, times=1)
    ended = agentd.script("exit 0").wait()
    assert_told(ended, internal_error)
    assert ended.record.facts["outcome"] == "error"


@pytest.mark.skipif(not LONG, reason="waits 30 s for the start to show; AGENTD_TESTS_LONG=1")
def test_a_start_that_never_reached_podman_is_given_up(agentd: Agentd, proxy: FaultyProxy) -> None:
    proxy.spoil(START, reset, times=1)
    ended = agentd.script("exit 0").wait()
    assert_told(ended, reset)


# --- what is left behind -------------------------------------------------------------------------


@pytest.mark.skipif(not LONG, reason="Podman is asked for 10 s; AGENTD_TESTS_LONG=1")
@pytest.mark.contract("SES-29", "AUD-22")
def test_what_podman_would_not_remove_is_removed_later(agentd: Agentd, proxy: FaultyProxy) -> None:
    proxy.spoil(REMOVE, internal_error)
    left = agentd.script("exit 0").wait()
    assert_told(left, internal_error)
    assert "outcome" not in left.record.facts
    proxy.heal()
    # The end of the next session shows that Podman removes again.
    assert agentd.script("exit 0").wait().code == 0
    agentd.wait_for("runner.session_settled", session_id=left.session_id)
    assert left.record.facts["outcome"] == "success"


@pytest.mark.contract("DMN-12")
def test_a_start_of_the_daemon_outlives_a_first_error(
    own_agentd: Agentd, declare: Callable[..., Table], proxy: FaultyProxy
) -> None:
    proxy.spoil("GET /info", internal_error, times=2)
    own_agentd.configure(declare(), podman_socket=str(proxy.path))
    own_agentd.start()
    assert proxy.hits == 2


@SELDOM
@pytest.mark.contract("DMN-12", "DMN-22")
@pytest.mark.parametrize("call", ["GET /containers/json"])
def test_a_podman_that_cannot_list_ends_the_start_of_the_daemon(
    own_agentd: Agentd, declare: Callable[..., Table], proxy: FaultyProxy, call: str
) -> None:
    proxy.spoil(call, internal_error)
    own_agentd.configure(declare(), podman_socket=str(proxy.path))
    code, written = own_agentd.refusal()
    said = "startup reconciliation failed" in written and WORDS in written
    assert (code, said, own_agentd.socket.exists()) == (6, True, False), written
