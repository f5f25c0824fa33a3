"""Why a schedule fires when it does, where a change of the clocks has a say in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from .grammar import Schedule, matches


def note(schedule: Schedule, at: datetime, zone: ZoneInfo) -> str | None:
    """What a change of the clocks has to do with the fire at `at`, in words; None when nothing."""
    local = at.astimezone(zone)
    if not matches(schedule, local):
        before = (at - timedelta(seconds=1)).astimezone(zone) + timedelta(seconds=1)
        return (
            f"the clock goes from {before:%H:%M} to {local:%H:%M}:"
            " its time does not exist on this day, so it fires when the gap ends"
        )
    first, second = (local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    # In a gap the two differ as well, but no instant has a local time that lies in one.
    if first == second:
        return None
    if schedule.fixed:
        return f"{local:%H:%M} comes twice on this day; it fires the first time"
    which = "first" if local.fold == 0 else "second"
    return f"{local:%H:%M} comes twice on this day; this is the {which} time"
