"""The local time zone, tzset(3), as rules and not as an offset: schedules outlive a change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import HostUnsupported

LOCALTIME: Final = Path("/etc/localtime")


def local_zone(environ: Mapping[str, str], localtime: Path = LOCALTIME) -> ZoneInfo:
    """The zone that `TZ` names, else that of `/etc/localtime`; UTC where there is neither.

    Raises:
        HostUnsupported: `TZ` names no zone of the tz database, or the file is none.
    """
    name = environ.get("TZ")
    if name is not None:
        return _named(name.removeprefix(":"))
    try:
        real = localtime.resolve(strict=True)
        # A zone that knows its own name shows it in the log.
        key = (
            "/".join(real.parts[real.parts.index("zoneinfo") + 1 :])
            if "zoneinfo" in real.parts
            else None
        )
        with real.open("rb") as file:
            return ZoneInfo.from_file(file, key=key)
    except FileNotFoundError:
        return ZoneInfo("UTC")
    except (OSError, ValueError) as error:
        raise HostUnsupported(f"{localtime} is no time zone: {error}") from error


def _named(name: str) -> ZoneInfo:
    """A zone by its name or the absolute path of its file; nothing means UTC."""
    try:
        if name.startswith("/"):
            with Path(name).open("rb") as file:
                return ZoneInfo.from_file(file)
        return ZoneInfo(name or "UTC")
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise HostUnsupported(
            f"TZ={name} names no time zone: use a name of the tz database, such as Europe/Berlin"
        ) from error
