"""Sessions that have ended and of which something is left, which goes as soon as it can.

Their outcomes are known and told. What is left is a container or a secret that Podman would not
remove, a container whose end could not be written down, or a record that could not be closed.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from .. import audit, names
from ..errors import AgentdError
from ..logs import log
from ..watch import Hint
from .closing import close_record
from .disk import DISK_SECONDS, on_disk
from .engine import Engine
from .session import Session
from .teardown import log_failure

SETTLE_SECONDS: Final = 60.0
"""Until the first attempt, when nothing says that it could work before."""

LONGEST_SECONDS: Final = 3600.0
"""Between two attempts. Each pause is twice as long as the one before: what an agent has made
unsealable for good is not to fill the log."""


class _Left:
    """A session of which something is left, and when to try again."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pause = SETTLE_SECONDS
        self.due = trio.current_time() + self.pause

    @property
    def is_fresh(self) -> bool:
        """Whether it may still be Podman or the disk that keeps it from going."""
        return self.pause <= 4 * SETTLE_SECONDS

    def wait_longer(self) -> None:
        """After another attempt in vain."""
        self.pause = min(2 * self.pause, LONGEST_SECONDS)
        self.due = trio.current_time() + self.pause


class Unsettled:
    """What one daemon has left behind and still knows of; what it forgets, the next one finds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left: list[_Left] = []
        self._hint = Hint()
        self._works = False
        """Whether Podman and the disk have shown, since the last attempts, that they work."""

    def take(self, session: Session) -> None:
        """Settle a session later if anything of it is left.

        One of which nothing is left says that Podman and the disk work: the others are tried then.
        """
        if session.unclosed is not None:
            self._left.append(_Left(session))
            self._hint.give()
        elif session.ended is not None:
            self._works = True
            self._hint.give()

    def holds(self, container_name: str) -> bool:
        """Whether it is the container of one of them: the only proof, perhaps, of an end."""
        return any(each.session.start.container_name == container_name for each in self._left)

    async def run(self) -> None:
        """Settle them, until cancelled."""
        while True:
            with trio.move_on_at(min((left.due for left in self._left), default=math.inf)):
                await self._hint.wait()
            works, self._works = self._works, False
            for left in tuple(self._left):
                if trio.current_time() >= left.due or (works and left.is_fresh):
                    await self._try(left)

    async def _try(self, left: _Left) -> None:
        with left.session.bound_to_log():
            await self._settle(left.session)
        if left.session.unclosed is None:
            self._left.remove(left)
        else:
            left.wait_longer()

    async def _settle(self, session: Session) -> None:
        assert session.unclosed is not None
        if session.container_kept or session.teardown_error is not None:
            try:
                await self._clear_podman(session, session.unclosed)
            except AgentdError as error:
                log_failure("session audit finalization", "settlement", str(error))
                return
            session.container_kept, session.teardown_error = False, None
        await close_record(session, self._engine, session.unclosed)
        if session.unclosed is None:
            log.info("runner.session_settled", record=str(session.record.directory))

    async def _clear_podman(self, session: Session, end: audit.End) -> None:
        record, start = session.record, session.start
        await on_disk(DISK_SECONDS, str(record.directory), audit.write_next, record, start, end)
        podman, container = self._engine.podman, session.start.container_name
        # Kill first, as in every removal: Podman 4.3 may leave a stopping process running.
        await podman.kill(container)
        await podman.remove(container)
        whose = names.Identity(self._engine.instance, session.id)
        for secret in await podman.secret_names(names.secret_prefix(whose)):
            await podman.remove_secret(secret)
