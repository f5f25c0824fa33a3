"""The log: one event a line on standard error, flat JSON, or words for people.

The one module that knows structlog. An event has a dotted name (`agentd.*` for the daemon,
`runner.*` for a session's work) and fields; fields whose value is None are left out. Inside
`session_bound` every line carries the session, also from tasks started there. A program that
embeds agentd and sets nothing up gets warnings, as plain lines.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, Protocol, TextIO

import structlog

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS: Final = ("json", "pretty")


class _Logger(Protocol):
    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


def _without_none(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if value is not None}


def _pretty(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    level, name = event.pop("level"), event.pop("event")
    event.pop("timestamp", None)
    fields = "".join(f" {key}={value}" for key, value in event.items())
    return f"{level}: {name}{fields}".replace("\n", "\\n")


def _build(stream: TextIO, renderer: Any, level: int) -> _Logger:
    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_none,
        renderer,
    ]
    logger: _Logger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    return logger


class _Log:
    """The current logger; `configure` exchanges it under everybody who imported it."""

    def __init__(self) -> None:
        self._logger = _build(sys.stderr, _pretty, LEVELS["warning"])

    def replace(self, logger: _Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        """Log what only a developer wants to know."""
        self._logger.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log that something happened as it should."""
        self._logger.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what an operator should look at."""
        self._logger.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what an operator must act on."""
        self._logger.error(event, **fields)


log: Final = _Log()


def configure(environ: Mapping[str, str], stream: TextIO) -> None:
    """Log to `stream` as `AGENTD_LOG` (a level) and `AGENTD_LOG_FORMAT` say.

    Empty counts as unset: `info` and `json`. A word that neither variable knows falls back to
    that, with a warning.
    """
    chosen_level = environ.get("AGENTD_LOG", "").lower() or "info"
    chosen_format = environ.get("AGENTD_LOG_FORMAT", "").lower() or "json"
    renderer = _pretty if chosen_format == "pretty" else structlog.processors.JSONRenderer()
    log.replace(_build(stream, renderer, LEVELS.get(chosen_level, LEVELS["info"])))
    if chosen_format not in FORMATS:
        log.warning("agentd.logging_format_invalid", value=chosen_format, fallback="json")
    if chosen_level not in LEVELS:
        log.warning("agentd.logging_level_invalid", value=chosen_level, fallback="info")


@contextmanager
def session_bound(session_id: str, agent: str) -> Iterator[None]:
    """Every line logged inside carries the session's id and agent."""
    with structlog.contextvars.bound_contextvars(session_id=session_id, agent=agent):
        yield
