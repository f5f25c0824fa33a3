"""What the values of one agent may be, beyond their types: one small rule for each field.

A rule yields problems whose places are relative to the agent. Rules that look at several fields
name the others in `rests_on`, so that one unreadable value is not reported twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final

from .. import cron, names, repository
from .handed_in_rules import MAX_ENTRY, byte_count, handed_in_problems
from .problems import Problem
from .schema import Agent, RepoToken
from .wording import of, path_fault, text_fault, who

MAX_SIZE: Final = 2**63 - 1
"""What Podman's own fields for sizes can hold."""

MAX_PIDS: Final = 4_194_304
"""The kernel's own bound on process ids on 64-bit hosts, proc_sys_kernel(5)."""

MIN_PIDS: Final = 16
"""Init, the setup's shell and what they start are a handful already."""

MIN_MEMORY: Final = 6 * 2**20
"""Bytes; below that a container does not start on every host."""

MIN_CPUS: Final = 0.01
"""The kernel refuses a share of less than 1 ms in every 100 ms."""

MAX_CPUS: Final = 8192.0
"""The most processors that Linux can be built for."""

_NETWORK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NETWORK_MODES: Final = frozenset({"bridge", "container", "ns", "pasta", "private", "slirp4netns"})
"""Words that Podman reads as a mode and forbids as the name of a network."""


def declaration_problems(agent: Agent) -> list[Problem]:
    """Every rule for declarations that `agent` breaks."""
    return [problem for rule in _RULES for problem in rule(agent)]


def image_problems(agent: Agent) -> list[Problem]:
    """Why no session can use the image's name though a file may declare it: padding."""
    fault = text_fault("base_image", agent.base_image, of(agent))
    if fault is None or not agent.base_image.strip():
        return []
    return [Problem(("base_image",), fault)]


def _name(agent: Agent) -> Iterator[Problem]:
    # The agent is not named in these: nobody would find it by such a name.
    fault = text_fault("name", agent.name, "")
    clause = names.agent_name_fault(agent.name)
    if fault is None and clause:
        fault = f"invalid agent name {agent.name!r}; {clause}"
    if fault:
        yield Problem(("name",), fault)


def _image(agent: Agent) -> Iterator[Problem]:
    fault = None
    if not agent.base_image.strip():
        fault = f"field 'base_image' must not be empty{of(agent)}"
    elif not agent.base_image.strip().isprintable():
        fault = f"field 'base_image' must not hold control characters{of(agent)}"
    if fault:
        yield Problem(("base_image",), fault)


def _methodology(agent: Agent) -> Iterator[Problem]:
    if fault := path_fault("methodology_dir", agent.methodology_dir, of(agent)):
        yield Problem(("methodology_dir",), fault)


def _command(agent: Agent) -> Iterator[Problem]:
    if not agent.command.argv:
        text = f'{who(agent)} must define a non-empty command, such as argv = ["my-agent"]'
        yield Problem(("command", "argv"), text)
    for index, word in enumerate(agent.command.argv):
        fault = None
        if not word.strip():
            fault = f"field 'command.argv' must not be empty{of(agent)}; remove the empty word"
        elif "\0" in word:
            fault = f"field 'command.argv' must not hold a NUL byte{of(agent)}"
        elif byte_count(word) + 1 > MAX_ENTRY:
            fault = f"field 'command.argv' must not have words above {MAX_ENTRY} bytes{of(agent)}"
        if fault:
            yield Problem(("command", "argv", index), fault)


def _repo(agent: Agent) -> Iterator[Problem]:
    fault = None if agent.repo is None else repository.url_fault(agent.repo)
    if fault:
        yield Problem(("repo",), f"{who(agent)} defines invalid repo: {fault}")


def _schedule(agent: Agent) -> Iterator[Problem]:
    if agent.schedule is None:
        return
    try:
        cron.parse(agent.schedule)
    except ValueError as error:
        text = f"{who(agent)} defines invalid schedule {agent.schedule!r}: {error}"
        yield Problem(("schedule",), text)
    if agent.repo is None:
        text = "defines schedule but no repo; scheduled agents must define a repo"
        yield Problem(("schedule",), f"{who(agent)} {text}", (("repo",),))


def _scheduled_request(agent: Agent) -> Iterator[Problem]:
    request, place = agent.scheduled_request, ("scheduled_request",)
    if request is not None and not request.strip():
        text = f"field 'scheduled_request' must not be empty{of(agent)}"
        yield Problem(place, f"{text}; leave it out to send no request")
    if request is not None and agent.schedule is None:
        text = f"{who(agent)} defines scheduled_request but no schedule; add one, or remove it"
        yield Problem(place, text, (("schedule",),))


def _token_source(agent: Agent) -> Iterator[Problem]:
    source, place = agent.repo_token_source, ("repo_token_source",)
    if not source:
        if agent.repo_token != RepoToken():
            text = f"{who(agent)} defines repo_token but no repo_token_source; add the latter"
            yield Problem(("repo_token",), text, (place,))
    elif fault := text_fault("repo_token_source", source, of(agent)):
        yield Problem(place, fault)


def _token_use(agent: Agent) -> Iterator[Problem]:
    token = agent.repo_token
    clause = None if token.origin is None else repository.origin_fault(token.origin)
    if clause:
        text = f"{who(agent)} defines invalid repo_token.origin; {clause}"
        yield Problem(("repo_token", "origin"), text)
    # A colon ends the user in Basic, a line break would speak to git's credential protocol.
    if not token.username.strip() or not token.username.isprintable() or ":" in token.username:
        text = f"{who(agent)} defines invalid repo_token.username; it must not be empty,"
        yield Problem(("repo_token", "username"), f"{text} nor hold ':' or control characters")
    if (
        agent.repo_token_source
        and agent.repo
        and not clause
        and not repository.url_fault(agent.repo)
    ):
        clash = repository.token_fault(agent.repo, token.origin)
        if clash:
            text = f"{who(agent)} defines a repo that its clone token cannot serve: {clash}"
            others = (("repo_token_source",), ("repo_token", "origin"))
            yield Problem(("repo",), text, others)


def _network(agent: Agent) -> Iterator[Problem]:
    if not _NETWORK_NAME.fullmatch(agent.network) or agent.network in _NETWORK_MODES:
        text = f"{who(agent)} defines invalid network {agent.network!r}"
        remedy = 'write "default", "host", "none" or the name of a Podman network'
        yield Problem(("network",), f"{text}; {remedy}")


def _numbers(agent: Agent) -> Iterator[Problem]:
    if agent.timeout is not None and not (math.isfinite(agent.timeout) and agent.timeout > 0):
        yield Problem(("timeout",), f"field 'timeout' must be above zero{of(agent)}")
    limits = agent.limits
    ranges: tuple[tuple[str, float | None, float, float], ...] = (
        ("memory", limits.memory, MIN_MEMORY, MAX_SIZE),
        ("cpus", limits.cpus, MIN_CPUS, MAX_CPUS),
        ("pids", limits.pids, MIN_PIDS, MAX_PIDS),
        ("output", limits.output, 1, MAX_SIZE),
        ("record", limits.record, 1, MAX_SIZE),
    )
    for key, value, low, high in ranges:
        # In this form "not a number" lies outside, too.
        if value is not None and not low <= value <= high:
            text = f"field 'limits.{key}' must be from {low} to {high}{of(agent)}"
            yield Problem(("limits", key), text)


_RULES: Final = (
    _name,
    _image,
    _methodology,
    _command,
    _repo,
    _schedule,
    _scheduled_request,
    _token_source,
    _token_use,
    handed_in_problems,
    _network,
    _numbers,
)
