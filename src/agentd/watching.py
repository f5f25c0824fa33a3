"""What Podman tells of containers, for whom inotify has missed it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio
from trio_util import periodic

from . import names
from .errors import PodmanError
from .logs import log
from .session.engine import Engine

SWEEP_SECONDS: Final = 45.0
"""How often every session looks at its container without having been woken."""

RETRY_SECONDS: Final = 1.0
"""Between the end of one stream of events and the next."""


async def watch_containers(
    engine: Engine, wake: Callable[[str, str], None], wake_all: Callable[[], None]
) -> None:
    """Call `wake` with name and action when something happens to a container, for ever.

    inotify wakes a session first; this stream covers what it missed, and a slow sweep, which
    calls `wake_all`, covers what both missed.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_follow_events, engine, wake, wake_all)
        async for _ in periodic(SWEEP_SECONDS):
            wake_all()


async def _follow_events(
    engine: Engine, wake: Callable[[str, str], None], wake_all: Callable[[], None]
) -> None:
    while True:
        try:
            label = names.Label.INSTANCE
            await engine.podman.each_container_event(label, engine.instance, wake)
        except PodmanError as error:
            log.debug("agentd.podman_events_interrupted", error=str(error))
        await trio.sleep(RETRY_SECONDS)
        # Whatever happened while nobody listened.
        wake_all()
