"""agentd runs autonomous AI agent sessions in ephemeral Podman containers.

The public API; everything else is internal. Names are imported when they are first used, so that
`import agentd` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if sys.platform != "linux":
    raise ImportError(f"agentd runs on Linux only, and this is {sys.platform}")

if TYPE_CHECKING:
    from . import config as config
    from . import errors as errors
    from .client import Client as Client
    from .client import RemoteSession as RemoteSession
    from .client import connect as connect
    from .config import Config as Config
    from .config import load as load_config  # noqa: F401
    from .embedding import EmbeddedSession as EmbeddedSession
    from .embedding import EmbeddedSupervisor as EmbeddedSupervisor
    from .embedding import open_supervisor as open_supervisor
    from .errors import AgentdError as AgentdError
    from .outcome import Label as Label
    from .outcome import Outcome as Outcome
    from .wire import Accepted as Accepted
    from .wire import AgentInfo as AgentInfo
    from .wire import Agents as Agents
    from .wire import ArtifactInput as ArtifactInput
    from .wire import Finished as Finished
    from .wire import Inspected as Inspected
    from .wire import Instant as Instant
    from .wire import Instants as Instants
    from .wire import Output as Output
    from .wire import PastSession as PastSession
    from .wire import Pong as Pong
    from .wire import Progress as Progress
    from .wire import Queued as Queued
    from .wire import RunOptions as RunOptions
    from .wire import SessionInfo as SessionInfo
    from .wire import ShutdownStarted as ShutdownStarted
    from .wire import Status as Status

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
    "RemoteSession": ".client:RemoteSession",
    "RunOptions": ".wire:RunOptions",
    "SessionInfo": ".wire:SessionInfo",
    "ShutdownStarted": ".wire:ShutdownStarted",
    "Status": ".wire:Status",
    "config": ".config:",
    "connect": ".client:connect",
    "errors": ".errors:",
    "load_config": ".config:load",
    "open_supervisor": ".embedding:open_supervisor",
}
"""Where each public name is defined: a module and its attribute, or a module alone."""

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agentd' has no attribute '{name}'")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(module, __name__)
    return getattr(found, attribute) if attribute else found
