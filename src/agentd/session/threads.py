"""Blocking file work off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import trio

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_slices(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run `work` in a thread and wait for it, cancelled or not.

    A thread does not obey a cancel scope: long work takes `is_cancelled` and asks it often.
    """
    return await trio.to_thread.run_sync(partial(work, *args, **kwargs))


def is_cancelled() -> bool:
    """Inside a thread of `in_slices`: raises `trio.Cancelled` there once its caller is cancelled."""
    trio.from_thread.check_cancelled()
    return False
