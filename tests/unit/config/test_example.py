"""The example that ships with agentd is a configuration, and shows every key there is."""

import re
from pathlib import Path

import msgspec
import pytest

from agentd import config
from agentd.config import schema

TEXT = (Path(__file__).parents[3] / "examples" / "agentd.toml").read_text()

COMMENTED = re.compile(r"^# (?=\[|[a-z_]+ = )", re.MULTILINE)


def uncommented() -> str:
    return COMMENTED.sub("", TEXT)


@pytest.mark.contract("CFG-45")
def test_the_example_declares_the_two_agents_of_the_contract() -> None:
    builder, reviewer = config.parse(TEXT).agents
    assert (builder.name, builder.schedule) == ("site-builder", "*/15 * * * *")
    assert (reviewer.name, reviewer.schedule) == ("code-reviewer", None)
    for agent in (builder, reviewer):
        assert [credential.name for credential in agent.credentials] == ["GITHUB_TOKEN"]
        assert agent.mounts == ()


@pytest.mark.contract("CFG-45")
def test_the_example_is_still_a_configuration_with_every_comment_taken_away() -> None:
    assert len(config.parse(uncommented()).agents[0].mounts) == 1


@pytest.mark.parametrize(
    "table",
    [
        schema.Daemon,
        schema.Agent,
        schema.Command,
        schema.Mount,
        schema.Credential,
        schema.Limits,
        schema.Isolation,
        schema.RepoToken,
    ],
)
def test_the_example_shows_every_key(table: type[msgspec.Struct]) -> None:
    shown = set(re.findall(r"^(?:\[\[?agents\.)?([a-z_]+)(?: =|\])", uncommented(), re.MULTILINE))
    assert set(table.__struct_fields__) <= shown


def test_the_defaults_that_the_example_shows_are_the_defaults() -> None:
    parsed = config.parse(uncommented())
    agent, daemon = parsed.agents[0], parsed.daemon
    assert (daemon.max_sessions, daemon.shutdown_grace) == (0, 5.0)
    assert (agent.overlap, agent.pull, agent.network) == ("allow", "missing", "default")
    assert (agent.limits.output, agent.limits.record) == (
        schema.DEFAULT_OUTPUT_LIMIT,
        schema.DEFAULT_RECORD_LIMIT,
    )
    assert agent.isolation == schema.Isolation()
    assert (agent.repo_token.scheme, agent.repo_token.username) == ("basic", "x-access-token")
