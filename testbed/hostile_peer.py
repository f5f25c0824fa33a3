"""Peers that attack the daemon's socket: what they send, and whether the reply is a proper one.

As a program, `python -m testbed.hostile_peer SOCKET SEED COUNT` sends so many frames and prints how
often each kind of reply came, as JSON.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from agentd import wire
from agentd.errors import AgentdError, WireError

REPLY_SECONDS: Final = 60.0
TERMINAL: Final = (wire.Pong, wire.Sessions, wire.EndOfOutput, wire.Finished, wire.Failed)

Table: TypeAlias = dict[str, object]

REFUSED_AGENT: Final = "refused"
"""An agent that a test may declare so that its runs are refused after a look at the disk."""

# No digits alone and no letters from a to f: nothing here begins the id of a session.
_TEXTS: Final = (
    "",
    "unknown",
    REFUSED_AGENT,
    "../../../etc/passwd",
    "/",
    "*",
    "%s%n",
    "nul\0nul",
    "\x1b]0;title\x07",
    "line\nline",
    "\u202egnp",
    "x" * 300,
    "x" * 70_000,
    "x" * 300_000,
    "https://git.example.org/a/b",
    "git://[::1]:99999/x",
    "\U0010ffff" * 50,
)
_ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 1e308, float("nan"), float("inf")),
    *([], {}, [[]], {"type": "ping"}, b"", b"\xff" * 40, msgspec.msgpack.Ext(5, b"x")),
    *(["x"] * 1000, {str(number): number for number in range(300)}),
)
_PROTOCOLS: Final = (0, 1, 3, -1, 2**64 - 1, 2.0, "2", None, [2], True)


def hostile_bytes(rng: random.Random) -> bytes:
    """What one connection sends; the same for the same state of `rng`."""
    return rng.choices(
        [_requests, _mutated, _misframed, _noise, _nested],
        weights=[50, 30, 10, 8, 2],
    )[0](rng)


def _requests(rng: random.Random) -> bytes:
    return wire.frame(_body(rng))


def _mutated(rng: random.Random) -> bytes:
    body = bytearray(_body(rng))
    for _ in range(rng.choice((1, 1, 2, 8))):
        rng.choice(_MUTATIONS)(body, rng)
    return wire.frame(bytes(body) or b"\0")


def _misframed(rng: random.Random) -> bytes:
    body = _body(rng)
    length = rng.choice((0, 1, len(body) - 1, len(body) + 1, 2**16, wire.MAX_FRAME_BYTES))
    length = rng.choice((length, wire.MAX_FRAME_BYTES + 1, 2**31, 2**32 - 1))
    whole = struct.pack(">I", length) + body
    return whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.5 else whole


def _noise(rng: random.Random) -> bytes:
    noise = rng.randbytes(rng.choice((0, 1, 3, 4, 20, 5000)))
    return noise if rng.random() < 0.5 else wire.frame(noise or b"\xc1")


def _nested(rng: random.Random) -> bytes:
    opening = rng.choice((b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"))
    deep = opening * rng.choice((10, 500, 2000, 20_000)) + b"\xc0"
    key = rng.choice((b"\xa4deep", b"\xa5input", b"\xa8protocol"))
    return wire.frame(b"\x83" + key + deep + b"\xa8protocol%c\xa4type\xa3run" % wire.PROTOCOL)


def _body(rng: random.Random) -> bytes:
    """A request, more often a bad one than a good one, as a map whose keys may come twice."""
    pairs = list(rng.choice(_REQUESTS)(rng).items())
    pairs += [("protocol", wire.PROTOCOL)]
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        rng.choice(_CHANGES)(pairs, rng)
    head = bytes([0x80 + len(pairs)]) if len(pairs) < 16 else struct.pack(">BH", 0xDE, len(pairs))
    return head + b"".join(map(msgspec.msgpack.encode, (each for pair in pairs for each in pair)))


def _run(rng: random.Random) -> Table:
    given = rng.choice((_text_input, _artifact_input))(rng)
    return {
        "type": "run",
        "agent": _text(rng),
        "repo_url": rng.choice((None, _text(rng))),
        "work_unit": rng.choice((None, _text(rng))),
        "input": rng.choice((None, given)),
        "trigger": rng.choice(("manual", "schedule")),
        "detach": rng.random() < 0.5,
    }


def _text_input(rng: random.Random) -> Table:
    return {"type": "text_input", "description": _text(rng)}


def _artifact_input(rng: random.Random) -> Table:
    document = bytes(rng.choice((0, 100, 100_000, 4_000_000 if rng.random() < 0.01 else 10)))
    kinds = {"artifact_type": _text(rng), "artifact_id": _text(rng)}
    return {"type": "artifact_input", **kinds, "document": document}


def _logs(rng: random.Random) -> Table:
    return {"type": "logs", "session": _text(rng), "follow": rng.random() < 0.5}


def _stop(rng: random.Random) -> Table:
    grace = rng.choice((0, 1.5, 86_400, 86_401, -1, float("nan")))
    return {"type": "stop", "session": _text(rng), "grace_seconds": grace}


def _plain(rng: random.Random) -> Table:
    return {"type": rng.choice(("ping", "list_sessions", "pong", "dance", ""))}


def _text(rng: random.Random) -> str:
    # The long ones are rare: they would measure how fast bytes are copied.
    return rng.choice(_TEXTS) if rng.random() < 0.05 else rng.choice(_TEXTS[:11])


_Pairs: TypeAlias = list[tuple[Any, Any]]
_REQUESTS: Final = (_run, _run, _logs, _stop, _plain)
_CHANGES: Final[tuple[Callable[[_Pairs, random.Random], object], ...]] = (
    lambda pairs, rng: pairs.pop(rng.randrange(len(pairs))) if pairs else None,
    lambda pairs, rng: pairs.append((_text(rng), rng.choice(_ODD))),
    lambda pairs, rng: pairs.append((rng.choice(_ODD[:8]), rng.choice(_ODD))),
    lambda pairs, rng: pairs.append(("protocol", rng.choice(_PROTOCOLS))),
    lambda pairs, rng: pairs.append(rng.choice(pairs)) if pairs else None,
    lambda pairs, rng: pairs.insert(0, ("type", rng.choice(("run", "stop", "ping", 7, "x" * 300)))),
    lambda pairs, rng: rng.shuffle(pairs),
    lambda pairs, rng: pairs.append((rng.choice(pairs)[0], rng.choice(_ODD))) if pairs else None,
)


def _flip(body: bytearray, rng: random.Random) -> None:
    if body:
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)


def _delete(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    del body[at : at + rng.choice((1, 4, 100))]


def _insert(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = rng.choice((b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xed\xa0\x80", rng.randbytes(4)))


def _repeat(body: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(body) + 1)
    body[at:at] = body[at : at + rng.choice((1, 10, 200))] * rng.choice((1, 5))


_MUTATIONS: Final = (_flip, _flip, _delete, _insert, _repeat)


def connected(path: Path) -> socket.socket:
    """A connection whose waits are bounded; while the socket's queue is full, it is waited for."""
    peer = socket.socket(socket.AF_UNIX)
    # Only a socket that blocks waits in connect(2).
    peer.connect(str(path))
    peer.settimeout(REPLY_SECONDS)
    return peer


def said(path: Path, data: bytes) -> str:
    """Send `data`, then no more, and name the reply: `Pong`, an error's code, `nothing`, …

    Raises:
        AssertionError: the reply is not what every request must be answered with.
    """
    with connected(path) as peer:
        try:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        except OSError:
            # The daemon has refused before it had read all of it; its reply says so.
            pass
        reply = read_all(peer)
    return judged(data, reply)


def read_all(peer: socket.socket) -> bytes:
    """What comes until the end; closing with bytes unread is an end too, unix(7)."""
    parts = []
    try:
        while part := peer.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def judged(data: bytes, reply: bytes) -> str:
    """The name of a reply; see `said`."""
    if not reply and not data:
        return "nothing"
    buffer, events = wire.FrameBuffer(), []
    try:
        buffer.feed(reply)
        while (body := buffer.next_body()) is not None:
            events.append(wire.decode_event(body))
        buffer.end()
    except WireError as error:
        raise AssertionError(f"{data[:2000]!r} got no events but {reply[:2000]!r}") from error
    terminal = [event for event in events if isinstance(event, TERMINAL)]
    if terminal != events[-1:] or not events:
        raise AssertionError(f"{data[:2000]!r} got {events}")
    last = terminal[0]
    if not isinstance(last, wire.Failed):
        return type(last).__name__
    if last.code == AgentdError.code or not last.message:
        raise AssertionError(f"{data[:2000]!r} got {last}")
    return last.code


def abandon(path: Path, data: bytes) -> str:
    """Send `data` and go away."""
    with connected(path) as peer, suppress(OSError):
        # It may be refused before all of it was read.
        peer.sendall(data)
    return "abandoned"


def attack(path: Path, seed: int, count: int) -> Counter[str]:
    """Send `count` frames, each on a connection of its own; how often each reply came."""
    rng = random.Random(seed)
    replies: Counter[str] = Counter()
    for _ in range(count):
        data = hostile_bytes(rng)
        replies[(abandon if rng.random() < 0.05 else said)(path, data)] += 1
    return replies


if __name__ == "__main__":
    print(json.dumps(attack(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
