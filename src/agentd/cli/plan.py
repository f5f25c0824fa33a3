"""`agentd plan`."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import trio

from .. import config as configuration
from .. import wire
from ..plan import Clone, Plan, PlannedImage, PlannedUser, make_plan
from .default_config import DEFAULT_CONFIG, check_default
from .run_flags import NO_FLAGS, RunFlags
from .tables import amount, columns, print_json, span


def plan(
    agent: str,
    repo: str | None = None,
    /,
    *,
    flags: RunFlags = NO_FLAGS,
    config: Path = DEFAULT_CONFIG,
    json: bool = False,
) -> int:
    """Show what a session of an agent would get, and start none.

    Nothing is made, pulled or written. No daemon is asked: this command reads the configuration and
    asks Podman as the daemon does, so it is for the daemon's user. A run that would be refused is
    refused here, with the same words and exit status. Values of credentials are never shown; one
    whose variable is not set here is taken to be set for the daemon.

    For example:

        agentd plan site-builder
        agentd plan site-builder --request "Add a status page" --config ./agentd.toml
        agentd plan site-builder https://example.org/site.git --work-unit 42 --json

    Args:
        agent: The agent's name, as the configuration declares it.
        repo: The repository to clone, instead of the agent's own.
        config: The daemon's configuration.
        json: A JSON object.
    """
    request = wire.run_request(agent, **flags.options(agent, repo))
    check_default(config)
    settings = configuration.load(config, os.environ)
    found = trio.run(make_plan, settings, request, os.environ)
    if json:
        print_json(found)
    else:
        print(columns(list(lines(found))))
    return 0


def lines(found: Plan) -> Iterator[tuple[str, str]]:
    """What is shown: a heading, where it is a new one, and a fact."""
    yield "agent", found.agent
    yield from _under("image", *_image(found.image))
    yield "clone", _clone(found.clone)
    if found.work_unit is not None:
        yield "work unit", found.work_unit
    if found.input is not None:
        yield "input", found.input.path
    yield from _under(
        "mounts",
        *(
            f"{mount.source} at {mount.target}, {'read-only' if mount.read_only else 'writable'}"
            for mount in found.mounts
        ),
    )
    yield "credentials", ", ".join(found.credentials) or "none"
    yield "environment", ", ".join(found.environment)
    yield "limits", _limits(found)
    yield "network", found.network
    yield "isolation", _isolation(found)
    yield "user", _user(found.user)
    yield "command", shlex.join(found.command)
    yield "timeout", _timeout(found)
    yield "container", found.container
    yield "record", found.record
    mode = "rootless" if found.rootless else "rootful"
    yield "podman", f"{found.podman_version}, {mode}, {found.podman_socket}"
    yield from _under("remarks", *found.remarks)


def _under(heading: str, *facts: str) -> Iterator[tuple[str, str]]:
    for fact in facts:
        yield heading, fact
        heading = ""


def _image(image: PlannedImage) -> Iterator[str]:
    yield image.reference
    if image.id is not None:
        yield f"id {image.id}"
    if image.digest is not None:
        yield f"digest {image.digest}"
    here = "is not on this host" if image.id is None else "is on this host"
    done = {
        "use": "is used as it is",
        "pull": "is pulled",
        "pull_if_newer": "is pulled if the registry has a newer one",
    }
    yield f'{here} and {done[image.action]}: pull = "{image.policy}"'


def _clone(clone: Clone) -> str:
    if clone.authentication == "none":
        return f"{clone.url}, without authentication"
    who = "" if clone.username is None else f" as {clone.username}"
    return f"{clone.url}, {clone.authentication}{who}, for {clone.origin} alone"


def _limits(found: Plan) -> str:
    limits = found.limits
    facts = [
        f"memory {amount(limits.memory) if limits.memory else 'unlimited'}",
        f"cpus {limits.cpus or 'unlimited'}",
        f"pids {limits.pids or 'unlimited'}",
        f"output {amount(limits.output)}",
        f"record {amount(limits.record)}",
    ]
    return ", ".join(facts)


def _isolation(found: Plan) -> str:
    asked = found.isolation
    return ", ".join(
        [
            "no new privileges" if asked.no_new_privileges else "new privileges allowed",
            "init" if asked.init else "no init",
            f"no capabilities (the setup has {' '.join(asked.setup_capabilities)})",
        ]
    )


def _user(user: PlannedUser) -> str:
    parts = (f"{each.container_id}+{each.size} from {each.host_id}" for each in user.id_map)
    maps = f" ({'; '.join(parts)} of the service's ids)" if user.id_map else ""
    return f"uid {user.uid}, on this host {user.host_uid}{maps}"


def _timeout(found: Plan) -> str:
    if found.timeout is None or found.backstop is None:
        return "none"
    limit, backstop = (
        span(datetime.timedelta(seconds=seconds)) for seconds in (found.timeout, found.backstop)
    )
    return f"{limit} from the start; without a daemon Podman ends it after {backstop}"
