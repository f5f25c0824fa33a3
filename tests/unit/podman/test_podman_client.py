"""The Podman client against a service that misbehaves on purpose.

Real Podman cannot be made to show these faults at will; what a healthy one answers is shown by the
tests on real Podman. Each test's sentence says which fault it is about.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.lowlevel

from agentd.errors import PodmanError, PodmanTimeout, PodmanUnreachable
from agentd.podman import Podman, api, http, open_podman

SECONDS = 10.0
T = TypeVar("T")
Handler = Callable[["Connection"], Awaitable[None]]


class Connection:
    """The service's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def request(self) -> str | None:
        """The next request's method and path, its body read; None at the end."""
        while b"\r\n\r\n" not in self._received:
            data = await self.stream.receive_some()
            if not data:
                return None
            self._received += data
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        lines = head.decode().lower().split("\r\n")
        sizes = [int(line.split(":")[1]) for line in lines if line.startswith("content-length:")]
        wanted = sizes[0] if sizes else 0
        while len(self._received) < wanted:
            self._received += await self.stream.receive_some()
        self._received = self._received[wanted:]
        return head.decode().split(" HTTP/")[0].replace("/v4.0.0/libpod", "")

    async def reply(self, status: int, body: bytes | dict[str, Any] = b"") -> None:
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n"
        await self.stream.send_all(head.encode() + content)

    async def stream_lines(self, *lines: bytes, whole: bool = True) -> None:
        await self.stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in lines:
            await self.stream.send_all(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        if whole:
            await self.stream.send_all(b"0\r\n\r\n")


class Service:
    """A Podman service that does what its handler says."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.handler: Handler = self.answer
        self.status = 200
        self.body: bytes | dict[str, Any] = b""

    async def answer(self, connection: Connection) -> None:
        while await self.take(connection) is not None:
            await connection.reply(self.status, self.body)

    async def take(self, connection: Connection) -> str | None:
        request = await connection.request()
        if request is not None:
            self.requests.append(request)
        return request


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path short enough for a socket, wherever pytest keeps its directories."""
    monkeypatch.chdir(tmp_path)
    return Path("podman.sock")


@pytest.fixture
def service() -> Service:
    return Service()


@asynccontextmanager
async def serving(service: Service, path: Path) -> AsyncIterator[None]:
    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):
                await service.handler(Connection(stream))

    with trio.socket.socket(trio.socket.AF_UNIX) as bound:
        await bound.bind(str(path))
        bound.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, handle, [trio.SocketListener(bound)])
            with trio.fail_after(SECONDS):  # noqa: ASYNC100 - the body is the caller's
                yield
            nursery.cancel_scope.cancel()


async def asked(
    service: Service, path: Path, call: Callable[[Podman], Awaitable[T]]
) -> T | PodmanError:
    """What the call gave, or its error, kept out of the serving nursery's group."""
    async with serving(service, path), open_podman(path) as podman:
        try:
            return await call(podman)
        except PodmanError as error:
            return error


async def failing(
    service: Service, path: Path, call: Callable[[Podman], Awaitable[object]]
) -> PodmanError:
    result = await asked(service, path, call)
    assert isinstance(result, PodmanError), result
    return result


# --- no service, and broken connections ----------------------------------------------------------


@pytest.mark.contract("DMN-12", "F-10")
@pytest.mark.parametrize("kind", ["missing", "refused"])
async def test_no_service_is_told_with_its_socket_and_what_to_do(path: Path, kind: str) -> None:
    """The fault: nobody listens at the socket."""
    if kind == "refused":
        with trio.socket.socket(trio.socket.AF_UNIX) as left:
            await left.bind(str(path))
    async with open_podman(path) as podman:
        with pytest.raises(PodmanUnreachable, match=f"answers at {path}: .*podman.socket"):
            await podman.info()


async def test_a_service_that_is_not_there_yet_is_no_lasting_fault(
    service: Service, path: Path
) -> None:
    """The fault: the service starts between two calls."""
    async with open_podman(path) as podman:
        with pytest.raises(PodmanUnreachable):
            await podman.kill("c")
        service.status = 204
        async with serving(service, path):
            await podman.kill("c")


async def dies_at_once(connection: Connection) -> None:
    await connection.request()


async def dies_in_the_head(connection: Connection) -> None:
    await connection.request()
    await connection.stream.send_all(b"HTTP/1.1 20")


async def dies_in_the_body(connection: Connection) -> None:
    await connection.request()
    await connection.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


async def is_no_http(connection: Connection) -> None:
    await connection.request()
    await connection.stream.send_all(b"220 smtp ready\r\n")


@pytest.mark.parametrize("how", [dies_at_once, dies_in_the_head, dies_in_the_body, is_no_http])
async def test_a_connection_that_breaks_is_told_with_its_socket(
    service: Service, path: Path, how: Handler
) -> None:
    """The fault: the service dies, or is something else, in the middle of a reply."""
    service.handler = how
    error = await failing(service, path, lambda podman: podman.start("c"))
    assert isinstance(error, PodmanUnreachable)
    assert str(path) in error.message


async def test_a_kept_connection_that_went_stale_is_replaced_for_what_may_be_repeated(
    service: Service, path: Path
) -> None:
    """The fault: the service closes an idle connection just before its next request."""
    served = 0

    async def stale_once(connection: Connection) -> None:
        nonlocal served
        served += 1
        if served == 1:
            await service.take(connection)
            await connection.reply(204)
            # The next request arrives and is never answered.
            await service.take(connection)
        else:
            await service.answer(connection)

    service.handler = stale_once
    service.status = 404

    async def calls(podman: Podman) -> object:
        await podman.remove_secret("s1")
        return await podman.inspect("c")

    assert await asked(service, path, calls) is None
    assert service.requests == [
        "DELETE /secrets/s1",
        "GET /containers/c/json",
        "GET /containers/c/json",
    ]


async def test_a_start_is_never_sent_twice_by_the_client(service: Service, path: Path) -> None:
    """Design D5b. The fault: as before, under a request that must not be repeated."""

    async def stale(connection: Connection) -> None:
        await service.take(connection)
        await connection.reply(204)
        await service.take(connection)

    service.handler = stale

    async def calls(podman: Podman) -> object:
        await podman.remove_secret("s1")
        await podman.start("c")
        return None

    assert isinstance(await failing(service, path, calls), PodmanUnreachable)
    assert service.requests.count("POST /containers/c/start") == 1


async def test_what_may_be_repeated_is_repeated_once(service: Service, path: Path) -> None:
    """The fault: a service that dies at every request."""

    async def dies(connection: Connection) -> None:
        await service.take(connection)

    service.handler = dies
    error = await failing(service, path, lambda podman: podman.inspect("c"))
    assert isinstance(error, PodmanUnreachable)
    assert len(service.requests) == 2


# --- deadlines -----------------------------------------------------------------------------------


@pytest.mark.contract("F-34", "SES-25")
@pytest.mark.parametrize(
    "call",
    [
        lambda podman: podman.inspect("c"),
        lambda podman: podman.start("c"),
        lambda podman: podman.kill("c"),
        lambda podman: podman.remove("c"),
        lambda podman: podman.create_secret("s", b"x"),
        lambda podman: podman.remove_secret("s"),
        lambda podman: podman.image("i"),
        lambda podman: podman.info(),
    ],
    ids=["inspect", "start", "kill", "remove", "secret", "remove_secret", "image", "info"],
)
async def test_a_call_that_is_not_answered_has_an_end(
    service: Service,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Podman], Awaitable[object]],
) -> None:
    """The fault: a service that takes requests and hangs."""
    monkeypatch.setattr(api, "SHORT_SECONDS", 0.05)

    async def hangs(connection: Connection) -> None:
        while await service.take(connection) is not None:
            pass

    service.handler = hangs
    error = await failing(service, path, call)
    assert isinstance(error, PodmanTimeout)
    assert "within 0.05 s" in error.message


@pytest.mark.contract("F-34")
async def test_a_reply_that_trickles_has_an_end(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: a reply that comes byte by byte, each in time, and never ends."""
    monkeypatch.setattr(api, "SHORT_SECONDS", 0.1)

    async def trickles(connection: Connection) -> None:
        await connection.request()
        await connection.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
        while True:
            await connection.stream.send_all(b" ")
            await trio.sleep(0.005)

    service.handler = trickles
    assert isinstance(await failing(service, path, lambda p: p.inspect("c")), PodmanTimeout)


async def test_other_calls_go_on_while_one_hangs(service: Service, path: Path) -> None:
    """The fault: one call hangs. The pool of connections has no bound that it could fill."""
    service.body = {"Id": "c", "Name": "c", "State": {"Status": "running", "ExitCode": 0}}

    all_sent = trio.Event()

    async def hangs_on_start(connection: Connection) -> None:
        while (request := await service.take(connection)) is not None:
            if len(service.requests) == 30:
                all_sent.set()
            if "start" in request:
                await trio.sleep_forever()
            await connection.reply(200, service.body)

    service.handler = hangs_on_start

    async def calls(podman: Podman) -> object:
        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(podman.start, "c")
            await all_sent.wait()
            found = await podman.inspect("c")
            nursery.cancel_scope.cancel()
        return found

    assert not isinstance(await asked(service, path, calls), PodmanError)


# --- errors in replies ---------------------------------------------------------------------------


@pytest.mark.contract("SES-39", "F-21")
async def test_an_error_keeps_podmans_words_cause_and_status(service: Service, path: Path) -> None:
    """The fault: an error of any kind, which real Podman gives only where something is broken."""
    service.status = 500
    service.body = {"cause": "boom", "message": "it went boom", "response": 500}
    error = await failing(service, path, lambda podman: podman.start("c"))
    assert (error.status, error.cause) == (500, "boom")
    assert error.message == (
        "Podman refused 'POST /containers/c/start' with status 500: it went boom"
    )


@pytest.mark.contract("F-21")
async def test_a_long_error_is_cut(service: Service, path: Path) -> None:
    """The fault: an error that repeats the whole request."""
    service.status, service.body = 500, {"message": "x" * 100_000, "cause": "c"}
    assert len((await failing(service, path, lambda podman: podman.start("c"))).message) < 2200


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"Not Found", "Not Found"),
        (b"", ""),
        (b"\xff" * 3, "\ufffd" * 3),
        (b"[" * 100_000, "["),
        (b'{"message": 5}', '{"message": 5}'),
    ],
)
async def test_an_error_that_is_no_json_is_shown_as_it_is(
    service: Service, path: Path, body: bytes, shown: str
) -> None:
    """The fault: what a router or a proxy in between says."""
    service.status, service.body = 405, body
    error = await failing(service, path, lambda podman: podman.start("c"))
    assert error.status == 405
    assert f"with status 405: {shown}" in error.message


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", b"{}", b'{"Id": 5}', b"[" * 100_000])
async def test_an_answer_of_another_shape_is_an_error(
    service: Service, path: Path, body: bytes
) -> None:
    """The fault: a Podman whose replies changed."""
    service.body = body
    error = await failing(service, path, lambda podman: podman.inspect("c"))
    assert "Podman's answer is no Container" in error.message


@pytest.mark.contract("F-12")
async def test_a_secret_that_a_killed_daemon_left_is_replaced(service: Service, path: Path) -> None:
    """The fault: the name is taken; here the first create says so."""

    async def taken_once(connection: Connection) -> None:
        while await service.take(connection) is not None:
            first = len(service.requests) == 1
            taken = {"cause": "secret name in use", "message": "m"}
            await connection.reply(500 if first else 200, taken if first else {"ID": "x"})

    service.handler = taken_once
    await asked(service, path, lambda podman: podman.create_secret("s", b"v"))
    create = "POST /secrets/create?name=s"
    assert service.requests == [create, "DELETE /secrets/s", create]


@pytest.mark.parametrize("status", [409, 500])
async def test_a_kill_of_what_runs_no_more_is_done(
    service: Service, path: Path, status: int
) -> None:
    """The fault: Podman 4 says 500 here and Podman 5 says 409."""
    service.status, service.body = status, {"cause": "container state improper", "message": "m"}
    assert await asked(service, path, lambda podman: podman.kill("c")) is None


@pytest.mark.parametrize("status", [409, 500])
async def test_what_takes_no_signal_has_no_process(
    service: Service, path: Path, status: int
) -> None:
    """The fault: conmon is dead, and so is the container. Podman 4 says 500 and Podman 5 409."""
    service.status, service.body = status, {"cause": "container state improper", "message": "m"}
    assert await asked(service, path, lambda podman: podman.has_process("c")) is False


async def test_what_takes_a_signal_has_a_process(service: Service, path: Path) -> None:
    service.status = 204
    assert await asked(service, path, lambda podman: podman.has_process("c")) is True


async def test_a_removal_is_repeated_once_after_an_internal_error(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: Podman 5 answers 500 once when conmon is dead."""
    monkeypatch.setattr(api, "_RETRY_REMOVE_SECONDS", 0.0)

    async def fails_once(connection: Connection) -> None:
        while await service.take(connection) is not None:
            await connection.reply(500 if len(service.requests) == 1 else 200)

    service.handler = fails_once
    assert await asked(service, path, lambda podman: podman.remove("c")) is None
    assert len(service.requests) == 2


# --- streams -------------------------------------------------------------------------------------


async def pulled(
    service: Service, path: Path, *lines: bytes, whole: bool = True
) -> tuple[str | PodmanError, list[str]]:
    seen: list[str] = []

    async def streams(connection: Connection) -> None:
        await connection.request()
        await connection.stream_lines(*lines, whole=whole)

    service.handler = streams
    return await asked(service, path, lambda p: p.pull("i", "always", seen.append)), seen


@pytest.mark.contract("SES-43")
async def test_a_pull_gives_its_lines_and_the_id(service: Service, path: Path) -> None:
    """The fault: lines cut anywhere by the chunks of the reply."""
    chunks = (b'{"stream":"Try', b'ing\\n"}\n{"stream":"Copying"}\n', b'{"id":"abc"}')
    assert await pulled(service, path, *chunks) == ("abc", ["Trying", "Copying"])


@pytest.mark.contract("SES-43")
async def test_an_error_line_of_a_pull_is_its_failure_whatever_the_status(
    service: Service, path: Path
) -> None:
    """The fault: the registry fails after the reply has begun with status 200."""
    result, _ = await pulled(service, path, b'{"stream":"x"}\n', b'{"error":"unauthorized"}\n')
    assert isinstance(result, PodmanError)
    assert result.message == "unauthorized"


@pytest.mark.contract("SES-43")
async def test_a_failed_pull_is_told_in_one_line_that_is_safe_to_print(
    service: Service, path: Path
) -> None:
    """The fault: a registry that writes terminal sequences and a whole page for an error."""
    error = {"error": "denied:\x1b[2J\n\t* see\r" + "x" * 5000}
    result, _ = await pulled(service, path, json.dumps(error).encode())
    assert isinstance(result, PodmanError)
    assert (result.message[:18], len(result.message)) == ("denied: [2J * see ", 1000)


@pytest.mark.contract("SES-43")
async def test_a_pull_that_ends_without_an_id_is_no_success(service: Service, path: Path) -> None:
    """The fault: the stream ends in order and says nothing."""
    result, _ = await pulled(service, path, b'{"stream":"x"}\n')
    assert isinstance(result, PodmanError)
    assert "ended the pull of 'i'" in result.message


@pytest.mark.contract("SES-43")
async def test_a_pull_that_breaks_off_is_told(service: Service, path: Path) -> None:
    """The fault: the service dies during a pull."""
    result, _ = await pulled(service, path, b'{"id":"abc"}\n', whole=False)
    assert isinstance(result, PodmanUnreachable)


async def test_a_line_without_an_end_is_given_up(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: an endless line, which must not fill the memory."""
    monkeypatch.setattr(http, "_MAX_LINE_BYTES", 1000)
    result, _ = await pulled(service, path, b"x" * 2000, whole=False)
    assert isinstance(result, PodmanError)
    assert "no line ends" in result.message


async def test_a_line_that_is_no_json_ends_the_stream(service: Service, path: Path) -> None:
    """The fault: something else than Podman's lines, with more of it to come."""
    result, _ = await pulled(service, path, b"no json\n", whole=False)
    assert isinstance(result, PodmanError)
    assert "answer is no PullLine" in result.message


async def test_events_give_names_and_pass_over_error_lines(service: Service, path: Path) -> None:
    """The fault: Podman 4 sends the errors of a stream as a line of a 200 reply."""
    event = {"Action": "died", "Actor": {"ID": "x", "Attributes": {"name": "agentd-1"}}}
    nameless = {"Action": "prune", "Actor": {"ID": "x", "Attributes": {}}}
    error = {"cause": "x", "message": "events backend is gone", "response": 500}
    seen: list[tuple[str, str]] = []

    def note(name: str, action: str) -> None:
        seen.append((name, action))

    async def streams(connection: Connection) -> None:
        await service.take(connection)
        lines = [json.dumps(line).encode() + b"\n" for line in (nameless, event, error, event)]
        await connection.stream_lines(*lines)

    service.handler = streams
    await asked(service, path, lambda p: p.each_container_event("l", "v", note))
    assert seen == [("agentd-1", "died")] * 2


async def test_a_stream_that_is_refused_is_an_error(service: Service, path: Path) -> None:
    """The fault: Podman 5 refuses what it cannot follow before the stream begins."""
    service.status, service.body = 500, {"cause": "c", "message": "no events"}
    error = await failing(service, path, lambda p: p.each_container_event("l", "v", print))
    assert (error.status, error.cause) == (500, "c")


async def test_a_cancelled_stream_closes_its_connection(service: Service, path: Path) -> None:
    """The fault: a service that never notices a client that went away would keep it for ever."""
    gone = trio.Event()

    async def streams(connection: Connection) -> None:
        await connection.request()
        event = b'{"Actor":{"Attributes":{"name":"c"}}}\n'
        await connection.stream_lines(event, whole=False)
        assert await connection.request() is None
        gone.set()

    service.handler = streams

    async def follow(podman: Podman) -> object:
        with trio.CancelScope() as scope:
            await podman.each_container_event("l", "v", lambda _name, _action: scope.cancel())
        await gone.wait()
        return None

    assert await asked(service, path, follow) is None


# --- what is told of calls -----------------------------------------------------------------------


async def observed(
    service: Service, path: Path, call: Callable[[Podman], Awaitable[object]]
) -> list[tuple[str, str | None]]:
    """The kind of each call, and the code of its error."""
    heard: list[tuple[str, str | None]] = []

    def observe(kind: str, seconds: float, error: PodmanError | None) -> None:
        assert seconds >= 0
        heard.append((kind, None if error is None else error.code))

    async with serving(service, path), open_podman(path, observe) as podman:
        with suppress(PodmanError):
            await call(podman)
    return heard


async def test_a_call_is_told_when_it_is_over(service: Service, path: Path) -> None:
    heard = await observed(service, path, Podman.answer)
    assert heard == [("GET /_ping", None)]


async def test_a_refused_call_is_told_as_failed(service: Service, path: Path) -> None:
    """The fault: an internal error."""
    service.status = 500
    heard = await observed(service, path, lambda podman: podman.inspect("c"))
    assert heard == [("GET /containers/*/json", "podman_error")]


async def test_an_answer_that_says_no_is_no_failure(service: Service, path: Path) -> None:
    """The fault: the container is gone, or ended meanwhile."""

    async def ask(podman: Podman) -> None:
        service.status = 404
        await podman.inspect("c")
        service.status, service.body = 409, {"cause": "container state improper", "message": "m"}
        await podman.kill("c")

    heard = await observed(service, path, ask)
    assert heard == [("GET /containers/*/json", None), ("POST /containers/*/kill", None)]


async def test_a_call_that_is_sent_twice_is_told_once(service: Service, path: Path) -> None:
    """The fault: the service closed the connection under the first."""

    async def dies_first(connection: Connection) -> None:
        if len(service.requests) == 0:
            await service.take(connection)
        else:
            await service.answer(connection)

    service.handler = dies_first
    assert await observed(service, path, Podman.answer) == [("GET /_ping", None)]


async def test_a_time_out_is_told(
    service: Service, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault: no answer."""

    async def silent(connection: Connection) -> None:
        await service.take(connection)
        await trio.sleep_forever()

    service.handler = silent
    monkeypatch.setattr(api, "ALIVE_SECONDS", 0.05)
    assert await observed(service, path, Podman.answer) == [("GET /_ping", "podman_timeout")]


async def test_a_call_that_was_cancelled_is_not_told(service: Service, path: Path) -> None:
    """The fault: no answer."""
    asked_for = trio.Event()

    async def silent(connection: Connection) -> None:
        await service.take(connection)
        asked_for.set()
        await trio.sleep_forever()

    async def give_up(podman: Podman) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(podman.answer)
            await asked_for.wait()
            nursery.cancel_scope.cancel()

    service.handler = silent
    assert await observed(service, path, give_up) == []


async def test_a_stream_that_breaks_is_told(service: Service, path: Path) -> None:
    """The fault: the service dies in the middle of a pull."""

    async def dies(connection: Connection) -> None:
        await service.take(connection)
        await connection.stream_lines(b"{}", whole=False)

    service.handler = dies
    heard = await observed(service, path, lambda podman: podman.pull("i", "always", print))
    assert heard == [("POST /images/pull", "podman_unreachable")]


async def test_there_are_as_few_kinds_of_calls_as_calls(service: Service, path: Path) -> None:
    calls: list[Callable[[Podman, str], Awaitable[object]]] = [
        lambda podman, name: podman.image(f"registry.example/{name}"),
        lambda podman, name: podman.image(f"localhost:5000/{name}/json/start@sha256:{name}"),
        lambda podman, name: podman.create_secret(name, b"v"),
        lambda podman, name: podman.secret_names(name),
        lambda podman, name: podman.remove_secret(name),
        lambda podman, name: podman.has_network(name),
        lambda podman, name: podman.containers("label", name),
        lambda podman, name: podman.has_path(name, "/bin/sh"),
        lambda podman, name: podman.start(name),
        lambda podman, name: podman.inspect(name),
        lambda podman, name: podman.stop(name, 1),
        lambda podman, name: podman.kill(name),
        lambda podman, name: podman.remove(name),
        lambda podman, name: podman.each_container_event("label", name, lambda _n, _a: None),
    ]

    async def ask(podman: Podman) -> None:
        for call in calls:
            for name in ("agentd-58e3c8db-one", "agentd-58e3c8db-two"):
                with suppress(PodmanError):
                    await call(podman, name)

    service.status = 404
    kinds = {kind for kind, _ in await observed(service, path, ask)}
    assert kinds == {
        "DELETE /containers/*",
        "DELETE /secrets/*",
        "GET /containers/*/json",
        "GET /containers/json",
        "GET /events",
        "GET /images/*/json",
        "GET /networks/*/exists",
        "GET /secrets/json",
        "HEAD /containers/*/archive",
        "POST /containers/*/kill",
        "POST /containers/*/start",
        "POST /containers/*/stop",
        "POST /secrets/create",
    }
