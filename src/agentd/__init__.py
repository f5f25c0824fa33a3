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
    "AgentdError": ("errors", "AgentdError"),
    "Client": ("client", "Client"),
    "Outcome": ("outcome", "Outcome"),
    "connect": ("client", "connect"),
    "load_config": ("config", "load"),
}

__all__ = ["AgentdError", "Client", "Outcome", "__version__", "connect", "load_config"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'agentd' has no attribute '{name}'")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(f".{module}", __name__), attribute)
