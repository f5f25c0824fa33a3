"""What an agent's declaration needs of the world around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from .. import cron
from ..config import Agent
from ..errors import AgentdError, CredentialUnavailable, HostUnsupported
from ..podman import Image
from ..session.invocation import read_credential, read_credentials, read_repo_token
from ..session.spec import HostAbilities, check_limits
from .finding import Finding, fail, ok, refused, warn


class Surroundings(NamedTuple):
    """The environment in which credentials were looked for."""

    variables: Mapping[bytes, bytes]
    whose: str
    certain: bool
    """Whether it is the daemon's, as far as anybody can tell; else what it lacks is no fault."""


def surroundings_finding(found: Surroundings) -> Finding:
    """In which environment credentials and the time zone were looked for."""
    text = f"credentials, clone tokens and TZ were looked for in {found.whose}"
    if found.certain:
        return ok("environment", text)
    return warn(
        "environment",
        f"{text}: the daemon's own is what counts, and it cannot be seen from here",
        "run this check as the daemon's user, with the environment that the daemon gets",
    )


def credential_findings(agent: Agent, found: Surroundings) -> list[Finding]:
    """Whether each credential can be injected. No value is shown, nor anything of it."""
    findings = []
    for declared in agent.credentials:
        try:
            read_credential(agent, declared, found.variables)
        except CredentialUnavailable as error:
            findings.append(_unavailable("credential", agent, declared.source, error, found))
        else:
            text = f"{declared.name} has a value: {declared.source} in {found.whose}"
            findings.append(ok("credential", text, agent.name))
    if all(each.status == "ok" for each in findings):
        try:
            read_credentials(agent, found.variables)
        except CredentialUnavailable as error:
            remedy = "mount a file instead of so large a credential"
            findings.append(refused("credential", error, remedy, agent.name))
    return findings


def _unavailable(
    name: str, agent: Agent, source: str, error: AgentdError, found: Surroundings
) -> Finding:
    told = fail if found.certain or source.encode() in found.variables else warn
    remedy = (
        f"set {source} where the daemon gets its environment, such as EnvironmentFile= of its unit,"
        " and restart it; without a daemon, run this check with the same environment"
    )
    return told(name, f"{error.message} (looked for in {found.whose})", remedy, agent.name)


def repo_token_finding(agent: Agent, found: Surroundings) -> Finding | None:
    """Whether the clone token is there and fits the repository; None when none is declared."""
    source = agent.repo_token_source
    if not source:
        return None
    # Without a repository of its own, the agent is run with one on the token's origin.
    repo = agent.repo or f"{agent.repo_token.origin or 'https://host'}/repository"
    try:
        token = read_repo_token(agent, repo, found.variables)
    except CredentialUnavailable as error:
        return _unavailable("repo-token", agent, source, error, found)
    except AgentdError as error:
        remedy = "give the agent a repo or repo_token.origin"
        return refused("repo-token", error, remedy, agent.name)
    if token is None:
        return warn(
            "repo-token",
            f"{source} is not set in {found.whose}: repositories are cloned without a token",
            f"set {source} where the daemon gets its environment, or remove repo_token_source",
            agent.name,
        )
    text = f"{source} in {found.whose} has a token, for {token.origin} alone"
    return ok("repo-token", text, agent.name)


def schedule_finding(agent: Agent, now: datetime, zone: ZoneInfo) -> Finding | None:
    """When the agent fires next; None when it has no schedule."""
    if agent.schedule is None:
        return None
    schedule = cron.parse(agent.schedule)
    at = cron.next_fire(schedule, now, zone)
    note = cron.note(schedule, at, zone)
    when = f"{at.astimezone(zone):%a %Y-%m-%d %H:%M %z} ({zone})"
    text = f"'{agent.schedule}' fires next on {when}" + (f": {note}" if note else "")
    return ok("schedule", text, agent.name)


def limits_finding(agent: Agent, abilities: HostAbilities) -> Finding:
    """Whether this host can enforce the limits that the agent declares."""
    try:
        check_limits(agent, abilities)
    except HostUnsupported as error:
        return refused("limits", error, "remove the limit", agent.name)
    limits = {key: getattr(agent.limits, key) for key in ("memory", "cpus", "pids")}
    written = ", ".join(f"{key} = {value}" for key, value in limits.items() if value is not None)
    text = f"{written}: this host enforces it" if written else "none is declared"
    return ok("limits", text, agent.name)


def image_finding(agent: Agent, image: Image | None) -> Finding:
    """Whether the image is on this host, and what the agent's pull policy makes of that."""
    name = agent.base_image
    policy = f'pull = "{agent.pull}"'
    if image is not None:
        then = {
            "missing": "uses it as it is",
            "never": "uses it as it is",
            "newer": "asks the registry for a newer one before each session",
            "always": "pulls it again before each session, which needs the registry",
        }[agent.pull]
        return ok("image", f"{name} is on this host, and {policy} {then}", agent.name)
    if agent.pull == "never":
        return fail(
            "image",
            f"{name} is not on this host, and {policy} refuses every session",
            f"run 'podman pull {name}', or build it, as the user of the Podman service",
            agent.name,
        )
    return warn(
        "image",
        f"{name} is not on this host; {policy} pulls it for the first session, and what it holds"
        " cannot be looked at before",
        f"run 'podman pull {name}' as the user of the Podman service, then this check again",
        agent.name,
    )
