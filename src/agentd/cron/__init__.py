"""Schedules: crontab(5)'s grammar, when one fires next, and what clocks do to it. Pure."""

from .clocks import LAST_YEAR, fires, next_fire
from .grammar import Schedule, matches, parse
from .notes import note

__all__ = ["LAST_YEAR", "Schedule", "fires", "matches", "next_fire", "note", "parse"]
