"""What sessions have left behind in Podman, in the process table and on disk."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from testbed.podman_service import PodmanService, get
from testbed.processes import command_lines

_API = "/v4.0.0/libpod"
_SESSION = re.compile(r"^agentd-[0-9a-f]{8}-(?:.*-)?([0-9a-f]{16})(?:-.*)?$")
_MONITOR = re.compile(r"agentd-[0-9a-f]{8}-[a-z][a-z0-9_-]*-([0-9a-f]{16})")


def leftovers(podman: PodmanService) -> list[str]:
    """Containers, secrets, volumes and monitors of sessions that do not live any more."""
    live = live_sessions()
    found = [
        *(f"container {name}" for entry in _list(podman, "containers") for name in entry["Names"]),
        *(f"secret {entry['Spec']['Name']}" for entry in _list(podman, "secrets")),
    ]
    # A session may begin between the two looks, but not begin and end.
    live |= live_sessions()
    ours = [line for line in found if _session(line.split(" ", 1)[1]) not in {None, *live}]
    volumes = [f"volume {entry['Name']}" for entry in _list(podman, "volumes")]
    return [*ours, *volumes]


def monitors(podman: PodmanService) -> list[str]:
    """The sessions, not alive any more, whose containers' monitors are."""
    # A monitor is told where its service keeps its state.
    lines = [line for line in command_lines() if str(podman.socket.parent) in line]
    seen = {match[1] for line in lines if (match := _MONITOR.search(line))}
    return sorted(seen - live_sessions())


def live_sessions() -> set[str]:
    """The sessions that live: a daemon keeps a file of values to mask for each of them."""
    directories = Path(tempfile.gettempdir()).glob("agentd-*/agentd/masks/*/*")
    return {path.name for path in directories}


def _session(name: str) -> str | None:
    match = _SESSION.match(name)
    return match[1] if match else None


def _list(podman: PodmanService, what: str) -> list[dict[str, Any]]:
    query = "?all=true" if what == "containers" else ""
    entries: list[dict[str, Any]] | None = json.loads(
        get(podman.socket, f"{_API}/{what}/json{query}")
    )
    return entries or []
