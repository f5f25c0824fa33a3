"""A fault in a configuration: where it is, what is wrong, and what else the finding rests on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

Place = tuple[str | int, ...]
"""A place in the document: table keys, and indexes of array entries."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


class Problem(NamedTuple):
    """One fault; `str()` gives it as one line.

    `rests_on` names further places whose values the finding needs. A finding about a value that
    could not even be read would mislead, so `dependable` leaves it out.
    """

    place: Place
    text: str
    rests_on: tuple[Place, ...] = ()

    def __str__(self) -> str:
        """The place and the sentence."""
        shown = show_place(self.place)
        return f"{shown}: {self.text}" if shown else self.text

    def below(self, prefix: Place) -> Problem:
        """The same fault, seen from the document that holds this table at `prefix`."""
        others = tuple((*prefix, *other) for other in self.rests_on)
        return Problem((*prefix, *self.place), self.text, others)


def show_place(place: Place) -> str:
    """`place` as an operator reads it: `agents[1].mounts[0].source`; odd keys are quoted."""
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else json.dumps(part)
            shown += f".{key}" if shown else key
    return shown


def dependable(problems: Iterable[Problem], unread: Iterable[Place]) -> list[Problem]:
    """The problems that rest on no value at, or below, one of the places that were not read."""
    broken = tuple(unread)

    def rests_on_unread(place: Place) -> bool:
        return any(place[: len(unread_place)] == unread_place for unread_place in broken)

    return [
        problem
        for problem in problems
        if not any(rests_on_unread(place) for place in (problem.place, *problem.rests_on))
    ]


def in_document_order(problems: Iterable[Problem], document: object) -> list[Problem]:
    """The problems as a reader of the document meets them; what is missing ends its table."""
    return sorted(problems, key=lambda problem: _position(document, problem.place))


def _position(document: object, place: Place) -> tuple[int, ...]:
    position: list[int] = []
    here = document
    for part in place:
        if isinstance(part, int):
            position.append(part)
            # `[agents]` in place of `[[agents]]` is read as an array of one.
            here = here[part] if isinstance(here, list) and part < len(here) else here
        elif isinstance(here, dict) and part in here:
            position.append(list(here).index(part))
            here = here[part]
        else:
            position.append(len(here) if isinstance(here, dict) else 0)
            break
    return tuple(position)
