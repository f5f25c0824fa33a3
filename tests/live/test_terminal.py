"""`agentd run` on a real terminal, with a real pull and real sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from testbed.agentd_client import AGENTD
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.registry import Registry, registry
from testbed.terminal import Terminal, terminal

pytestmark = pytest.mark.live

WIDE = 400
"""Columns, so that no path is wrapped."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "open") as server:
        yield server


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], server: Registry
) -> Agentd:
    pulls = declare("pulls", pull="missing", base_image=f"{server.host}/shown:1")
    absent = declare("absent", pull="missing", base_image=f"{server.host}/absent:1")
    return start_agentd(declare(), pulls, absent)


@pytest.fixture
def run(agentd: Agentd) -> Iterator[Callable[..., Terminal]]:
    """Starts `agentd run` on a terminal."""
    # Whatever runs the tests may be a build server's, with no terminal or a narrow one.
    environ = agentd.environ | {"CI": "", "COLUMNS": "", "TERM": "xterm-256color"}
    with ExitStack() as stack:
        yield lambda *words: stack.enter_context(
            terminal((AGENTD, "run", *words), environ, columns=WIDE)
        )


@pytest.mark.contract("SES-43", "F-54")
def test_a_pull_is_shown_while_it_lasts_and_nothing_of_it_stays(
    podman: PodmanService, session_image: str, server: Registry, run: Callable[..., Terminal]
) -> None:
    server.push(podman, session_image, "shown:1")
    server.fall_silent()
    shown = run("pulls", "--work-unit", "echo hello")
    shown.wait_for_text("Trying to pull")
    assert re.fullmatch(rf". pulling the image \d+s  Trying to pull {server.host}.*", shown.rows[0])
    server.go_on()
    assert shown.wait() == 0
    first, *_, hello, last, empty = shown.rows
    assert re.fullmatch(r"agentd: session [0-9a-f]{16}, record /.*", first)
    assert (hello, last, empty) == ("hello", "session success", "")


@pytest.mark.contract("F-54")
def test_a_pull_that_fails_leaves_its_error_alone(run: Callable[..., Terminal]) -> None:
    shown = run("absent")
    assert shown.wait() == 6
    (error, empty) = shown.rows
    assert (error.startswith("agentd: image '"), empty) == (True, "")


@pytest.mark.contract("F-54")
def test_a_silent_session_is_seen_to_run_and_goes_on_after_ctrl_c(
    agentd: Agentd, run: Callable[..., Terminal]
) -> None:
    shown = run("worker", "--work-unit", "echo begun; exec sleep 1000")
    rows = shown.wait_for("the line below", lambda rows: "begun" in rows[:-1] and rows[-1] != "")
    assert re.fullmatch(r". running \d+s", rows[-1])
    found = re.search(r"session ([0-9a-f]{16})", rows[0])
    assert found is not None
    shown.interrupt()
    assert (shown.wait(), shown.modes_now() == shown.modes) == (130, True)
    *_, begun, detached, empty = shown.rows
    assert (begun, empty) == ("begun", "")
    assert detached.startswith(f"agentd: detached; session {found[1]} goes on: 'agentd logs -f ")
    assert agentd.command("stop", found[1], "--grace", "0s").wait().code == 0
