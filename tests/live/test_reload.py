"""A daemon whose configuration is exchanged while it runs, with sessions on real Podman."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest

from testbed.agentd_client import HOLD, Client, Ended
from testbed.agentd_process import Agentd, Table

pytestmark = [pytest.mark.live, pytest.mark.contract("F-57")]


@pytest.fixture(scope="module")
def started(start_agentd: Callable[..., Agentd], declare: Callable[..., Table]) -> Agentd:
    return start_agentd(declare(), declare("other"))


@pytest.fixture
def agentd(started: Agentd, declare: Callable[..., Table]) -> Agentd:
    """The daemon, with the configuration that it was started with."""
    started.configure(declare(), declare("other"))
    assert reload(started).code == 0
    return started


@pytest.fixture
def held(agentd: Agentd) -> Iterator[Client]:
    """A session of `worker` that waits."""
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    yield client
    client.wait()


def reload(agentd: Agentd) -> Ended:
    return agentd.command("reload").wait()


def names(agentd: Agentd) -> list[str]:
    told = json.loads(agentd.command("agents", "--json").wait().stdout)
    return [agent["name"] for agent in told["agents"]]


def test_an_operator_sees_what_has_changed(agentd: Agentd, declare: Callable[..., Table]) -> None:
    agentd.configure(declare(timeout="2h"), declare("third"), max_sessions=7)
    assert reload(agentd).stdout.splitlines() == [
        f"{agentd.config} was read",
        "added    third",
        "removed  other",
        "changed  worker: timeout",
        "daemon   max_sessions",
    ]
    assert names(agentd) == ["worker", "third"]


def test_a_hangup_reloads(agentd: Agentd, declare: Callable[..., Table]) -> None:
    agentd.configure(declare("by-signal"))
    agentd.signal(signal.SIGHUP)
    line = agentd.wait_for("agentd.config_reloaded", by="SIGHUP")
    assert (line["added"], line["removed"]) == (["by-signal"], ["worker", "other"])
    assert names(agentd) == ["by-signal"]


def test_a_session_outlives_its_agent_and_is_listed_followed_and_stopped(
    agentd: Agentd, held: Client, declare: Callable[..., Table]
) -> None:
    agentd.configure(declare("other"))
    assert "removed  worker" in reload(agentd).stdout
    refused = agentd.run("worker", "--work-unit", "true")
    assert (refused.code, "unknown agent 'worker'" in refused.stderr) == (2, True)
    assert f"{held.session_id}  worker  running" in agentd.command("ps").wait().stdout
    follower = agentd.command("logs", "--follow", held.session_id)
    follower.wait_for_line("ready")
    stopped = agentd.command("stop", held.session_id, "--grace", "0s").wait()
    assert (stopped.code, follower.wait().code, held.record.facts["agent"]) == (0, 0, "worker")


def test_runs_that_wait_keep_what_they_were_admitted_with_and_a_wider_bound_lets_them_begin(
    agentd: Agentd, held: Client, declare: Callable[..., Table]
) -> None:
    agentd.configure(declare(), max_sessions=1)
    reload(agentd)
    waiting = agentd.script('echo "variable: $NEW"')
    waiting.stderr.wait_for("position", lambda line: "in the queue" in line)
    agentd.configure(declare(environment={"NEW": "changed"}), max_sessions=3)
    reload(agentd)
    # Begins though the one that has held the only place lives on.
    waiting.wait_for_line("variable: ")
    agentd.script('echo "variable: $NEW"').wait_for_line("variable: changed")
    assert held.process.poll() is None
    held.record.release()


def test_a_bad_file_changes_nothing_and_is_refused_as_at_a_start(
    agentd: Agentd, own_agentd: Agentd, declare: Callable[..., Table]
) -> None:
    for each in (agentd, own_agentd):
        each.configure(declare("x", nonsense=1), max_sessions=-1)
    refused, at_start = reload(agentd), own_agentd.refusal()
    assert (refused.code, refused.stdout) == (at_start[0], "")
    text = refused.stderr.replace(str(agentd.config), str(own_agentd.config))
    assert (text, "nonsense" in text, "max_sessions" in text) == (at_start[1], True, True)
    assert agentd.wait_for("agentd.config_reload_failed", error_code="config_invalid")
    assert names(agentd) == ["worker", "other"]


def test_a_schedule_that_comes_with_a_reload_has_a_next_fire(
    agentd: Agentd, declare: Callable[..., Table]
) -> None:
    agentd.configure(declare(schedule="@yearly"))
    reload(agentd)
    (told,) = json.loads(agentd.command("agents", "--json").wait().stdout)["agents"]
    assert told["next_fire"].startswith(("20", "21"))


def test_a_daemon_that_drains_refuses(own_agentd: Agentd, declare: Callable[..., Table]) -> None:
    own_agentd.configure(declare())
    own_agentd.start()
    client = own_agentd.script(HOLD)
    client.wait_for_line("ready")
    own_agentd.signal(signal.SIGTERM)
    own_agentd.wait_for("agentd.shutdown_started")
    own_agentd.signal(signal.SIGHUP)
    own_agentd.wait_for("agentd.config_reload_failed", error_code="shutting_down")
    client.record.release()
    assert (client.wait().code, own_agentd.ended()) == (0, 0)
