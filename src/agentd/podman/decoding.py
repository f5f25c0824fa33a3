"""Reading what Podman sends: JSON of a known shape, and text that others may have written. Pure."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from ..errors import PodmanError

MAX_TEXT_CHARS: Final = 1000

_T = TypeVar("_T")


def one_line(text: str) -> str:
    """A text for people, parts of which a registry may have written, as one line of bounded size
    that does nothing to a terminal."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(plain.split())[:MAX_TEXT_CHARS]


def decoded(body: bytes, kind: type[_T]) -> _T:
    """The answer in `body`. Raises `PodmanError` when it is none."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise PodmanError(f"Podman's answer is no {name}: {error}") from None


def decoded_list(body: bytes, row: type[_T]) -> list[_T]:
    """The rows in `body`, which is `null` when there is none. Raises as `decoded`."""
    return [] if body.strip() == b"null" else decoded(body, list[row])  # type: ignore[valid-type]
