"""Where in the container an operator's mount may go. Pure: it looks at text, never at a disk.

Targets are compared component by component, so `/agentd/methodology-cache` is not below
`/agentd/methodology`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_FORBIDDEN: Final = frozenset(",*?[]\\")
"""Signs that a pattern or an option list would read; a target with none of them is only a path."""


def reserved_targets(agent_name: str) -> tuple[str, ...]:
    """The trees that the runner itself mounts or fills in a session of this agent."""
    home = f"/home/{agent_name}"
    ours = ("/agentd/methodology", "/agentd/invocation-input", "/agentd/credentials")
    return (*ours, f"{home}/repo", f"{home}/.agentd")


def target_fault(target: str, agent_name: str) -> str | None:
    """Why nothing may be mounted at `target`, as a sentence that ends with it, or None."""
    if target != "/" and not _is_plain_absolute(target):
        return (
            "mount target must be an absolute path without trailing '/', empty, '.' or '..'"
            f" components, control characters, and any of , * ? [ ] \\: {target!r}"
        )
    reserved = (*reserved_targets(agent_name), f"/home/{agent_name}")
    inside = any(is_within(target, tree) for tree in reserved_targets(agent_name))
    if inside or any(is_within(tree, target) for tree in reserved):
        return f"mount target is reserved by the runner: {target!r}"
    return None


def is_within(path: str, tree: str) -> bool:
    """Whether `path` is `tree` or lies below it, by whole components."""
    return tree in {"/", path} or path.startswith(f"{tree}/")


def clash(target: str, earlier: Sequence[str]) -> int | None:
    """The position in `earlier` of the first target that `target` equals or nests with, or None."""
    for position, other in enumerate(earlier):
        if is_within(target, other) or is_within(other, target):
            return position
    return None


def _is_plain_absolute(target: str) -> bool:
    if not target.startswith("/") or not target.isprintable() or _FORBIDDEN & set(target):
        return False
    return not {"", ".", ".."} & set(target[1:].split("/"))
