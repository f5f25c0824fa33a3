"""Sessions that come to their end, as the people see them who asked for them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from testbed.agentd_client import HOLD, Ended
from testbed.agentd_process import Agentd, Table
from testbed.git_daemon import GitDaemon

pytestmark = pytest.mark.live

REPORT_UNIT = ["/bin/sh", "-c", 'echo "unit: ${AGENTD_WORK_UNIT-unset}"']
BRIEF_COUNT = 8


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], faithful: Table
) -> Agentd:
    return start_agentd(
        faithful,
        declare(),
        declare("reporter", command={"argv": REPORT_UNIT}),
        # Users that Debian's images have.
        declare("games"),
        declare("www-data"),
    )


@pytest.mark.contract("SOC-16", "B-24", "CLI-11", "CLI-19", "SES-32")
def test_a_run_without_input_is_blocked_and_that_is_fine(agentd: Agentd) -> None:
    ended = agentd.run("site-builder")
    assert (ended.code, ended.stdout.splitlines()[-1]) == (0, "session blocked")


@pytest.mark.contract("CLI-19")
def test_a_quiet_run_prints_its_outcome_alone(agentd: Agentd) -> None:
    assert agentd.run("site-builder", "--quiet") == Ended(0, "session blocked\n", "")


@pytest.fixture(scope="module")
def answered(agentd: Agentd) -> Ended:
    return agentd.run("site-builder", "--request", "Add a page, 'quoted' $HOME\nand a line")


@pytest.mark.contract("CLI-12", "CLI-15", "INP-04", "SES-32")
def test_a_request_succeeds(answered: Ended) -> None:
    assert (answered.code, answered.stdout.splitlines()[-1]) == (0, "session success")


@pytest.mark.contract("AUD-02", "AUD-30", "ENV-31")
def test_what_the_agent_made_of_a_request_is_in_the_record(answered: Ended) -> None:
    report = json.loads(answered.record.read("workspace/report/status-page.json"))
    assert report["request"] == "Add a page, 'quoted' $HOME\nand a line"


@pytest.mark.contract("INP-04", "INP-05", "INP-17", "ENV-25")
def test_a_request_becomes_an_artifact_byte_for_byte(answered: Ended) -> None:
    expected = '{"description":"Add a page, \'quoted\' $HOME\\nand a line","source":"operator"}'
    assert answered.record.read("workspace/request/operator-input.json") == expected


def test_the_record_keeps_what_the_operator_asked(answered: Ended) -> None:
    kept = answered.record.directory / "agentd/invocation-input/document.json"
    assert kept.read_text() == answered.record.read("workspace/request/operator-input.json")


@pytest.mark.contract("INP-02", "ENV-27", "CLI-19")
def test_a_work_unit_reaches_runa(agentd: Agentd) -> None:
    """The protocol is not scoped, so with a unit there is nothing to do for it."""
    ended = agentd.run("site-builder", "--work-unit", "7")
    assert (ended.code, ended.stdout.splitlines()[-1]) == (0, "session nothing_ready")


@pytest.mark.contract("ENV-06")
@pytest.mark.parametrize("unit", ["7", "it's $HOME; `id`", "ünit / 2"])
def test_a_work_unit_reaches_the_agent_unchanged(agentd: Agentd, unit: str) -> None:
    ended = agentd.run("reporter", "--work-unit", unit)
    assert f"unit: {unit}\n" in ended.stdout


@pytest.mark.contract("ENV-07")
def test_without_a_work_unit_the_agent_has_no_variable_for_it(agentd: Agentd) -> None:
    assert "unit: unset\n" in agentd.run("reporter").stdout


@pytest.mark.contract("DSP-02", "CLI-11")
def test_a_named_repository_is_cloned_instead_of_the_agents_own(
    agentd: Agentd, git_server: GitDaemon
) -> None:
    other = git_server.add_repository("other.git", {"other.txt": "the other one\n"})
    ended = agentd.run("worker", other, "--work-unit", "cat other.txt")
    assert "the other one\n" in ended.stdout


def test_output_comes_while_the_session_runs(agentd: Agentd) -> None:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    running = agentd.containers()
    client.record.release()
    assert (len(running), client.wait().code) == (1, 0)


def test_both_streams_stay_apart_and_byte_exact(agentd: Agentd) -> None:
    ended = agentd.script(r"printf 'out \377\000 no newline'; printf 'err \376\n' >&2").wait()
    streams = (
        "out \udcff\0 no newline" in ended.stdout,
        "err \udcfe\n" in ended.stderr,
        "err" in ended.stdout,
    )
    assert streams == (True, True, False)


def test_more_output_than_a_pipe_holds_arrives_whole(agentd: Agentd) -> None:
    ended = agentd.script("seq 1 200000").wait()
    body = "".join(f"{number}\n" for number in range(1, 200_001))
    assert body in ended.stdout


@pytest.mark.contract("F-44", "ENV-01", "ENV-13")
@pytest.mark.parametrize("name", ["games", "www-data"])
def test_an_agent_may_be_called_as_a_user_of_the_image(agentd: Agentd, name: str) -> None:
    ended = agentd.script('echo "$(id -un) $(id -u) $HOME"', name).wait()
    assert f"{name} 10001 /home/{name}\n" in ended.stdout


@pytest.mark.contract("SOC-14", "DSP-20")
def test_a_session_goes_on_when_its_client_goes_away(agentd: Agentd) -> None:
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    client.process.kill()
    client.wait()
    client.record.release()
    completed = agentd.wait_for("agentd.run_completed", session_id=client.session_id)
    assert completed["outcome"] == "success"


@pytest.mark.contract("DMN-23", "DSP-21")
def test_sessions_run_at_the_same_time(agentd: Agentd) -> None:
    """All of them wait for the test at once, so none of them waited for another."""
    clients = [agentd.script(f"{HOLD}; echo done {i}; exit {i}") for i in range(BRIEF_COUNT)]
    for client in clients:
        client.wait_for_line("ready")
    for client in clients:
        client.record.release()
    with ThreadPoolExecutor(BRIEF_COUNT) as pool:
        ended = list(pool.map(lambda client: client.wait(), clients))
    assert [f"done {i}\n" in each.stdout for i, each in enumerate(ended)] == [True] * BRIEF_COUNT
    assert [each.record.facts["exit_code"] for each in ended] == list(range(BRIEF_COUNT))


@pytest.mark.contract("SES-28", "SES-27", "ENV-32")
@pytest.mark.parametrize("script", ["exit 0", "exit 1", "exit 125", "kill -9 $$"])
def test_nothing_of_an_ended_session_is_left(agentd: Agentd, script: str) -> None:
    agentd.script(script).wait()
    agentd.assert_nothing_left()
