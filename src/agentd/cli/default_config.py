"""The configuration of commands that are told none."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..errors import ConfigError

DEFAULT_CONFIG: Final = Path("/etc/agentd/agentd.toml")


def is_missing(config: Path) -> bool:
    """Whether there is no such file, which is not for one that cannot be looked at."""
    try:
        config.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def check_default(config: Path) -> None:
    """Tell the way out when `config` is the usual one, and is not there.

    Raises:
        ConfigError: so it is.
    """
    if config == DEFAULT_CONFIG and is_missing(config):
        raise ConfigError(
            [f"failed to read config: there is no {config}; name the daemon's with --config"]
        )
