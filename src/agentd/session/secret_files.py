"""A session's credentials in Podman's store: there from before the create until the start.

Each is mounted into the container as a file for root alone. Podman copies it at create, so the
store's copy goes as soon as the container has started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..errors import PodmanError
from ..podman import Podman
from .setup import SessionSecret
from .teardown import Teardown, log_failure


class SecretFiles:
    """The secrets of one session."""

    def __init__(self, podman: Podman) -> None:
        self._podman = podman
        self._stored: list[str] = []

    async def store(self, name: str, value: bytes) -> None:
        """Put a secret into the store."""
        # Noted first: a create whose reply is lost may still have taken effect.
        self._stored.append(name)
        await self._podman.create_secret(name, value)

    async def release(self) -> None:
        """Remove them all from the store; what fails is tried again at the teardown."""
        try:
            await self.remove()
        except PodmanError as error:
            log_failure("secret release", "secret release", str(error))

    async def remove(self) -> None:
        """Remove those that are left; one that resists does not keep the others.

        Raises:
            PodmanError: the first that could not be removed.
        """
        resisted: PodmanError | None = None
        for name in tuple(self._stored):
            try:
                await self._podman.remove_secret(name)
            except PodmanError as error:
                resisted = resisted or error
            else:
                self._stored.remove(name)
        if resisted is not None:
            raise resisted


@asynccontextmanager
async def secret_files(
    podman: Podman, wanted: Sequence[SessionSecret], teardown: Teardown
) -> AsyncIterator[SecretFiles]:
    """The secrets `wanted`, in the store while inside."""
    secrets = SecretFiles(podman)
    try:
        for secret in wanted:
            await secrets.store(secret.name, secret.value)
        yield secrets
    finally:
        # Shields, within a bound.
        await teardown.insist("secret removal", secrets.remove)  # noqa: ASYNC102
