"""Messages to bytes and back: MessagePack, strict.

The protocol's number is read leniently first: peers of different builds then part with a sentence
instead of a decoding error.
"""

from __future__ import annotations

import datetime
import re
from typing import Any, Final, TypeVar

import msgspec

from ..errors import InvalidInvocation, ProtocolMismatch, WireError
from .base import PROTOCOL
from .events import Agents, Event, Instants
from .requests import Request

_Asked = TypeVar("_Asked", bound=Request)


class _Header(msgspec.Struct):
    """What every version of a request has."""

    protocol: int


_encoder: Final = msgspec.msgpack.Encoder()
_header: Final = msgspec.msgpack.Decoder(_Header)
_request: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_event: Final[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)
_fault: Final = re.compile(r"(?:invalid request: )?(?P<what>.*?)(?: - at `\$\.(?P<where>.+)`)?")


def encode(message: Request | Event) -> bytes:
    """The body of the frame that carries `message`.

    In an event, what is no UTF-8, as a path may be, is shown as `\\udcff`: to miss the end of a
    session for the name of its record would be worse.

    Raises:
        WireError: a request holds text that is not UTF-8; nobody would get what was asked for.
    """
    try:
        return _encoder.encode(_with_offsets(message))
    except UnicodeEncodeError as error:
        if isinstance(message, Request):
            raise WireError(f"invalid request: text must be UTF-8: {error}") from None
        shown = _shown(msgspec.to_builtins(_with_offsets(message), builtin_types=_BUILTIN))
        return _encoder.encode(shown)


def _with_offsets(message: Request | Event) -> Any:
    """Local times as RFC 3339: a timestamp of MessagePack says the instant and no offset."""
    return msgspec.to_builtins(message) if isinstance(message, Agents | Instants) else message


def kind(request: Request) -> str:
    """The word by which a request is known."""
    return str(request.__struct_config__.tag)


_BUILTIN: Final = (bytes, datetime.datetime)


def _shown(value: Any) -> Any:
    """`value` with text that can be encoded, all the way down."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {key: _shown(each) for key, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case _:
            return value


def decode_request(body: bytes) -> Request:
    """The request in a frame's body.

    Raises:
        ProtocolMismatch: the client was built for another version of the protocol.
        WireError: anything else that is not a request; the text names the field.
    """
    try:
        theirs = _header.decode(body).protocol
        if theirs != PROTOCOL:
            raise ProtocolMismatch(
                f"this client speaks protocol {theirs} and the daemon speaks {PROTOCOL}:"
                " use the agentd command of the daemon's build, and restart the daemon after"
                " an upgrade"
            )
        return _request.decode(body)
    except _UNDECODABLE as error:
        raise WireError(f"invalid request: {_reason(error)}") from None


def checked(request: _Asked) -> _Asked:
    """`request`, as the daemon will read it: building a message checks nothing, reading it does.

    Raises:
        InvalidInvocation: it holds a value that it cannot have; the text names the field.
    """
    try:
        read = decode_request(encode(request))
    except (TypeError, OverflowError, WireError) as error:
        fault = _fault.fullmatch(str(error))
        assert fault is not None
        where = "" if fault["where"] is None else f"{fault['where']}: "
        raise InvalidInvocation(f"{where}{fault['what']}") from None
    assert isinstance(read, type(request))
    return read


def decode_event(body: bytes) -> Event:
    """The event in a frame's body. Raises `WireError` for anything that is none."""
    try:
        return _event.decode(body)
    except _UNDECODABLE as error:
        raise WireError(f"the daemon sent something else than an event: {_reason(error)}") from None


_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec raises the second for a string that is not UTF-8, and the third for deep nesting."""


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
