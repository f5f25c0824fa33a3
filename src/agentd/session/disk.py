"""File work in a thread, within a bound: a disk may hang for ever, and a thread obeys no scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

import trio

from ..errors import DiskTimeout

DISK_SECONDS: Final = 30.0
"""The bound of what takes milliseconds on a disk that works."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


async def on_disk(
    seconds: float, where: str, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """The result of `work`, or an error that names `where` after so many seconds.

    The thread of work that was given up goes on by itself; what it must not do then, it asks of
    `check_wanted`.

    Raises:
        DiskTimeout: the disk has not answered in time; or whatever `work` raises.
    """
    with trio.move_on_after(seconds):
        return await trio.to_thread.run_sync(lambda: work(*args, **kwargs), abandon_on_cancel=True)
    raise DiskTimeout(f"{where} has not answered for {seconds:g} s")


def check_wanted() -> None:
    """In a thread: raise `trio.Cancelled` once the task that waits for it is cancelled.

    A thread does not obey a cancel scope, so long file work asks this between its slices.
    """
    trio.from_thread.check_cancelled()
