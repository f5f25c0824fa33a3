"""The calls that agentd makes of Podman, one method each, each with its bound in seconds.

A method gives what Podman said; what it means for a session is decided by the caller. Two facts
of the API shape the rest: a mutating call runs to its end in the service once it was sent, even
when the client goes away; and what a hint (an event, a closed log) claims is true only once
`inspect` says so.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec
import trio

from ..errors import PodmanError
from .container_spec import ContainerSpec
from .decoding import decoded, decoded_list, one_line
from .http import Http, Observe, open_http
from .messages import (
    Container,
    ContainerEvent,
    Created,
    Host,
    Image,
    ListedContainer,
    ListedSecret,
    PullLine,
)

SHORT_SECONDS: Final = 60.0
"""For calls that take milliseconds on a healthy host: a bound against a hang, not a budget."""

ALIVE_SECONDS: Final = 5.0
"""A sign of life; longer than that, and the service is taken for stuck."""

CREATE_SECONDS: Final = 600.0
"""The first create of an image under a new id map copies the whole image."""

_RETRY_REMOVE_SECONDS: Final = 1.0


class Podman:
    """One Podman service. Every method may raise `PodmanError` and its two subclasses."""

    def __init__(self, http: Http) -> None:
        self._http = http

    @property
    def socket_path(self) -> Path:
        """The service's socket."""
        return self._http.socket_path

    async def info(self) -> Host:
        """What the service and its host can do. Takes up to 200 ms: ask once."""
        _, body = await self._http.call("GET", "/info", seconds=SHORT_SECONDS)
        return decoded(body, Host)

    async def answer(self) -> None:
        """See whether the service answers; a millisecond. Raises `PodmanError` if it does not."""
        await self._http.call("GET", "/_ping", seconds=ALIVE_SECONDS)

    # --- images ----------------------------------------------------------------------------------

    async def image(self, reference: str) -> Image | None:
        """The local image of that name or id, or None."""
        status, body = await self._http.call(
            "GET", f"/images/{quote(reference)}/json", accept=(200, 404), seconds=SHORT_SECONDS
        )
        return decoded(body, Image) if status == 200 else None

    async def pull(
        self,
        reference: str,
        policy: Literal["always", "missing", "newer", "never"],
        progress: Callable[[str], None],
    ) -> str:
        """Pull an image and give its id; `progress` gets Podman's lines. No bound of its own.

        The service gives up its pull when the call is cancelled.

        Raises:
            PodmanError: the pull failed. The status is 200 even then, so only the lines tell.
        """
        lines: list[PullLine] = []

        def handle(line: bytes) -> None:
            part = decoded(line, PullLine)
            if text := one_line(part.stream):
                progress(text)
            if part.id or part.error:
                lines.append(part)

        query = {"reference": reference, "policy": policy}
        await self._http.each_line("POST", "/images/pull", query=query, handle=handle)
        errors = [part.error for part in lines if part.error]
        ids = [part.id for part in lines if part.id]
        if errors or not ids:
            ended = f"Podman ended the pull of '{reference}' without a word"
            raise PodmanError(one_line(errors[0]) if errors else ended)
        return ids[-1]

    # --- secrets ---------------------------------------------------------------------------------

    async def create_secret(self, name: str, value: bytes) -> None:
        """Keep `value` (1 to 511999 bytes) under `name` (64 characters at most).

        A secret of that name, left by a daemon that was killed, is replaced: the API's own
        `replace` exists only from Podman 5 on.
        """
        try:
            await self._create_secret(name, value)
        except PodmanError as error:
            if "secret name in use" not in error.cause:
                raise
            await self.remove_secret(name)
            await self._create_secret(name, value)

    async def _create_secret(self, name: str, value: bytes) -> None:
        await self._http.call(
            "POST", "/secrets/create", query={"name": name}, body=value, seconds=SHORT_SECONDS
        )

    async def secret_names(self, prefix: str) -> list[str]:
        """The names that begin so."""
        # A search by a regular expression; ours are made of letters, digits and dashes.
        query = {"filters": json.dumps({"name": [f"^{prefix}"]})}
        _, body = await self._http.call("GET", "/secrets/json", query=query, seconds=SHORT_SECONDS)
        return [secret.spec.name for secret in decoded_list(body, ListedSecret)]

    async def remove_secret(self, name: str) -> None:
        """Remove a secret; one that is not there counts as removed."""
        await self._http.call(
            "DELETE", f"/secrets/{name}", accept=(200, 204, 404), seconds=SHORT_SECONDS
        )

    # --- networks --------------------------------------------------------------------------------

    async def has_network(self, name: str) -> bool:
        """Whether there is a network of that name."""
        status, _ = await self._http.call(
            "GET",
            f"/networks/{quote(name, safe='')}/exists",
            accept=(204, 404),
            seconds=SHORT_SECONDS,
        )
        return status == 204

    # --- containers ------------------------------------------------------------------------------

    async def containers(self, label: str, value: str) -> list[ListedContainer]:
        """All containers with that label, dead or alive."""
        return await self._list({"filters": json.dumps({"label": [f"{label}={value}"]})})

    async def ghosts(self, prefix: str) -> list[str]:
        """Names that begin so and belong to no container: a service was killed in a create."""
        rows = await self._list({"external": "true"})
        return [row.name for row in rows if row.state == "storage" and row.name.startswith(prefix)]

    async def _list(self, query: dict[str, str]) -> list[ListedContainer]:
        _, body = await self._http.call(
            "GET", "/containers/json", query={"all": "true", **query}, seconds=SHORT_SECONDS
        )
        return decoded_list(body, ListedContainer)

    async def create(self, spec: ContainerSpec) -> Created:
        """Make a container from `spec`, not started."""
        _, body = await self._http.call(
            "POST",
            "/containers/create",
            body=msgspec.json.encode(spec),
            accept=(201,),
            seconds=CREATE_SECONDS,
        )
        return decoded(body, Created)

    async def has_path(self, container: str, path: str) -> bool:
        """Whether a path exists in a container's own file system; takes about 40 ms."""
        status, _ = await self._http.call(
            "HEAD",
            f"/containers/{container}/archive",
            query={"path": path},
            accept=(200, 404),
            seconds=SHORT_SECONDS,
        )
        return status == 200

    async def start(self, container: str) -> None:
        """Start a container. Never send it twice: an exited container would run again."""
        await self._http.call(
            "POST", f"/containers/{container}/start", accept=(204, 304), seconds=SHORT_SECONDS
        )

    async def inspect(self, container: str) -> Container | None:
        """The container's state, or None when there is no such container."""
        status, body = await self._http.call(
            "GET", f"/containers/{container}/json", accept=(200, 404), seconds=SHORT_SECONDS
        )
        return decoded(body, Container) if status == 200 else None

    async def stop(self, container: str, grace_seconds: int) -> None:
        """Send the container's stop signal, and SIGKILL after the grace; returns when it ended."""
        await self._http.call(
            "POST",
            f"/containers/{container}/stop",
            # libpod reads `timeout`; `t` is the Docker API's and silently ignored here.
            query={"timeout": str(grace_seconds)},
            accept=(204, 304, 404),
            seconds=grace_seconds + SHORT_SECONDS,
        )

    async def kill(self, container: str) -> None:
        """SIGKILL; returns when the process is gone. One that runs no more is no error."""
        await self._signal(container, "KILL")

    async def has_process(self, container: str) -> bool:
        """Whether a container that inspect calls running has a process.

        Without conmon inspect calls it running for ever, and only the failure of a signal tells.
        The signal is one that is ignored unless somebody asked for it; signal 0 is refused.
        """
        return await self._signal(container, "URG")

    async def _signal(self, container: str, name: str) -> bool:
        """Send a signal to the container's first process; false if it runs no more."""
        status, _ = await self._http.call(
            "POST",
            f"/containers/{container}/kill",
            query={"signal": name},
            accept=(204, 404),
            # Not running is 500 on Podman 4 and 409 on Podman 5, with one cause.
            accept_cause="container state improper",
            seconds=SHORT_SECONDS,
        )
        return status == 204

    async def remove(self, container: str) -> None:
        """Remove a container by name or id, killing it; one that is gone counts as removed.

        By name it also clears what a service leaves that was killed inside a create: a name that
        is taken by no container.
        """
        try:
            await self._remove(container)
        except PodmanError as error:
            if error.status != 500:
                raise
            # Podman 5 answers 500 once when conmon is dead, having killed the process.
            await trio.sleep(_RETRY_REMOVE_SECONDS)
            await self._remove(container)

    async def _remove(self, container: str) -> None:
        await self._http.call(
            "DELETE",
            f"/containers/{container}",
            # `timeout=0`: without it, the stop timeout is waited for first. `volumes`: libpod's
            # word, it ignores `v`.
            query={"force": "true", "timeout": "0", "volumes": "true"},
            accept=(200, 204, 404),
            seconds=SHORT_SECONDS,
        )

    async def each_container_event(
        self, label: str, value: str, handle: Callable[[str, str], None]
    ) -> None:
        """Give `handle` what happens to each container with that label: its name, and an action.

        Ends when the service ends the stream. A hint only: the events logger may lose lines, and
        they come 100 ms after the fact.
        """

        def read(line: bytes) -> None:
            # Podman 4 sends errors as a line of a 200 reply: no event, and nothing to act on.
            event = decoded(line, ContainerEvent) if b'"Actor"' in line else None
            if event is not None and event.container_name:
                handle(event.container_name, event.action)

        filters = {"type": ["container"], "label": [f"{label}={value}"]}
        query = {"stream": "true", "filters": json.dumps(filters)}
        await self._http.each_line("GET", "/events", query=query, handle=read)


@asynccontextmanager
async def open_podman(
    socket_path: Path, observe: Observe = lambda _kind, _seconds, _error: None
) -> AsyncIterator[Podman]:
    """The service at `socket_path`; nothing is sent yet. `observe` hears of each call."""
    async with open_http(socket_path, observe) as http:
        yield Podman(http)
