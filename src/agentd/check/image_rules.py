"""What `probe.sh` has seen in the throw-away container, judged. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from ..config import Agent
from .finding import Finding, fail, ok

OLDEST_RUNA: Final = (0, 1, 2)
"""The first with `--agent-command`."""

MARK: Final = "agentd-check"
"""How the lines of the script begin; all others are words of programs that it started."""

Facts: TypeAlias = Mapping[str, Sequence[str]]
"""The texts of the script's lines, by their first word."""


def facts(output: str) -> Facts:
    """Read the script's lines out of what the container wrote."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        mark, _, rest = line.partition(" ")
        if mark == MARK:
            word, _, text = rest.partition(" ")
            found.setdefault(word, []).append(text)
    return found


def command_word(agent: Agent) -> str:
    """The word of the agent's command that can be looked for; nothing for one in the clone."""
    word = agent.command.argv[0]
    return "" if "/" in word and not word.startswith("/") else word


def findings(agent: Agent, found: Facts, *, methodology_sound: bool) -> list[Finding]:
    """What the container said of the image.

    `methodology_sound` says that nothing was found wrong with the methodology: what runa says of
    one that is not is known already.
    """
    told = []
    if "tools" in found:
        told.append(_tools(agent, found))
    if "command-looked-for" in found:
        told.append(_command(agent, found))
    if "runa-status" in found:
        told.append(_runa(agent, found))
    if "runa-mcp-looked-for" in found:
        told.append(_runa_mcp(agent, found))
    if "runa-init" in found and methodology_sound:
        told.append(_init(agent, found))
    return told


def _missing(found: Facts) -> Sequence[str]:
    return found.get("missing", ())


def _tools(agent: Agent, found: Facts) -> Finding:
    tools = " ".join(found.get("tools", ()))
    missing = _missing(found)
    if not missing:
        return ok("image-tools", f"{agent.base_image} has sh {tools}", agent.name)
    return fail(
        "image-tools",
        f"{agent.base_image} has no {', '.join(missing)}; a session image needs: sh {tools}",
        f"add {' and '.join(missing)} to the image",
        agent.name,
    )


def _runa(agent: Agent, found: Facts) -> Finding:
    said = _joined(found, "runa")
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if found["runa-status"][0] != "0" or version is None:
        return fail(
            "runa",
            f"runa does not run as the session user: {said or 'it says nothing'}",
            "make runa and the directories above it readable and executable for everybody",
            agent.name,
        )
    if tuple(map(int, version.groups())) < OLDEST_RUNA:
        oldest = ".".join(map(str, OLDEST_RUNA))
        return fail(
            "runa",
            f"runa is {version[0]}, and agentd needs {oldest} or newer",
            f"put runa {oldest} or newer into the image",
            agent.name,
        )
    return ok("runa", f"runa {version[0]} runs as the session user", agent.name)


def _runa_mcp(agent: Agent, found: Facts) -> Finding:
    if place := _joined(found, "runa-mcp"):
        return ok("runa-mcp", f"{place} is there for the session user", agent.name)
    return fail(
        "runa-mcp",
        "the session user has no runa-mcp beside runa or on the search path: runa starts no"
        " protocol without it",
        "put runa-mcp of runa's own release beside runa, readable and executable for everybody",
        agent.name,
    )


def _command(agent: Agent, found: Facts) -> Finding:
    word = agent.command.argv[0]
    if not command_word(agent):
        text = f"{word} is to be in the repository, which only a session has"
        return ok("command", text, agent.name)
    if place := _joined(found, "command"):
        text = f"{place} is there for the session user"
        return ok("command", text, agent.name)
    if place := _joined(found, "command-of-root"):
        return fail(
            "command",
            f"{place} is there, but the session user may not start it",
            "make it and the directories above it readable and executable for everybody",
            agent.name,
        )
    return fail(
        "command",
        f"neither image nor mounts have {word}, the first word of the agent's command",
        f"install it in the image, or correct command.argv of agent '{agent.name}'",
        agent.name,
    )


def _init(agent: Agent, found: Facts) -> Finding:
    if found["runa-init"][0] == "0":
        text = "runa init takes the methodology, as the session user, on the record's file system"
        return ok("runa-init", text, agent.name)
    return fail(
        "runa-init",
        f"runa init ends with status {found['runa-init'][0]}: {_joined(found, 'runa-init-says')}",
        f"correct {agent.methodology_dir}, and let the session user (uid 10001) read all of it",
        agent.name,
    )


def _joined(found: Facts, word: str) -> str:
    return "; ".join(text for text in found.get(word, ()) if text)
