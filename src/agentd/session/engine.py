"""What every session of one daemon shares, handed down once."""

from __future__ import annotations

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
    leaving: trio.Event = msgspec.field(default_factory=trio.Event)
    """Set when the daemon hands over: a session that is cancelled then leaves its container be."""
    fit_images: set[str] = msgspec.field(default_factory=set)
    """Ids of images that have an entrypoint; to look costs 40 ms."""
