"""Files that change, as hints: real inotify, real files."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agentd.errors import HostUnsupported
from agentd.watch import CLOSED, MODIFIED, Hint, Watcher, open_watcher

SECONDS = 10.0
"""The bound of a wait for the kernel: met at once, or the test has failed."""


@pytest.fixture
async def watcher() -> AsyncIterator[Watcher]:
    async with open_watcher() as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "output.raw"
    path.write_bytes(b"")
    return path


def write(path: Path, data: bytes = b"x") -> None:
    """Write and close the file."""
    path.write_bytes(data)


def open_and_close(path: Path, mode: str) -> None:
    path.open(mode).close()


def appending(path: Path) -> io.FileIO:
    return path.open("ab", buffering=0)


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


def descriptors() -> list[str]:
    """The open descriptors of this process."""
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


async def hinted(hint: Hint) -> None:
    with trio.fail_after(SECONDS):
        await hint.wait()


async def is_quiet(watcher: Watcher, directory: Path, hint: Hint) -> bool:
    """Whether `hint` has come by the time that a later event of another file is delivered."""
    marker, mark = directory / "marker", Hint()
    write(marker, b"")
    with watcher.watch(marker, MODIFIED, mark):
        write(marker)
        await hinted(mark)
    return not has_come(hint)


def has_come(hint: Hint) -> bool:
    """Whether there is a hint that nobody has used up."""
    return hint._event.is_set()


# --- hints ---------------------------------------------------------------------------------------


async def test_a_hint_given_before_the_wait_is_kept() -> None:
    hint = Hint()
    hint.give()
    await hinted(hint)


async def test_many_hints_are_kept_as_one() -> None:
    hint = Hint()
    for _ in range(3):
        hint.give()
    await hinted(hint)
    assert not has_come(hint)


async def test_a_hint_wakes_who_waits() -> None:
    hint = Hint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hinted, hint)
        await wait_all_tasks_blocked()
        hint.give()


async def test_a_cancelled_wait_loses_no_hint() -> None:
    hint = Hint()
    hint.give()
    with trio.CancelScope() as scope:
        scope.cancel()
        await hint.wait()
    assert scope.cancelled_caught
    await hinted(hint)


# --- files ---------------------------------------------------------------------------------------


async def test_a_write_is_seen(watcher: Watcher, file: Path) -> None:
    hint = Hint()
    with watcher.watch(file, MODIFIED, hint), appending(file) as writer:
        writer.write(b"x")
        await hinted(hint)
        writer.write(b"y")
        await hinted(hint)


async def test_a_truncation_is_a_modification(watcher: Watcher, file: Path) -> None:
    write(file)
    hint = Hint()
    with watcher.watch(file, MODIFIED, hint):
        os.truncate(file, 0)
        await hinted(hint)


async def test_the_close_of_a_writer_is_seen(watcher: Watcher, file: Path) -> None:
    """Design D5a: conmon closes the log when its container has ended."""
    hint = Hint()
    with watcher.watch(file, CLOSED, hint):
        open_and_close(file, "ab")
        await hinted(hint)


async def test_the_close_of_a_reader_is_not(watcher: Watcher, file: Path, tmp_path: Path) -> None:
    hint = Hint()
    with watcher.watch(file, CLOSED, hint):
        open_and_close(file, "rb")
        assert await is_quiet(watcher, tmp_path, hint)


async def test_a_watch_for_closes_is_not_woken_by_writes(
    watcher: Watcher, file: Path, tmp_path: Path
) -> None:
    hint = Hint()
    with watcher.watch(file, CLOSED, hint), appending(file) as writer:
        writer.write(b"x")
        assert await is_quiet(watcher, tmp_path, hint)


async def test_one_file_may_have_several_watchers(watcher: Watcher, file: Path) -> None:
    closed, modified = Hint(), Hint()
    with watcher.watch(file, CLOSED, closed), watcher.watch(file, MODIFIED, modified):
        write(file)
        await hinted(closed)
        await hinted(modified)


async def test_a_watcher_is_not_woken_for_what_another_asked_for(
    watcher: Watcher, file: Path, tmp_path: Path
) -> None:
    closed, modified = Hint(), Hint()
    with (
        watcher.watch(file, CLOSED, closed),
        watcher.watch(file, MODIFIED, modified),
        appending(file) as writer,
    ):
        writer.write(b"x")
        await hinted(modified)
        assert await is_quiet(watcher, tmp_path, closed)


async def test_the_watcher_that_stays_still_gets_what_it_asked_for(
    watcher: Watcher, file: Path, tmp_path: Path
) -> None:
    closed, modified = Hint(), Hint()
    with watcher.watch(file, CLOSED, closed):
        with watcher.watch(file, MODIFIED, modified):
            pass
        with appending(file) as writer:
            writer.write(b"x")
            assert await is_quiet(watcher, tmp_path, closed)
        await hinted(closed)
        assert await is_quiet(watcher, tmp_path, modified)


async def test_one_hint_may_watch_one_file_twice(watcher: Watcher, file: Path) -> None:
    hint = Hint()
    with watcher.watch(file, MODIFIED, hint):
        with watcher.watch(file, MODIFIED, hint):
            pass
        write(file)
        await hinted(hint)


async def test_after_the_watch_there_are_no_hints(
    watcher: Watcher, file: Path, tmp_path: Path
) -> None:
    hint = Hint()
    with watcher.watch(file, MODIFIED, hint):
        pass
    write(file)
    assert await is_quiet(watcher, tmp_path, hint)


@pytest.mark.parametrize("act", ["unlink", "rename"])
async def test_a_file_that_goes_away_ends_its_watch_quietly(
    watcher: Watcher, file: Path, act: str
) -> None:
    with watcher.watch(file, CLOSED, Hint()):
        await trio.lowlevel.checkpoint()
        if act == "unlink":
            remove(file)
        else:
            rename(file, "output.log")


async def test_files_do_not_wake_each_others_watchers(watcher: Watcher, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    write(mine, b"")
    write(other, b"")
    hint = Hint()
    with watcher.watch(mine, MODIFIED, hint):
        write(other)
        assert await is_quiet(watcher, tmp_path, hint)


async def test_hundreds_of_watches_share_one_instance(watcher: Watcher, file: Path) -> None:
    before = len(descriptors())
    hints = [Hint() for _ in range(300)]
    async with trio.open_nursery() as nursery:

        async def watch(hint: Hint) -> None:
            with watcher.watch(file, MODIFIED, hint):
                await hinted(hint)

        for hint in hints:
            nursery.start_soon(watch, hint)
        await wait_all_tasks_blocked()
        assert len(descriptors()) == before
        write(file)


async def test_a_file_that_is_not_there_is_an_error_that_says_so(
    watcher: Watcher, tmp_path: Path
) -> None:
    with (
        pytest.raises((OSError, HostUnsupported), match="No such file") as caught,
        watcher.watch(tmp_path / "absent", MODIFIED, Hint()),
    ):
        await trio.lowlevel.checkpoint()
    assert "max_user_watches" not in str(caught.value)


async def test_the_descriptor_is_closed_with_the_watcher() -> None:
    before = descriptors()
    async with open_watcher():
        pass
    assert descriptors() == before
