"""The log: one event a line on standard error, flat JSON, or words for people.

The one module that knows structlog. An event has a dotted name (`agentd.*` for the daemon,
`runner.*` for a session's work) and fields; fields whose value is None are left out.
`docs/log-events.md` lists them all. Inside `session_bound` every line carries the session, also
from tasks started there. In a program that embeds agentd, lines go to the standard library's logger
`agentd`, and so, unless the program sets logging up, its warnings as plain lines to standard error.
Of the daemon's log, no call raises or waits because of whoever reads it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from functools import cached_property, partialmethod
from typing import Any, Final, Protocol, TextIO

from .log_writer import LineWriter

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS: Final = ("json", "pretty")

CLOSE_SECONDS: Final = 2.0
"""How long the end of the daemon waits for its last lines to be taken."""


class _Logger(Protocol):
    def debug(self, event: str, **fields: object) -> None: ...
    def info(self, event: str, **fields: object) -> None: ...
    def warning(self, event: str, **fields: object) -> None: ...
    def error(self, event: str, **fields: object) -> None: ...


class _Sink(Protocol):
    """Where lines go, once they are words: a method for each level."""

    def debug(self, line: str) -> None: ...
    def info(self, line: str) -> None: ...
    def warning(self, line: str) -> None: ...
    def error(self, line: str) -> None: ...


class _Plain:
    """Writes a line when it is logged."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        # A reader that has gone, or a closed stream, is no reason to end what is logged about.
        with suppress(OSError, ValueError):
            self._stream.write(f"{line}\n")
            self._stream.flush()

    debug = info = warning = error = _write


class _Standard:
    """Hands lines to the standard library's logger, which is for the host program to set up."""

    _logger = logging.getLogger("agentd")

    def _write(self, level: int, line: str) -> None:
        # As above: its last resort, standard error, may be closed.
        with suppress(OSError, ValueError):
            self._logger.log(level, line)

    debug = partialmethod(_write, logging.DEBUG)
    info = partialmethod(_write, logging.INFO)
    warning = partialmethod(_write, logging.WARNING)
    error = partialmethod(_write, logging.ERROR)


class _Queued:
    """Hands lines to a writer; what an operator should see is kept, whatever happens."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def _put(self, line: str, *, keep: bool) -> None:
        self._writer.put(f"{line}\n".encode(errors="backslashreplace"), keep=keep)

    def debug(self, line: str) -> None:
        self._put(line, keep=False)

    def warning(self, line: str) -> None:
        self._put(line, keep=True)

    info, error = debug, warning


def _without_none(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {key: value for key, value in event.items() if value is not None}


def _pretty(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    level = event.pop("level")
    return f"{level}: {_words(_logger, _method, event)}"


def _words(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """The event and its fields: level and time are what a host program's own logging adds."""
    name = event.pop("event")
    left_out = {"level", "timestamp"}
    fields = "".join(f" {key}={value}" for key, value in event.items() if key not in left_out)
    # What others have written stands in fields, and must not steer the reader's terminal.
    return "".join(map(_shown, f"{name}{fields}"))


def _shown(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def _build(sink: _Sink, renderer: Any | None, level: int) -> _Logger:
    """A logger whose events `renderer` makes lines of; None makes JSON of them."""
    # A third of what commands about records take to start, and they seldom log.
    import structlog  # noqa: PLC0415

    processors = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_none,
        renderer or structlog.processors.JSONRenderer(),
    ]
    logger: _Logger = structlog.wrap_logger(
        sink,
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    return logger


class _Log:
    """The current logger; `configure` exchanges it under everybody who imported it."""

    def __init__(self) -> None:
        self._writer: LineWriter | None = None

    @cached_property
    def _logger(self) -> _Logger:
        """That of a program which embeds agentd, until somebody sets up another."""
        return _build(_Standard(), _words, LEVELS["debug"])

    def replace(self, logger: _Logger) -> None:
        self._logger = logger

    @contextmanager
    def written_by(self, writer: LineWriter) -> Iterator[None]:
        """While inside, `writer` is what `flush` waits for; the logger of before comes back."""
        before = self._logger
        self._writer = writer
        try:
            yield
        finally:
            self._writer, self._logger = None, before

    def flush(self, seconds: float) -> None:
        """Wait until all lines are written, so long at most: before an end without clean-up."""
        if self._writer is not None:
            self._writer.flush(seconds)

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
    """Log to `stream`, each line when it is logged, as `AGENTD_LOG` and `AGENTD_LOG_FORMAT` say.

    `AGENTD_LOG` is a level. Empty counts as unset: `info` and `json`. A word that neither
    variable knows falls back to that, with a warning.
    """
    _configure(environ, _Plain(stream))


def _configure(environ: Mapping[str, str], sink: _Sink) -> None:
    chosen_level = environ.get("AGENTD_LOG", "").lower() or "info"
    chosen_format = environ.get("AGENTD_LOG_FORMAT", "").lower() or "json"
    renderer = _pretty if chosen_format == "pretty" else None
    log.replace(_build(sink, renderer, LEVELS.get(chosen_level, LEVELS["info"])))
    if chosen_format not in FORMATS:
        log.warning("agentd.logging_format_invalid", value=chosen_format, fallback="json")
    if chosen_level not in LEVELS:
        error = f"not one of {', '.join(LEVELS)}"
        log.warning(
            "agentd.logging_filter_invalid", spec=chosen_level, error=error, fallback="info"
        )


@contextmanager
def daemon_log(environ: Mapping[str, str], stream: TextIO | None) -> Iterator[None]:
    """Log to the file below `stream`, as `configure` does, without ever waiting for its reader.

    A thread writes. While the reader is stuck or gone, debug and info lines are dropped when many
    wait, and counted; warnings and errors are kept. At the end the last lines have two seconds.
    If they were not taken, the stream leads to /dev/null from then on: whatever else the process
    wants to say must not hang either. No stream, as with a closed standard error, is no log.
    """
    descriptor = os.open(os.devnull, os.O_WRONLY) if stream is None else os.dup(stream.fileno())
    writer = LineWriter(descriptor, _tell_dropped)
    with log.written_by(writer):
        try:
            _configure(environ, _Queued(writer))
            yield
        finally:
            if writer.finish(CLOSE_SECONDS):
                os.close(descriptor)
            elif stream is not None:
                # The descriptor stays open: the thread may still be writing to it.
                _lead_nowhere(stream)


def _lead_nowhere(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _tell_dropped(others: int, warnings: int) -> None:
    tell = log.error if warnings else log.warning
    tell(
        "agentd.log_lines_dropped",
        count=others + warnings,
        warning_count=warnings,
        reason="nobody took the log's lines for a while",
    )


@contextmanager
def session_bound(session_id: str, agent: str, container_name: str) -> Iterator[None]:
    """Every line logged inside carries the session's id, its agent and its container's name."""
    import structlog  # noqa: PLC0415 - as above

    with structlog.contextvars.bound_contextvars(
        session_id=session_id, agent=agent, container_name=container_name
    ):
        yield
