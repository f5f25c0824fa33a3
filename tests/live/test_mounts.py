"""What an operator mounts into a session, and what the session can do with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from testbed.agentd_client import Ended
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

WORK = """\
cat "$HOME/notes/note" && echo changed >"$HOME/notes/note" || true
cat "$HOME/.tool/cache/note" && echo changed >"$HOME/.tool/cache/note"
echo new >"$HOME/.tool/cache/new"
touch "$HOME/.tool/beside"
stat -c '%n %U' "$HOME/.tool"
"""


class Mounted(NamedTuple):
    """The host's directories, and the end of the session that had them."""

    read_only: Path
    writable: Path
    ended: Ended


@pytest.fixture(scope="module")
def mounted(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mounted:
    base = tmp_path_factory.mktemp("mounts, with a comma")
    read_only, writable, link = base / "read only,ro=false", base / "writable", base / "link"
    for directory in (read_only, writable):
        directory.mkdir()
        directory.chmod(0o777)
        (directory / "note").write_text(f"from {directory.name}\n")
        (directory / "note").chmod(0o666)
    link.symlink_to(writable)
    mounts = [
        {"source": str(read_only), "target": "/home/worker/notes", "read_only": True},
        {"source": str(link), "target": "/home/worker/.tool/cache", "read_only": False},
    ]
    agentd = start_agentd(declare(mounts=mounts))
    return Mounted(read_only, writable, agentd.script(WORK).wait())


@pytest.mark.contract("MNT-01", "SES-12")
def test_a_session_reads_what_is_mounted(mounted: Mounted) -> None:
    assert "from read only,ro=false\nfrom writable\n" in mounted.ended.stdout


@pytest.mark.contract("MNT-12")
def test_a_read_only_mount_stays_as_it_is(mounted: Mounted) -> None:
    assert (mounted.read_only / "note").read_text() == "from read only,ro=false\n"


@pytest.mark.contract("MNT-12")
def test_writing_to_a_read_only_mount_is_an_error_in_the_session(mounted: Mounted) -> None:
    assert "Read-only file system" in mounted.ended.stderr


@pytest.mark.contract("MNT-13", "MNT-03")
@pytest.mark.parametrize(("name", "text"), [("note", "changed\n"), ("new", "new\n")])
def test_what_a_session_writes_to_a_mount_stays(mounted: Mounted, name: str, text: str) -> None:
    assert (mounted.writable / name).read_text() == text


@pytest.mark.contract("ENV-16")
def test_mounted_files_keep_their_owner(mounted: Mounted) -> None:
    note = (mounted.writable / "note").stat()
    assert note.st_uid == mounted.writable.stat().st_uid


@pytest.mark.contract("ENV-17")
def test_directories_on_the_way_to_a_mount_are_the_agents(mounted: Mounted) -> None:
    assert "/home/worker/.tool worker\n" in mounted.ended.stdout
