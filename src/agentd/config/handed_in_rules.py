"""What an operator may hand into a session: mounts, credentials and plain variables.

The rules yield problems whose places are relative to the agent, as those of `agent_rules` do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .. import mount_rules, names
from .problems import Place, Problem
from .schema import Agent
from .wording import of, path_fault, text_fault, who

MAX_ENTRY: Final = 128 * 1024
"""Bytes of `NAME=value`, or of one argument, with its NUL: Linux's MAX_ARG_STRLEN, execve(2)."""

MAX_ENVIRONMENT: Final = 2**20
"""Bytes of all plain variables of a session together; with the image's they must fit one exec."""


def handed_in_problems(agent: Agent) -> Iterator[Problem]:
    """Every rule that the agent's mounts, credentials and variables break."""
    yield from _mounts(agent)
    yield from _credentials(agent)
    yield from _environment(agent)


def byte_count(text: str) -> int:
    """How many bytes `text` is for the kernel."""
    return len(text.encode(errors="surrogatepass"))


def _mounts(agent: Agent) -> Iterator[Problem]:
    sound: dict[int, str] = {}
    for index, mount in enumerate(agent.mounts):
        place: Place = ("mounts", index)
        fault = _mount_source_fault(agent, mount.source)
        if fault:
            yield Problem((*place, "source"), fault)
        fault = text_fault("mounts.target", mount.target, of(agent))
        clause = mount_rules.target_fault(mount.target, agent.name)
        if fault is None and clause:
            fault = f"{who(agent)} defines invalid mount target: {clause}"
        if fault:
            yield Problem((*place, "target"), fault, (("name",),))
            continue
        position = mount_rules.clash(mount.target, list(sound.values()))
        if position is not None:
            earlier, target = list(sound.items())[position]
            text = _clash_text(agent, target, mount.target)
            yield Problem((*place, "target"), text, (("mounts", earlier, "target"),))
        sound[index] = mount.target


def _mount_source_fault(agent: Agent, source: str) -> str | None:
    whose = of(agent)
    fault = text_fault("mounts.source", source, whose) or path_fault("mounts.source", source, whose)
    if fault:
        return fault
    if not source.startswith("/"):
        text = f"{who(agent)} defines mount source that must be absolute: {source!r}"
        return f"{text}; neither '~' nor variables are expanded"
    return None


def _clash_text(agent: Agent, first: str, second: str) -> str:
    if first == second:
        return f"{who(agent)} defines duplicate mount target: {second!r}; mount one thing there"
    text = f"{who(agent)} defines overlapping mount targets: {first!r} and {second!r}"
    return f"{text}; no target may lie inside another"


def _credentials(agent: Agent) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, credential in enumerate(agent.credentials):
        place: Place = ("credentials", index)
        name = credential.name
        fault = text_fault("credentials.name", name, of(agent))
        clause = names.variable_name_fault(name)
        if fault is None and clause:
            fault = f"{who(agent)} defines invalid credential name {name!r}; {clause}"
        if fault:
            yield Problem((*place, "name"), fault)
        elif name in seen:
            text = f"{who(agent)} defines duplicate credential name {name!r}; keep one of them"
            yield Problem((*place, "name"), text, (("credentials", seen[name], "name"),))
        seen.setdefault(name, index)
        if not credential.source.strip():
            text = f"field 'credentials.source' must not be empty{of(agent)} credential {name!r}"
            yield Problem((*place, "source"), f"{text}; name a variable of the daemon")


def _environment(agent: Agent) -> Iterator[Problem]:
    by_name = {credential.name: i for i, credential in enumerate(agent.credentials)}
    for name, value in agent.environment.items():
        fault = _variable_fault(agent, name, value)
        if fault:
            yield Problem(("environment", name), fault)
        elif name in by_name:
            text = f"{who(agent)} defines {name!r} in environment and as a credential; keep one"
            yield Problem(("environment", name), text, (("credentials", by_name[name], "name"),))
    if sum(_entry_size(*entry) for entry in agent.environment.items()) > MAX_ENVIRONMENT:
        text = f"field 'environment' must not exceed {MAX_ENVIRONMENT} bytes in all{of(agent)}"
        yield Problem(("environment",), f"{text}; mount a file instead")


def _variable_fault(agent: Agent, name: str, value: str) -> str | None:
    clause = names.variable_name_fault(name)
    if clause:
        return f"{who(agent)} defines invalid environment variable {name!r}; {clause}"
    if "\0" in value:
        return f"environment variable {name!r} must not hold a NUL byte{of(agent)}"
    if _entry_size(name, value) > MAX_ENTRY:
        text = f"environment variable {name!r} with its name must not exceed {MAX_ENTRY} bytes"
        return f"{text}{of(agent)}; mount a file instead"
    return None


def _entry_size(name: str, value: str) -> int:
    return byte_count(name) + len("=") + byte_count(value) + len("\0")
