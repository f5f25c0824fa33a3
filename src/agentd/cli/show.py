"""A session's events on the terminal."""

from __future__ import annotations

import sys

from .. import wire


class Show:
    """Writes the agent's output to standard output and standard error, and ours to the latter."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self.session_id: str | None = None
        """The session that the events are about, once the daemon has said so."""

    async def event(self, event: wire.Event) -> None:
        """Show one event. Raises `BrokenPipeError` when nobody reads any more."""
        match event:
            case wire.Progress(text=text):
                self.note(text)
            case wire.Queued():
                self.session_id = event.session_id
                self.note(f"session {event.session_id} is number {event.position} in the queue")
            case wire.Accepted():
                self.session_id = event.session_id
                self.note(f"session {event.session_id}, record {event.record}")
            case wire.Output() if not self._quiet:
                # Bytes as they came: an agent's output need not be text.
                stream = sys.stdout if event.stream == "stdout" else sys.stderr
                stream.buffer.write(event.data)
                stream.flush()
            case _:
                pass

    def note(self, text: str) -> None:
        """Say something of our own, unless it was to be quiet."""
        if not self._quiet:
            print(f"agentd: {text}", file=sys.stderr, flush=True)
