"""The setup inside the container: its script, its arguments and the files it reads. Pure."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from .. import names
from ..config import Agent
from ..methodology import Document
from .invocation import Invocation

CREDENTIALS: Final = "/agentd/credentials"
REPO_TOKEN: Final = f"{CREDENTIALS}/repo-token"


class SessionSecret(NamedTuple):
    """A credential on its way: its name in Podman's store, its file in the container, its value."""

    name: str
    target: str
    value: bytes


@cache
def setup_script() -> str:
    """The text of `setup.sh`: the same bytes for every session."""
    return (resources.files(__package__) / "setup.sh").read_text(encoding="utf-8")


@cache
def required_tools() -> tuple[str, ...]:
    """The programs that an image must have beside `sh`: the one list of them is the script's."""
    found = re.search(r"^tools='([^']+)'$", setup_script(), re.MULTILINE)
    assert found is not None
    return tuple(found[1].split())


def setup_arguments(invocation: Invocation, document: Document | None) -> list[str]:
    """The arguments of `setup.sh`, in the order that its head comment gives."""
    agent, token = invocation.agent, invocation.repo_token
    placed = (document.artifact_type, document.artifact_id) if document else ("", "")
    authentication = (token.scheme, token.username, token.origin) if token else ("", "", "")
    home = f"/home/{agent.name}/"
    below_home = [mount.target for mount in agent.mounts if mount.target.startswith(home)]
    variables = [*_plain_variables(agent), *_credential_variables(invocation)]
    return [
        agent.name,
        invocation.repo_url,
        invocation.work_unit or "",
        *placed,
        *authentication,
        str(len(below_home)),
        *below_home,
        str(len(variables)),
        *(word for variable in variables for word in variable),
        *agent.command.argv,
    ]


def _plain_variables(agent: Agent) -> list[tuple[str, str, str]]:
    return [(name, "value", value) for name, value in agent.environment.items()]


def _credential_variables(invocation: Invocation) -> list[tuple[str, str, str]]:
    # Podman refuses a secret of no bytes: an empty credential is an argument.
    return [
        (variable.name, "file", f"{CREDENTIALS}/{index}")
        if variable.value
        else (variable.name, "value", "")
        for index, variable in enumerate(invocation.credentials)
    ]


def runa_command(invocation: Invocation) -> tuple[str, ...]:
    """What `setup.sh` becomes at its end, as the session user."""
    unit = invocation.work_unit
    chosen = () if unit is None else ("--work-unit", unit)
    return ("runa", "run", *chosen, "--agent-command", "--", *invocation.agent.command.argv)


def input_place(agent: Agent, document: Document) -> str:
    """The file of the container to which `setup.sh` copies an input."""
    artifact = f"{document.artifact_type}/{document.artifact_id}.json"
    return f"/home/{agent.name}/repo/.runa/workspace/{artifact}"


def variable_names(invocation: Invocation) -> tuple[str, ...]:
    """The variables that `setup.sh` sets for the agent, beside the credentials."""
    ours = ("AGENT_NAME",) if invocation.work_unit is None else ("AGENT_NAME", "AGENTD_WORK_UNIT")
    return (*invocation.agent.environment, *ours)


def session_secrets(invocation: Invocation, whose: names.Identity) -> list[SessionSecret]:
    """What goes through Podman's secret store: every credential that has a value, the token."""
    found = [
        SessionSecret(names.secret_name(whose, index), f"{CREDENTIALS}/{index}", variable.value)
        for index, variable in enumerate(invocation.credentials)
        if variable.value
    ]
    if invocation.repo_token is not None:
        name = names.repo_token_secret_name(whose)
        found.append(SessionSecret(name, REPO_TOKEN, invocation.repo_token.value))
    return found
