"""A session's container: made, started once, watched to its end, and removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
import trio

from ..errors import HostUnsupported, ImageUnfit, PodmanError, PodmanTimeout, PodmanUnreachable
from ..logs import log
from ..podman import ContainerSpec, ContainerState, Podman
from ..watch import Hint
from .cgroup import ran_out_of_memory
from .engine import Engine
from .session import Session
from .teardown import Teardown

START_SEEN_SECONDS: Final = 30.0
"""How long a start whose reply was lost may take to show in the container's state."""

RETRY_SECONDS: Final = 1.0
"""Between looks at a Podman that does not answer, when nothing hints that it does again."""

SECOND_LOOK_SECONDS: Final = 1.0
"""After a hint that showed no end: conmon closes the log a moment before it records the exit."""

LATE_CREATE_PAUSES: Final = (0.1, 0.5, 1.4)
"""Seconds between looks for a container whose create was given up: a create takes a tenth."""

CONMON_SECONDS: Final = 1.0
"""How long conmon may take, after the container's last process, to record the exit."""


class SessionContainer:
    """One container by its name, which was chosen before it was made."""

    def __init__(
        self, podman: Podman, name: str, hint: Hint, starting: trio.CapacityLimiter
    ) -> None:
        self._podman = podman
        self._hint = hint
        self._starting = starting
        self.name = name
        self.started = False
        """Whether a start was sent that may have taken effect."""
        self.ended = False
        """Whether `state` is its last; None is then one that somebody else removed."""
        self.state: ContainerState | None = None
        self.kept = False
        """Whether it is left where it is for now, though it has ended."""
        self._out_of_memory = False
        self._create_answered = True

    async def create(self, spec: ContainerSpec) -> None:
        """Make it, once more if a killed daemon or service left something of that name.

        Raises:
            HostUnsupported: Podman made it, but will not enforce all that was asked.
            PodmanError: it could not be made.
        """
        async with self._starting:
            self._create_answered = False
            try:
                created = await self._podman.create(spec)
            except PodmanError as error:
                if "name is already in use" not in f"{error.cause} {error}":
                    self._create_answered = error.status > 0
                    raise _explained(error, spec) from error
                await self._podman.remove(self.name)
                created = await self._podman.create(spec)
            self._create_answered = True
        if created.warnings:
            raise HostUnsupported(
                "Podman would not enforce all that the agent asks for: "
                + "; ".join(created.warnings)
            )

    async def check_entrypoint(self, entrypoint: str) -> None:
        """Look whether the image has it: without it, init would exit as an agent may.

        Raises:
            ImageUnfit: it has not.
        """
        if not await self._podman.has_path(self.name, entrypoint):
            raise ImageUnfit(f"the session image has no {entrypoint}, which the setup needs")

    async def start(self) -> None:
        """Start it. Sent exactly once: a second start would run an ended agent again.

        Raises:
            PodmanError: it did not start; the text has Podman's reason.
        """
        async with self._starting:
            self.started = True
            try:
                await self._podman.start(self.name)
            except (PodmanUnreachable, PodmanTimeout) as error:
                await self._see_started(error)
            except PodmanError:
                self.started = False
                raise

    async def _see_started(self, lost: PodmanError) -> None:
        """Tell from the state whether a start took effect whose reply was lost."""
        with trio.move_on_after(START_SEEN_SECONDS):
            while True:
                # A service that went down with the reply may take a moment to come back.
                with suppress(PodmanError):
                    state = await self._look()
                    if state is not None and state.started:
                        return
                await trio.sleep(RETRY_SECONDS)
        self.started = False
        raise lost

    async def look_at_adopted(self) -> None:
        """Learn how far it has come that another daemon made. Podman may be away for a while."""
        await self._has_ended()
        # One that is gone may have run.
        self.started = self.state is None or self.state.started

    async def wait_ended(self) -> None:
        """Wait until it has ended. Hints wake; only the state decides.

        Podman may be away for as long as it likes.
        """
        while not await self._has_ended():
            await self._hint.wait()
            if await self._has_ended():
                return
            with trio.move_on_after(SECOND_LOOK_SECONDS):
                await self._hint.wait()

    async def _has_ended(self) -> bool:
        while True:
            try:
                await self._look_for_end()
            except PodmanError as error:
                log.debug("runner.podman_unavailable", error=str(error))
                with trio.move_on_after(RETRY_SECONDS):
                    await self._hint.wait()
            else:
                return self.ended

    async def kill(self) -> None:
        """End it at once and read its last state.

        Raises:
            PodmanError: Podman could not; `state` is then the last that was seen.
        """
        # Without conmon the kill works, and Podman complains that nobody recorded the exit.
        complaint: PodmanError | None = None
        try:
            await self._podman.kill(self.name)
        except PodmanError as error:
            complaint = error
        await self._look_for_end()
        if complaint is not None and not self.ended:
            raise complaint

    async def _look_for_end(self) -> None:
        self._look_at_memory()
        state = await self._look()
        if state is not None and await self._ended_unseen(state):
            await trio.sleep(CONMON_SECONDS)
            state = await self._look()
            self.ended = True
        else:
            self.ended = state is None or state.finished or state.lost
        if state is not None and self._out_of_memory:
            state = msgspec.structs.replace(state, oom_killed=True)
        self.state = state

    def _look_at_memory(self) -> None:
        """Podman before 5 misses that memory ran out. The kernel tells, for a moment after the end:
        so this comes before anything is awaited."""
        if self.state is not None and self.state.cgroup_path:
            self._out_of_memory |= ran_out_of_memory(self.state.cgroup_path)

    async def _ended_unseen(self, state: ContainerState) -> bool:
        """Whether it has ended though Podman says that it runs, as it does without conmon for ever.

        conmon is looked for first, since it costs nothing. A daemon that cannot see it, because it
        lives in a container itself, asks Podman each time.
        """
        if state.status != "running" or _is_conmon(state.conmon_pid):
            return False
        return not await self._podman.has_process(self.name)

    async def _look(self) -> ContainerState | None:
        container = await self._podman.inspect(self.name)
        return None if container is None else container.state

    async def remove(self) -> None:
        """Remove it, dead or alive, whether or not its create was answered."""
        # Podman 4.3 answers a forced delete of a stopping container at once and leaves the
        # process running: kill first.
        if self.started and not self.ended:
            try:
                await self._podman.kill(self.name)
            except PodmanError as error:
                log.debug("runner.kill_failed", error=str(error))
        await self._podman.remove(self.name)
        if not self._create_answered:
            # Podman carries a create out that nobody waits for any more, after the removal too.
            for pause in LATE_CREATE_PAUSES:
                await trio.sleep(pause)
                await self._podman.remove(self.name)


def _is_conmon(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes() == b"conmon\n"
    except OSError:
        return False


def _explained(error: PodmanError, spec: ContainerSpec) -> PodmanError:
    """The same error, with what the operator can do where Podman's words do not tell."""
    told = str(error)
    if not (spec.init and ("catatonit" in told or "container-init" in told)):
        return error
    return PodmanError(
        told,
        remedy="install the package 'catatonit' on the host of the Podman service, or set"
        " isolation.init = false for the agent",
        status=error.status,
        cause=error.cause,
    )


@asynccontextmanager
async def adopted_container(
    session: Session, engine: Engine, teardown: Teardown
) -> AsyncIterator[SessionContainer]:
    """A container that an earlier daemon made, if it is there at all; gone after the exit."""
    teardown.stage = "container creation"
    name = session.start.container_name
    container = SessionContainer(engine.podman, name, session.hint, engine.starting)
    # Until it is looked at, it may have been.
    container.started = True
    try:
        yield container
    finally:
        if not (container.kept or engine.leaves(session.clock_deadline)):
            # Shields, within a bound.
            await teardown.insist("container removal", container.remove)  # noqa: ASYNC102


@asynccontextmanager
async def session_container(
    session: Session, engine: Engine, spec: ContainerSpec, teardown: Teardown
) -> AsyncIterator[SessionContainer]:
    """A container made from `spec`, not started; gone after the exit, or noted in `teardown`."""
    teardown.stage = "container creation"
    container = SessionContainer(engine.podman, spec.name, session.hint, engine.starting)
    try:
        await container.create(spec)
        if spec.image not in engine.fit_images:
            await container.check_entrypoint(spec.entrypoint[0])
            engine.fit_images.add(spec.image)
        yield container
    finally:
        if not (container.kept or engine.leaves(session.clock_deadline)):
            # Shields, within a bound.
            await teardown.insist("container removal", container.remove)  # noqa: ASYNC102
