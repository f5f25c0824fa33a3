"""Sessions whose setup fails in the container: an outcome of the infrastructure, and a record."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from testbed.agentd_client import Ended
from testbed.agentd_process import Agentd, Table
from testbed.git_daemon import GitDaemon
from testbed.podman_service import PodmanService
from testbed.session_image import ensure_broken_image
from tests.conftest import LONG

pytestmark = pytest.mark.live

UNREACHABLE = "git://127.0.0.1:1/none.git"
SETUP_LINE = re.compile(r"^agentd: setup step '([a-z-]+)' failed: (.+)$", re.MULTILINE)
CASES = {
    "unreachable": ("clone", "status"),
    "cut-off": ("clone", "status"),
    "missing": ("clone", "status"),
    "gosu-less": ("check-image", "the image has no 'gosu'"),
    "reserved": ("bridge-runa", "repo root .runa is reserved by agentd"),
    "dangling": ("bridge-runa", "repo root .runa is reserved by agentd"),
    "unmethodical": ("runa-init", "status"),
}


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    podman: PodmanService,
    git_server: GitDaemon,
    tmp_path_factory: pytest.TempPathFactory,
) -> Agentd:
    broken = ensure_broken_image(podman, without="gosu", of=str(declare()["base_image"]))
    reserved = git_server.add_repository("reserved.git", {".runa/config.toml": ""})
    dangling = git_server.add_repository("dangling.git", {}, {".runa": "/nowhere"})
    # Enough for agentd, which reads nothing of it when there is no input; not for runa.
    methodology = tmp_path_factory.mktemp("unmethodical")
    (methodology / "manifest.toml").write_text("")
    return start_agentd(
        declare("unreachable", repo=UNREACHABLE),
        declare("cut-off", network="none"),
        declare("missing", repo=git_server.url("no-such-repository.git")),
        declare("gosu-less", base_image=broken),
        declare("reserved", repo=reserved),
        declare("dangling", repo=dangling),
        declare("unmethodical", methodology_dir=str(methodology)),
    )


@pytest.fixture(scope="module")
def failed(agentd: Agentd) -> Callable[[str], Ended]:
    """The end of a session of an agent, run once."""
    ended: dict[str, Ended] = {}

    def run(agent: str) -> Ended:
        if agent not in ended:
            ended[agent] = agentd.script("echo the agent has started", agent).wait()
        return ended[agent]

    return run


@pytest.mark.contract("ENV-11", "ENV-12", "ENV-18", "ENV-29", "F-28", "F-47")
@pytest.mark.parametrize("agent", CASES)
def test_one_line_names_the_step_that_failed(failed: Callable[[str], Ended], agent: str) -> None:
    ended = failed(agent)
    ((step, reason),) = SETUP_LINE.findall(ended.stderr)
    assert (step, CASES[agent][1] in reason) == (CASES[agent][0], True), ended


@pytest.mark.contract("ENV-12", "F-28", "SES-32")
@pytest.mark.parametrize("agent", CASES)
def test_a_failed_setup_is_a_failure_of_the_infrastructure(
    failed: Callable[[str], Ended], agent: str
) -> None:
    ended = failed(agent)
    line = "session infrastructure_failure (exit code 6)"
    assert (ended.code, ended.stderr.splitlines()[-1]) == (6, line)


@pytest.mark.parametrize("agent", CASES)
def test_no_agent_starts_after_a_failed_setup(failed: Callable[[str], Ended], agent: str) -> None:
    assert "the agent has started" not in failed(agent).stdout


@pytest.mark.contract("AUD-12", "AUD-14", "AUD-30")
@pytest.mark.parametrize("agent", CASES)
def test_the_record_of_a_failed_setup_is_sealed(failed: Callable[[str], Ended], agent: str) -> None:
    record = failed(agent).record
    mode = (record.directory / "agentd/session.json").stat().st_mode & 0o777
    shown = (record.facts["outcome"], record.facts["exit_code"], mode)
    assert shown == ("infrastructure_failure", 6, 0o444)


@pytest.mark.contract("SES-28")
@pytest.mark.parametrize("agent", CASES)
def test_nothing_is_left_of_a_failed_setup(
    agentd: Agentd, failed: Callable[[str], Ended], agent: str
) -> None:
    assert failed(agent).code == 6
    agentd.assert_nothing_left()


TOOLS = ["cat", "chown", "cp", "env", "find", "git", "groupadd", "ln", "mkdir", "runa", "useradd"]


@pytest.mark.skipif(not LONG, reason="an image for each tool; AGENTD_TESTS_LONG=1")
@pytest.mark.contract("ENV-29", "ENV-12")
@pytest.mark.parametrize("tool", TOOLS)
def test_an_image_without_a_tool_is_told_so(
    own_agentd: Agentd, declare: Callable[..., Table], podman: PodmanService, tool: str
) -> None:
    image = str(declare()["base_image"])
    own_agentd.configure(declare(base_image=ensure_broken_image(podman, without=tool, of=image)))
    own_agentd.start()
    ended = own_agentd.run("worker")
    reason = f"setup step 'check-image' failed: the image has no '{tool}'; a session image needs:"
    assert (ended.code, reason in ended.stderr) == (6, True), ended


@pytest.mark.contract("F-28", "ENV-29")
def test_an_image_without_a_shell_is_told_and_is_no_end_of_the_agents(
    own_agentd: Agentd, podman: PodmanService, declare: Callable[..., Table]
) -> None:
    image = str(declare()["base_image"])
    own_agentd.configure(declare(base_image=ensure_broken_image(podman, without="sh", of=image)))
    own_agentd.start()
    ended = own_agentd.run("worker")
    assert (ended.code, ended.record.facts["error_code"]) == (6, "image_unfit"), ended
    assert "the session image has no /bin/sh" in ended.stderr
    own_agentd.assert_nothing_left()
