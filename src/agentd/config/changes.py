"""What differs between two configurations, by name. Values are never told: some are secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from .schema import Config

FIXED: Final = frozenset({"socket_path", "pid_file", "audit_root", "podman_socket"})
"""Keys of `[daemon]` that a running daemon cannot exchange: it has claimed what they name, and its
sessions depend on it."""


class Changes(Struct, frozen=True, kw_only=True):
    """Which agents came, went and changed, and which keys; all in the order of the files."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: dict[str, tuple[str, ...]] = {}
    """The keys that changed, such as `limits.memory`, by the agent's name."""
    daemon: tuple[str, ...] = ()
    """Keys of `[daemon]`."""

    @property
    def fixed(self) -> tuple[str, ...]:
        """Those among the keys of `[daemon]` that cannot change while the daemon runs."""
        return tuple(key for key in self.daemon if key in FIXED)


def changes(before: Config, after: Config) -> Changes:
    """What makes `after` of `before`. An agent with another name is another agent."""
    old = {agent.name: agent for agent in before.agents}
    new = {agent.name: agent for agent in after.agents}
    both = {name: tuple(_keys(old[name], new[name])) for name in new if name in old}
    return Changes(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={name: keys for name, keys in both.items() if keys},
        daemon=tuple(_keys(before.daemon, after.daemon)),
    )


def _keys(before: Struct, after: Struct, prefix: str = "") -> Iterator[str]:
    """The keys whose values differ; those of a table within a table by their whole path."""
    for field in before.__struct_fields__:
        old, new = getattr(before, field), getattr(after, field)
        if isinstance(old, Struct) and isinstance(new, Struct):
            yield from _keys(old, new, f"{prefix}{field}.")
        elif old != new:
            yield prefix + field
