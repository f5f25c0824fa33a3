"""HTTP over Podman's Unix socket: the one module that knows httpx.

It gives every call a deadline and turns whatever goes wrong into a `PodmanError` that says what
was asked and of whom.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import httpx
import msgspec
import trio

from ..errors import PodmanError, PodmanTimeout, PodmanUnreachable
from .messages import ErrorReply

PREFIX: Final = "http://d/v4.0.0/libpod"
"""Pinned: a newer prefix changes the shape of replies, and this one works on 4.3 and 5.x."""

_CONNECT_SECONDS: Final = 5.0
_KEEPALIVE_SECONDS: Final = 4.0
"""Below the service's own idle close, which is 10 s at its shortest default."""
_MAX_LINE_BYTES: Final = 1024 * 1024
_MAX_MESSAGE_CHARS: Final = 2000

Query = Mapping[str, str]

Observe: TypeAlias = Callable[[str, float, PodmanError | None], None]
"""Hears of each call, when it is over, its kind, its seconds, and why it failed; never of one that
was cancelled. It does not raise."""

_FIXED: Final = frozenset({"archive", "create", "exists", "json", "kill", "pull", "start", "stop"})
"""The last words of paths that are no names."""


def kind_of_call(method: str, path: str) -> str:
    """A call without what it is about, such as `POST /containers/*/start`."""
    first, *rest = path.removeprefix("/").split("/")
    names, last = rest[:-1], rest[-1:]
    kind = [first, *(["*"] if names else []), *(word if word in _FIXED else "*" for word in last)]
    return f"{method} /{'/'.join(kind)}"


class Http:
    """Requests to one Podman service. Any number may be under way at once."""

    def __init__(self, client: httpx.AsyncClient, socket_path: Path, observe: Observe) -> None:
        self._client = client
        self._observe = observe
        self.socket_path = socket_path

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        accept: tuple[int, ...] = (200,),
        accept_cause: str | None = None,
        seconds: float,
    ) -> tuple[int, bytes]:
        """One request and its whole reply: status and body.

        A refusal with `accept_cause` in Podman's cause is an answer, too, whatever its status.

        A kept connection that the service closed meanwhile fails before anything was done; GET,
        HEAD and DELETE, which may be repeated, are then sent once more.

        Raises:
            PodmanUnreachable: there is no service, or the connection broke.
            PodmanTimeout: no reply within `seconds`; what was asked may still happen.
            PodmanError: a status that is not in `accept`.
        """
        what = f"{method} {path}"
        with self._observed(method, path):
            with trio.move_on_after(seconds) as scope:
                reply = await self._send_again(method, path, query, body)
            if scope.cancelled_caught:
                raise PodmanTimeout(f"Podman did not answer '{what}' within {seconds:g} s")
            if reply.status_code not in accept:
                refusal = _rejected(what, reply.status_code, reply.content)
                if accept_cause is None or accept_cause not in refusal.cause:
                    raise refusal
        return reply.status_code, reply.content

    async def _send_again(
        self, method: str, path: str, query: Query | None, body: bytes | None
    ) -> httpx.Response:
        try:
            return await self._send(method, path, query, body)
        except PodmanUnreachable:
            if method not in {"GET", "HEAD", "DELETE"}:
                raise
            return await self._send(method, path, query, body)

    async def _send(
        self, method: str, path: str, query: Query | None, body: bytes | None
    ) -> httpx.Response:
        with self._translated():
            return await self._client.request(
                method,
                f"{PREFIX}{path}",
                params=query,
                content=body,
                headers={"Content-Type": "application/json"} if body is not None else None,
            )

    async def each_line(
        self, method: str, path: str, *, query: Query, handle: Callable[[bytes], None]
    ) -> None:
        """Give each line of an endless or long reply to `handle`, until Podman ends it.

        The caller bounds it with a cancel scope. Raises as `call`, but for the time-out.
        """
        with self._observed(method, path):
            await self._each_line(method, path, query, handle)

    async def _each_line(
        self, method: str, path: str, query: Query, handle: Callable[[bytes], None]
    ) -> None:
        async with self._stream(method, path, query) as reply:
            if reply.status_code != 200:
                raise _rejected(f"{method} {path}", reply.status_code, await reply.aread())
            lines = _Lines(handle)
            # A stream ends by its end or by cancellation: an exception out of the loop would leave
            # half-run generators of httpx behind.
            with trio.CancelScope() as reading:
                async for chunk in reply.aiter_raw():
                    if not lines.feed(chunk):
                        reading.cancel()
            lines.finish()

    @asynccontextmanager
    async def _stream(self, method: str, path: str, query: Query) -> AsyncIterator[httpx.Response]:
        with self._translated():
            async with self._client.stream(
                method, f"{PREFIX}{path}", params=query, timeout=httpx.Timeout(None)
            ) as reply:
                yield reply

    @contextmanager
    def _observed(self, method: str, path: str) -> Iterator[None]:
        kind, begun = kind_of_call(method, path), trio.current_time()
        try:
            yield
        except PodmanError as error:
            self._observe(kind, trio.current_time() - begun, error)
            raise
        self._observe(kind, trio.current_time() - begun, None)

    def _translated(self) -> _Translated:
        return _Translated(self.socket_path)


class _Lines:
    """Cuts a stream into lines for `handle`, until the first that `handle` refuses."""

    def __init__(self, handle: Callable[[bytes], None]) -> None:
        self._handle = handle
        self._rest = b""
        self._fault: PodmanError | None = None

    def feed(self, chunk: bytes) -> bool:
        """Take what came; false when no more is wanted."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        try:
            for line in filter(None, lines):
                self._handle(line)
        except PodmanError as error:
            self._fault = error
        if len(self._rest) > _MAX_LINE_BYTES:
            self._fault = PodmanError("Podman's answer has no line ends")
        return self._fault is None

    def finish(self) -> None:
        """Take the last line, which may lack its end. Raises `PodmanError` for the first fault."""
        if self._fault is not None:
            raise self._fault
        if self._rest:
            self._handle(self._rest)


class _Translated:
    """Turns httpx's errors into ours, adding the socket's path, which httpx leaves out."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            raise PodmanUnreachable(
                f"no Podman service answers at {self._socket_path}: {_reason(error)}",
                remedy="start it with 'systemctl [--user] start podman.socket'",
            ) from error
        if isinstance(error, httpx.HTTPError):
            raise PodmanUnreachable(
                f"the connection to Podman at {self._socket_path} broke: {_reason(error)}"
            ) from error


def _reason(error: httpx.HTTPError) -> str:
    """The system's own words, which httpx begins with an error number."""
    return re.sub(r"\A\[Errno \d+\] ", "", str(error)) or type(error).__name__


def _rejected(what: str, status: int, body: bytes) -> PodmanError:
    try:
        reply = msgspec.json.decode(body, type=ErrorReply)
    except (msgspec.DecodeError, RecursionError):
        # The router's own 404 and 405 are plain text.
        reply = ErrorReply(message=body[:200].decode(errors="replace"))
    message = (reply.message or reply.cause)[:_MAX_MESSAGE_CHARS]
    return PodmanError(
        f"Podman refused '{what}' with status {status}: {message}", status=status, cause=reply.cause
    )


@asynccontextmanager
async def open_http(socket_path: Path, observe: Observe) -> AsyncIterator[Http]:
    """A client for the service at `socket_path`; nothing is sent yet.

    The pool has no bound: streams live for days and must not starve the short calls.
    """
    limits = httpx.Limits(
        max_connections=None, max_keepalive_connections=16, keepalive_expiry=_KEEPALIVE_SECONDS
    )
    transport = httpx.AsyncHTTPTransport(uds=str(socket_path), limits=limits)
    timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)
    async with httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False) as client:
        yield Http(client, socket_path, observe)
