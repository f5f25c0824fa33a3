"""The local time zone, tzset(3), as rules and not as an offset: schedules outlive a change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..errors import HostUnsupported

LOCALTIME: Final = Path("/etc/localtime")


def local_zone(environ: Mapping[str, str], localtime: Path = LOCALTIME) -> ZoneInfo:
    """The zone that `TZ` names, else that of `/etc/localtime`; UTC where there is neither.

    Its `key` is its name in the tz database or, of a file that does not tell, the file's path.

    Raises:
        HostUnsupported: `TZ` names no zone of the tz database, or the file is none.
    """
    name = environ.get("TZ")
    if name is not None:
        return _named(name.removeprefix(":"))
    try:
        real = localtime.resolve(strict=True)
        with real.open("rb") as file:
            return ZoneInfo.from_file(file, key=_name_of(real) or str(localtime))
    except FileNotFoundError:
        return ZoneInfo("UTC")
    except (OSError, ValueError) as error:
        raise HostUnsupported(f"{localtime} is no time zone: {error}") from error


def _name_of(real: Path) -> str | None:
    """What the tz database calls the zone in this file; None when that cannot be told.

    Podman 4 mounts a copy of the host's zone, and so over the file to which the image's link
    leads: that has then the name of one zone and the rules of another.
    """
    if "zoneinfo" not in real.parts or os.path.ismount(real):
        return None
    return "/".join(real.parts[real.parts.index("zoneinfo") + 1 :])


def _named(name: str) -> ZoneInfo:
    """A zone by its name or the absolute path of its file; nothing means UTC."""
    try:
        if name.startswith("/"):
            with Path(name).open("rb") as file:
                return ZoneInfo.from_file(file, key=name)
        return ZoneInfo(name or "UTC")
    except (OSError, ValueError, ZoneInfoNotFoundError) as error:
        raise HostUnsupported(
            f"TZ={name} names no time zone: use a name of the tz database, such as Europe/Berlin"
        ) from error
