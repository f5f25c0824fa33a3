"""How the commands show what they report: columns for people, JSON for programs."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence

import msgspec

from .printable import printable, printable_json


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Lines with their words in columns."""
    rows = [[printable(word) for word in line] for line in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in rows
    )


def span(time: datetime.timedelta) -> str:
    """A length of time as people say it, in its two largest units; below zero it is `0s`."""
    seconds = max(0, round(time.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"


def ago(when: datetime.datetime, now: datetime.datetime) -> str:
    """How long ago it was."""
    return f"{span(now - when)} ago"


def amount(size: int) -> str:
    """Bytes as people say them."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"


def print_json(what: object) -> None:
    """One JSON document, a field a line; absent values are null."""
    document = msgspec.json.format(msgspec.json.encode(what), indent=2).decode()
    sys.stdout.write(printable_json(document) + "\n")


def json_line(what: object) -> str:
    """A JSON document in one line, for whoever reads them one by one."""
    return printable_json(msgspec.json.encode(what).decode())
