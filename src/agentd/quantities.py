"""Durations and sizes as operators write them. Pure; a fault is a ValueError with a sentence."""

from __future__ import annotations

import re
from typing import Final

MAX_DURATION: Final = 3650 * 86400.0
"""Ten years in seconds: longer is a typing error, and timers stay far from their own limits."""

MAX_SIZE: Final = 2**63 - 1
"""What a signed 64-bit integer holds; Podman's limits are of that type."""

_DURATION: Final = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?"
)
_MILLISECONDS: Final = (86_400_000, 3_600_000, 60_000, 1000, 1)

_SIZE: Final = re.compile(r"([0-9]{1,19}) ?([A-Za-z]+)")
_UNITS: Final[dict[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def parse_duration(text: str) -> float:
    """Seconds in `90s`, `30m`, `2h`, `1h30m`, `1d` or `500ms`: whole numbers, largest unit first.

    Raises:
        ValueError: it is not of that form, is zero, or is above `MAX_DURATION`.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(
            f"{text!r} is not a duration: write whole numbers with the units d, h, m, s or ms,"
            ' largest first, such as "90s", "30m" or "1h30m"'
        )
    parts = zip(match.groups(default="0"), _MILLISECONDS, strict=True)
    seconds = sum(int(count) * scale for count, scale in parts) / 1000
    if not 0 < seconds <= MAX_DURATION:
        raise ValueError(f"{text!r} is not a usable duration: it must be from 1ms to 3650d")
    return seconds


def parse_size(text: str) -> int:
    """Bytes in `512MiB`, `4GiB`, `1GB` or `4096B`; `iB` counts in 1024s and `B` in 1000s.

    Raises:
        ValueError: it is not of that form, or does not fit 64 bits.
    """
    match = _SIZE.fullmatch(text)
    scale = _UNITS.get(match[2]) if match else None
    if match is None or scale is None:
        raise ValueError(
            f"{text!r} is not a size: write a whole number and one of"
            f' {", ".join(_UNITS)}, such as "512MiB" or "4GiB"'
        )
    size = int(match[1]) * scale
    if size > MAX_SIZE:
        raise ValueError(f"{text!r} is too large a size: at most {MAX_SIZE} bytes are possible")
    return size
