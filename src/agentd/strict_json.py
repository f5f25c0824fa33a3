"""JSON as RFC 8259 has it, which is less than Python's parser takes. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any


def parse_json(data: bytes) -> Any:
    """The value in `data`: UTF-8, no `NaN` or `Infinity`, and no key twice in one object.

    Of a doubled key, one parser takes the first value and the next the last: what was checked
    would not be what is read later.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(data.decode(), parse_constant=_refuse, object_pairs_hook=_object)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        twice = next(key for key, count in times.items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found
