"""agentd runs autonomous AI agent sessions in ephemeral Podman containers.

The public API; everything else is internal. Names are imported when they are first used, so that
`import agentd` costs next to nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.platform != "linux":
    raise ImportError(f"agentd runs on Linux only, and this is {sys.platform}")

if TYPE_CHECKING:
    from .client import Client as Client
    from .client import connect as connect
    from .config import load as load_config
    from .errors import AgentdError as AgentdError
    from .outcome import Outcome as Outcome

__version__ = "0.1.1"

_PUBLIC = {
    "AgentdError": "errors",
    "Client": "client",
    "Outcome": "outcome",
    "connect": "client",
}

__all__ = ["AgentdError", "Client", "Outcome", "__version__", "connect", "load_config"]


def __getattr__(name: str) -> Any:
    if name == "load_config":
        return import_module(".config", __name__).load
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module 'agentd' has no attribute '{name}'")
