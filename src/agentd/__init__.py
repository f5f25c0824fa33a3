"""agentd runs autonomous AI agent sessions in ephemeral Podman containers.

The public API; everything else is internal. Names are imported when they are first used, so that
`import agentd` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module

# As in typing, whose import would cost more than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

if sys.platform != "linux":
    raise ImportError(f"agentd runs on Linux only, and this is {sys.platform}")

if TYPE_CHECKING:
    from . import config, errors
    from .client import Client, connect
    from .config import Config
    from .config import load as load_config
    from .embedding import EmbeddedSession, EmbeddedSupervisor, open_supervisor
    from .errors import AgentdError
    from .outcome import Label, Outcome
    from .remote_session import RemoteSession, SessionEvent
    from .wire import (
        Accepted,
        AgentInfo,
        Agents,
        ArtifactInput,
        Finished,
        Inspected,
        Instant,
        Instants,
        Output,
        PastSession,
        Pong,
        Progress,
        Queued,
        Reloaded,
        RunOptions,
        SessionInfo,
        ShutdownStarted,
        StateChanged,
        Status,
    )

__version__ = "0.1.1"

_PUBLIC: Final = {
    "Accepted": ".wire:Accepted",
    "AgentInfo": ".wire:AgentInfo",
    "AgentdError": ".errors:AgentdError",
    "Agents": ".wire:Agents",
    "ArtifactInput": ".wire:ArtifactInput",
    "Client": ".client:Client",
    "Config": ".config:Config",
    "EmbeddedSession": ".embedding:EmbeddedSession",
    "EmbeddedSupervisor": ".embedding:EmbeddedSupervisor",
    "Finished": ".wire:Finished",
    "Inspected": ".wire:Inspected",
    "Instant": ".wire:Instant",
    "Instants": ".wire:Instants",
    "Label": ".outcome:Label",
    "Outcome": ".outcome:Outcome",
    "Output": ".wire:Output",
    "PastSession": ".wire:PastSession",
    "Pong": ".wire:Pong",
    "Progress": ".wire:Progress",
    "Queued": ".wire:Queued",
    "Reloaded": ".wire:Reloaded",
    "RemoteSession": ".remote_session:RemoteSession",
    "RunOptions": ".wire:RunOptions",
    "SessionEvent": ".remote_session:SessionEvent",
    "SessionInfo": ".wire:SessionInfo",
    "ShutdownStarted": ".wire:ShutdownStarted",
    "StateChanged": ".wire:StateChanged",
    "Status": ".wire:Status",
    "config": ".config:",
    "connect": ".client:connect",
    "errors": ".errors:",
    "load_config": ".config:load",
    "open_supervisor": ".embedding:open_supervisor",
}
"""Where each public name is defined: a module and its attribute, or a module alone."""

__all__ = [
    "Accepted",
    "AgentInfo",
    "AgentdError",
    "Agents",
    "ArtifactInput",
    "Client",
    "Config",
    "EmbeddedSession",
    "EmbeddedSupervisor",
    "Finished",
    "Inspected",
    "Instant",
    "Instants",
    "Label",
    "Outcome",
    "Output",
    "PastSession",
    "Pong",
    "Progress",
    "Queued",
    "Reloaded",
    "RemoteSession",
    "RunOptions",
    "SessionEvent",
    "SessionInfo",
    "ShutdownStarted",
    "StateChanged",
    "Status",
    "__version__",
    "config",
    "connect",
    "errors",
    "load_config",
    "open_supervisor",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agentd' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(module, __name__)
    return getattr(found, attribute) if attribute else found
