"""What differs between two configurations, by name."""

from __future__ import annotations

from typing import Any

import pytest

from agentd import config
from agentd.config.changes import FIXED, Changes, changes
from tests.unit.builders import agent

pytestmark = pytest.mark.contract("F-57")


def declared(*agents: config.Agent, **daemon: Any) -> config.Config:
    return config.Config(config.Daemon(**daemon), agents)


def test_a_configuration_that_is_read_again_has_no_changes() -> None:
    made = declared(agent(environment={"A": "1"}), max_sessions=3)
    again = declared(agent(environment={"A": "1"}), max_sessions=3)
    assert changes(made, again) == Changes()


def test_agents_come_and_go_by_their_names() -> None:
    before = declared(*(agent(name=name) for name in ("a", "b", "c")))
    after = declared(*(agent(name=name) for name in ("d", "b", "e")))
    assert changes(before, after) == Changes(added=("d", "e"), removed=("a", "c"))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"schedule": "@daily"}, "schedule"),
        ({"command": config.Command(("other",))}, "command.argv"),
        ({"limits": config.Limits(memory=1)}, "limits.memory"),
        ({"repo_token": config.RepoToken(username="x")}, "repo_token.username"),
        ({"environment": {"KEY": "s3cret"}}, "environment"),
        ({"credentials": (config.Credential("KEY", "SOURCE"),)}, "credentials"),
        ({"mounts": (config.Mount("/a", "/b", True),)}, "mounts"),
    ],
)
def test_a_changed_agent_is_told_by_the_key(change: dict[str, Any], key: str) -> None:
    found = changes(declared(agent()), declared(agent(**change)))
    assert found == Changes(changed={"builder": (key,)})


def test_several_keys_are_told_in_the_order_of_the_schema() -> None:
    after = agent(pull="never", schedule="@daily", limits=config.Limits(cpus=1.0, output=1))
    found = changes(declared(agent()), declared(after)).changed
    assert found == {"builder": ("schedule", "pull", "limits.cpus", "limits.output")}


def test_keys_of_the_daemon_are_told_and_those_that_are_fixed() -> None:
    after = declared(max_sessions=2, podman_socket="/p", pid_file="/q")
    found = changes(declared(), after)
    assert found.daemon == ("pid_file", "podman_socket", "max_sessions")
    assert found.fixed == ("pid_file", "podman_socket")


def test_of_every_key_of_the_daemon_it_is_known_whether_it_can_change() -> None:
    """A new key fails here, until somebody has thought about it."""
    changeable = {"max_sessions", "shutdown_grace"}
    assert {*config.Daemon.__struct_fields__} == FIXED | changeable
