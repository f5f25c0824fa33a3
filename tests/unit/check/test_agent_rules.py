"""What is said of an agent's declaration, from plain data."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from agentd import config
from agentd.check import agent_rules
from agentd.check.agent_rules import Surroundings
from tests.unit.builders import IMAGE, ROOTFUL, ROOTLESS, agent

SECRET = b"k9-s3cret-value"
KEYED = agent(credentials=(config.Credential("KEY", "SOURCE"),))
TOKENED = agent(repo_token_source="TOKEN")


def daemons(**variables: bytes) -> Surroundings:
    """The environment of a daemon that was seen."""
    values = {name.encode(): value for name, value in variables.items()}
    return Surroundings(values, "the environment of the daemon", certain=True)


def ours(**variables: bytes) -> Surroundings:
    """The environment of the command, beside a daemon whose own cannot be seen."""
    return daemons(**variables)._replace(whose="this command's", certain=False)


@pytest.mark.parametrize(
    ("found", "status"),
    [
        (daemons(SOURCE=SECRET), "ok"),
        (daemons(SOURCE=b""), "ok"),
        (daemons(), "fail"),
        (daemons(KEY=SECRET), "fail"),
        (daemons(SOURCE=b"\xff" + SECRET), "fail"),
        (ours(SOURCE=SECRET), "ok"),
        (ours(), "warn"),
        (ours(SOURCE=b"\xff" + SECRET), "fail"),
    ],
)
def test_a_credential_is_looked_for_and_never_shown(found: Surroundings, status: str) -> None:
    (finding,) = agent_rules.credential_findings(KEYED, found)
    assert (finding.status, finding.agent) == (status, "builder")
    assert "SOURCE" in finding.text
    assert SECRET.decode() not in repr(finding)
    assert (finding.remedy is None) == (status == "ok")


def test_credentials_that_are_too_large_together_are_found() -> None:
    large = tuple(config.Credential(f"K{number}", "SOURCE") for number in range(9))
    findings = agent_rules.credential_findings(
        agent(credentials=large), daemons(SOURCE=b"x" * 127 * 1024)
    )
    assert [each.status for each in findings] == ["ok"] * 9 + ["fail"]


def test_an_environment_that_is_not_the_daemons_is_warned_of() -> None:
    assert agent_rules.surroundings_finding(daemons()).status == "ok"
    assert agent_rules.surroundings_finding(ours()).status == "warn"


@pytest.mark.parametrize(
    ("found", "changes", "status"),
    [
        (daemons(TOKEN=SECRET), {}, "ok"),
        (daemons(TOKEN=SECRET + b"\n"), {}, "fail"),
        (daemons(), {}, "warn"),
        (daemons(TOKEN=SECRET), {"repo": None}, "fail"),
        (
            daemons(TOKEN=SECRET),
            {"repo": None, "repo_token": config.RepoToken(origin="https://git.example.org")},
            "ok",
        ),
    ],
)
def test_the_clone_token_is_looked_for_and_never_shown(
    found: Surroundings, changes: dict[str, Any], status: str
) -> None:
    declared = agent(repo_token_source="TOKEN", **changes)
    finding = agent_rules.repo_token_finding(declared, found)
    assert finding is not None
    assert (finding.status, SECRET.decode() in repr(finding)) == (status, False)
    assert (finding.remedy is None) == (status == "ok")


def test_an_agent_without_a_token_has_no_finding_of_it() -> None:
    assert agent_rules.repo_token_finding(agent(), daemons(TOKEN=SECRET)) is None


def test_the_next_fire_is_told_with_zone_offset_and_what_the_clocks_do() -> None:
    declared = agent(schedule="30 2 * * *")
    finding = agent_rules.schedule_finding(
        declared, datetime(2026, 3, 28, 12, tzinfo=UTC), ZoneInfo("Europe/Berlin")
    )
    assert finding is not None
    assert "Sun 2026-03-29 03:00 +0200 (Europe/Berlin): the clock goes from" in finding.text
    assert agent_rules.schedule_finding(agent(), datetime.now(UTC), ZoneInfo("UTC")) is None


def test_limits_fail_where_the_host_cannot_enforce_them() -> None:
    limited = agent(limits=config.Limits(memory=2**30, cpus=1.5))
    able, unable = (agent_rules.limits_finding(limited, host) for host in (ROOTFUL, ROOTLESS))
    assert (able.status, "memory = 1073741824, cpus = 1.5" in able.text) == ("ok", True)
    assert (unable.status, "limits.memory, limits.cpus" in unable.text) == ("fail", True)
    assert "remove the limit" in str(unable.remedy)
    assert agent_rules.limits_finding(agent(), ROOTLESS).status == "ok"


@pytest.mark.parametrize(
    ("pull", "there", "status", "text"),
    [
        ("missing", True, "ok", "uses it as it is"),
        ("never", True, "ok", "uses it as it is"),
        ("newer", True, "ok", "asks the registry"),
        ("always", True, "ok", "pulls it again"),
        ("missing", False, "warn", "pulls it for the first session"),
        ("newer", False, "warn", "pulls it for the first session"),
        ("always", False, "warn", "pulls it for the first session"),
        ("never", False, "fail", "refuses every session"),
    ],
)
def test_the_pull_policy_says_what_becomes_of_an_image(
    pull: str, there: bool, status: str, text: str
) -> None:
    finding = agent_rules.image_finding(agent(pull=pull), IMAGE if there else None)
    assert (finding.status, text in finding.text) == (status, True)
    assert (finding.remedy is None) == (status == "ok")
