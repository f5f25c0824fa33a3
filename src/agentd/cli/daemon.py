"""`agentd daemon`."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import trio

from .. import config as configuration
from .. import logs
from ..daemon.main import run_daemon
from ..daemon.signals import hold_hangups
from .default_config import DEFAULT_CONFIG, check_default


def daemon(*, config: Path = DEFAULT_CONFIG) -> int:
    """Run the daemon in the foreground, until SIGINT or SIGTERM and the end of its sessions.

    A second signal kills the sessions. SIGHUP lets it read the configuration again, as 'agentd
    reload' does. Logs go to standard error: AGENTD_LOG is the level
    (debug, info, warning, error), AGENTD_LOG_FORMAT is json or pretty.

    For example:

        agentd daemon --config ./agentd.toml

    Args:
        config: The configuration, TOML; examples/agentd.toml documents every key.
    """
    hold_hangups()
    check_default(config)
    settings = configuration.load(config, os.environ)
    _raise_descriptor_limit()
    with logs.daemon_log(os.environ, sys.stderr):
        trio.run(run_daemon, settings, config.absolute(), os.environ)
    return 0


def _raise_descriptor_limit() -> None:
    """Take all the open files that may be had: the usual soft limit of 1024 is there for programs
    that use select(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
