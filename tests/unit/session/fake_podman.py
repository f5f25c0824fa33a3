"""A Podman in memory, for what real Podman cannot be made to do at will.

Each call checkpoints before it takes effect and after it: a cancel at the first is a request that
was never sent, one at the second a reply that was lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import cast

import trio

from agentd.errors import PodmanError
from agentd.podman import Container, ContainerSpec, ContainerState, Created, Podman
from agentd.session.engine import Engine
from agentd.watch import Watcher
from tests.unit import builders


class FakePodman:
    """Containers and secrets by name, and a list of the calls."""

    def __init__(self) -> None:
        self.containers: dict[str, ContainerState] = {}
        self.secrets: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.warnings: list[str] | None = None
        self.failures: dict[str, list[PodmanError]] = {}
        """Errors for the next calls of a name; the call takes no effect."""
        self.bugs: dict[str, list[Exception]] = {}
        """What nobody foresaw, for the next calls of a name."""
        self.lost_replies: dict[str, PodmanError] = {}
        """Errors in place of the reply to a call that took effect."""
        self.refused_names: set[str] = set()
        """Secrets that cannot be removed."""
        self.dead: set[str] = set()
        """Containers without a process, whatever their state says."""
        self.entrypoint_exists = True
        self.scope: trio.CancelScope | None = None
        self.cancel_at = 0
        self.steps = 0
        self.on_inspect: Callable[[str], None] | None = None

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.calls)

    async def _step(self) -> None:
        self.steps += 1
        if self.steps == self.cancel_at and self.scope is not None:
            self.scope.cancel()
        await trio.lowlevel.checkpoint()

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        await self._step()
        if waiting := self.failures.get(name):
            raise waiting.pop(0)
        if stumbles := self.bugs.get(name):
            raise stumbles.pop(0)

    async def _reply(self, name: str) -> None:
        await self._step()
        if name in self.lost_replies:
            raise self.lost_replies.pop(name)

    async def create_secret(self, name: str, value: bytes) -> None:
        await self._call("create_secret")
        self.secrets[name] = value
        await self._reply("create_secret")

    async def remove_secret(self, name: str) -> None:
        await self._call("remove_secret")
        if name in self.refused_names:
            raise PodmanError(f"cannot remove {name}", status=500)
        self.secrets.pop(name, None)
        await self._reply("remove_secret")

    async def secret_names(self, prefix: str) -> list[str]:
        await self._call("secret_names")
        return [name for name in self.secrets if name.startswith(prefix)]

    async def create(self, spec: ContainerSpec) -> Created:
        await self._call("create")
        if spec.name in self.containers:
            text = f"the container name {spec.name} is in use"
            raise PodmanError(text, status=500, cause="that name is already in use")
        self.containers[spec.name] = builders.never_started()
        await self._reply("create")
        return Created("c" * 64, self.warnings)

    async def has_path(self, name: str, path: str) -> bool:
        await self._call(f"has {path}")
        await self._reply("has_path")
        return self.entrypoint_exists

    async def start(self, name: str) -> None:
        await self._call("start")
        self.containers[name] = builders.state("running")
        await self._reply("start")

    async def inspect(self, name: str) -> Container | None:
        await self._call("inspect")
        if self.on_inspect is not None:
            self.on_inspect(name)
        found = self.containers.get(name)
        await self._reply("inspect")
        return None if found is None else builders.container(found)

    async def kill(self, name: str) -> None:
        await self._call("kill")
        if name in self.containers and self.containers[name].status == "running":
            self.containers[name] = builders.state("exited", 137, ended=1)
        await self._reply("kill")

    async def stop(self, name: str, grace_seconds: int) -> None:
        await self._call(f"stop {grace_seconds}")
        if name in self.containers and self.containers[name].status == "running":
            self.containers[name] = builders.state("exited", 130, ended=1)
        await self._reply("stop")

    async def has_process(self, name: str) -> bool:
        await trio.lowlevel.checkpoint()
        return name not in self.dead

    async def remove(self, name: str) -> None:
        await self._call("remove")
        self.containers.pop(name, None)
        await self._reply("remove")

    @property
    def as_podman(self) -> Podman:
        return cast(Podman, self)

    def engine(self) -> Engine:
        return Engine(
            podman=self.as_podman,
            watcher=cast(Watcher, None),
            abilities=builders.ROOTFUL,
            instance=builders.INSTANCE,
            audit_root=Path("/nowhere"),
            masks_dir=Path("/nowhere"),
            starting=trio.CapacityLimiter(1),
            fit_images={builders.IMAGE.id},
        )
