"""What every session of one daemon shares, handed down once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import msgspec
import trio

from ..audit import Place
from ..metrics import Metrics
from ..podman import Podman
from ..watch import Watcher
from .spec import HostAbilities

STARTING_AT_ONCE: Final = 6
"""Containers between create and start: more at once cost no throughput less, and each waits."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """Podman, the watcher of files, and where things of a session lie."""

    podman: Podman
    watcher: Watcher
    abilities: HostAbilities
    instance: str
    audit_root: Path
    audit_place: Place | None = None
    """Which directory the audit root was at the start; None takes whatever is at its path."""
    masks_dir: Path
    """Where the values to mask are kept while a session lives; 0700, on the runtime file system."""
    starting: trio.CapacityLimiter
    metrics: Metrics = msgspec.field(default_factory=Metrics)
    forced: trio.Event = msgspec.field(default_factory=trio.Event)
    """Set when a session that is cancelled is to be killed. Somebody has to say so: a daemon that
    hands over, and one that fails, leaves its sessions to the next one."""
    fit_images: set[str] = msgspec.field(default_factory=set)
    """Ids of images that have an entrypoint; to look costs 40 ms."""

    def leaves(self, deadline: float) -> bool:
        """Whether the session that asks is being left, as it is, to the next daemon.

        That is so once it is cancelled, but by its own `deadline` on Trio's clock, or by force.
        """
        cancelled = trio.current_effective_deadline() == -math.inf
        return cancelled and not self.forced.is_set() and trio.current_time() < deadline
