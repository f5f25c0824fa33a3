"""The socket on which systemd listens to a service, sd_notify(3)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from testbed.processes import SECONDS, WaitError


class Systemd:
    """Hears what a daemon tells whose `NOTIFY_SOCKET` is `address`."""

    def __init__(self, address: str, listener: socket.socket) -> None:
        """`listener` is bound to that address; a leading @ makes it an abstract one."""
        self.address = address
        self._listener = listener

    def heard(self) -> list[str]:
        """What has come since it was last asked."""
        messages = []
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                messages.append(self._listener.recv(4096).decode())
        return messages

    def hears(self, what: str | Callable[[str], bool]) -> list[str]:
        """Wait for such a message; gives it and what has come before, since it was last asked."""
        found = what.__eq__ if isinstance(what, str) else what
        messages: list[str] = []
        self._listener.settimeout(SECONDS)
        while not (messages and found(messages[-1])):
            try:
                messages.append(self._listener.recv(4096).decode())
            except TimeoutError:
                raise WaitError(f"no {what} among {messages}") from None
        return messages


@contextmanager
def listening_systemd(address: str) -> Iterator[Systemd]:
    """Listen at this path or, with a leading @, at this abstract address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(re.sub(r"\A@", "\0", address))
        yield Systemd(address, listener)
