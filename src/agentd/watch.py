"""Files that change, as events: one inotify(7) instance for a whole daemon.

A host allows a user 128 instances, so sessions share one. A watch is a hint and never a fact:
whoever is woken looks for itself.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio
from inotify_simple import INotify, flags

from .errors import HostUnsupported

CLOSED: Final = int(flags.CLOSE_WRITE)
"""A writer closed the file. conmon does so when its container has ended."""

MODIFIED: Final = int(flags.MODIFY)
"""The file grew or shrank."""

APPEARED: Final = int(flags.CREATE | flags.MOVED_TO | flags.ATTRIB)
"""Something is new in the directory, or its permissions are."""


class Hint:
    """Wakes a task; hints that come while nobody waits are kept as one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def give(self) -> None:
        """Wake whoever waits, now or when it next waits."""
        self._event.set()

    async def wait(self) -> None:
        """Wait for the next hint and use it up. Only one task may wait."""
        await self._event.wait()
        self._event = trio.Event()


class Watcher:
    """Watches on files of this process's choosing."""

    def __init__(self, inotify: INotify) -> None:
        self._inotify = inotify
        self._watches: dict[int, list[tuple[int, Hint]]] = {}

    @contextmanager
    def watch(self, path: Path, mask: int, hint: Hint) -> Iterator[None]:
        """Give `hint` for what `mask` names of the file at `path`, while inside.

        The kernel has one watch for each file, so the masks of its watchers are added up.

        Raises:
            HostUnsupported: the file cannot be watched, or the user's limit of watches is reached.
        """
        try:
            wd = self._inotify.add_watch(os.fspath(path), mask | flags.MASK_ADD)
        except OSError as error:
            remedy = "raise fs.inotify.max_user_watches" if error.errno == errno.ENOSPC else ""
            raise HostUnsupported(
                f"cannot watch {path}: {error.strerror}", remedy=remedy
            ) from error
        entry = (mask, hint)
        self._watches.setdefault(wd, []).append(entry)
        try:
            yield
        finally:
            self._leave(wd, entry, path)

    def _leave(self, wd: int, entry: tuple[int, Hint], path: Path) -> None:
        others = self._watches.get(wd, [])
        if entry in others:
            others.remove(entry)
        try:
            if others:
                # Adding without MASK_ADD replaces the mask: nobody pays for a watcher that left.
                wanted = 0
                for mask, _ in others:
                    wanted |= mask
                self._inotify.add_watch(os.fspath(path), wanted)
            else:
                self._watches.pop(wd, None)
                self._inotify.rm_watch(wd)
        except OSError:
            # The file is gone or has another name by now, and the kernel's watch with it.
            pass

    async def run(self) -> None:
        """Deliver hints until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._inotify.fileno())
            for event in self._inotify.read(timeout=0):
                if event.mask & flags.Q_OVERFLOW:
                    self._wake_all()
                for mask, hint in self._watches.get(event.wd, ()):
                    if event.mask & mask:
                        hint.give()

    def _wake_all(self) -> None:
        for watchers in self._watches.values():
            for _, hint in watchers:
                hint.give()


@asynccontextmanager
async def open_watcher() -> AsyncIterator[Watcher]:
    """A watcher that delivers while inside.

    Raises:
        HostUnsupported: the user's limit of inotify instances is reached.
    """
    try:
        inotify = INotify()
    except OSError as error:
        raise HostUnsupported(
            f"cannot watch files: {error.strerror}",
            remedy="raise fs.inotify.max_user_instances, unless the limit of open files is too low",
        ) from error
    try:
        async with trio.open_nursery() as nursery:
            watcher = Watcher(inotify)
            nursery.start_soon(watcher.run)
            yield watcher
            nursery.cancel_scope.cancel()
    finally:
        inotify.close()
