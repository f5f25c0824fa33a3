"""How every option takes a length of time: as the configuration does, with its units."""

from __future__ import annotations

from ..errors import UsageError
from ..quantities import parse_duration


def duration(text: str, option: str) -> float:
    """The seconds in what was said to `option`, such as `90s` or `1h30m`.

    A bare number is none: nobody would know whether `--older-than 30` means seconds or days.

    Raises:
        UsageError: it is no duration.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None
