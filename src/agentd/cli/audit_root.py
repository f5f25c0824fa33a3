"""Where the commands below `agentd audit` find records. They need no daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import config as configuration
from ..errors import UsageError
from .default_config import DEFAULT_CONFIG, is_missing


def chosen_root(config: Path | None, audit_root: Path | None, environ: Mapping[str, str]) -> Path:
    """The audit root that is named, or that of the daemon with this configuration.

    Raises:
        UsageError: both are named.
        ConfigError: the configuration cannot be read, or its `[daemon]` table breaks a rule.
        AuditError: neither it nor the environment names an audit root.
    """
    if audit_root is None and config is None and is_missing(DEFAULT_CONFIG):
        raise UsageError(
            f"there is no {DEFAULT_CONFIG}: name the daemon's configuration with --config, or the"
            " directory of its records with --audit-root"
        )
    if audit_root is None:
        return configuration.load_audit_root(config or DEFAULT_CONFIG, environ)
    if config is not None:
        raise UsageError("--config and --audit-root cannot be used together: either names the root")
    return audit_root
