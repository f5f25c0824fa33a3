"""The set of live sessions: taking runs in, looking sessions up, waiting for all to end.

Usable without the daemon: a program that embeds agentd opens a supervisor in its own nursery.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio
from trio_util import periodic

from . import names
from .config import Config
from .errors import AgentdError, PodmanError, ShuttingDown
from .logs import log
from .session.admission import admit
from .session.engine import Engine
from .session.invocation import resolve_invocation
from .session.lifecycle import run_session
from .session.session import Session
from .wire import Run

SWEEP_SECONDS: Final = 45.0
"""How often every session looks at its container without having been woken."""

EVENTS_RETRY_SECONDS: Final = 1.0


class Supervisor:
    """The live sessions of one daemon."""

    def __init__(self, config: Config, engine: Engine, nursery: trio.Nursery) -> None:
        self._config = config
        self._engine = engine
        self._nursery = nursery
        self._by_container: dict[str, Session] = {}
        self._draining = False
        self._empty = trio.Event()
        self._empty.set()
        self._admitting = 0
