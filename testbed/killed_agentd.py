"""`agentd` that is killed at a named step: `python -m testbed.killed_agentd STEP ARGUMENT...`.

A step is `MODULE:NAME:WHEN`, the name of a function or of a class and its method; `before` and
`after` kill the process around its first call, `during` once the call has had a moment, so that
what it asked for takes effect without it. `paused` stops it after the call, until SIGCONT, and
`raising` makes a bug of the call. The program itself knows nothing of this.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

MOMENT_SECONDS = 0.01


def die() -> None:
    """End as kill(1) with -9 would end it."""
    os.kill(os.getpid(), signal.SIGKILL)


def killing(function: Callable[..., Any], when: str) -> Callable[..., Any]:
    """The same function, which its process does not survive."""

    def begin() -> None:
        if when == "before":
            die()
        elif when == "during":
            threading.Timer(MOMENT_SECONDS, die).start()
        elif when == "raising":
            raise ZeroDivisionError("planted")

    def end() -> None:
        if when == "after":
            die()
        elif when == "paused":
            os.kill(os.getpid(), signal.SIGSTOP)

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        begin()
        result = await function(*args, **kwargs)
        end()
        return result

    def called(*args: Any, **kwargs: Any) -> Any:
        begin()
        result = function(*args, **kwargs)
        end()
        return result

    return awaited if inspect.iscoroutinefunction(function) else called


def arm(step: str) -> None:
    """Put the trap into the program."""
    module, name, when = step.split(":")
    *owners, last = name.split(".")
    owner: Any = import_module(module)
    for each in owners:
        owner = getattr(owner, each)
    setattr(owner, last, killing(getattr(owner, last), when))


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.argv = ["agentd", *sys.argv[2:]]
    from agentd.cli import main

    main()
