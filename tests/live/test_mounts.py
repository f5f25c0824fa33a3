"""What an operator mounts into a session, and what the session can do with it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from agentd import names
from agentd.audit import prepare
from agentd.config import Agent, Command, Mount
from agentd.podman import open_podman
from agentd.session.admission import admit
from agentd.session.engine import Engine
from agentd.session.invocation import Invocation
from agentd.session.lifecycle import run_session
from agentd.session.session import Session
from agentd.session.spec import HostAbilities
from agentd.watch import open_watcher
from testbed.agentd_client import Ended
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

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


# --- odd sources ---------------------------------------------------------------------------------


ODD_SOURCES = (
    *("a,b", "c:d:ro", "sp  ace", "quo'te\"s", "new\nline", "back\\slash", "ünï-日本-🔑", "e=f"),
    *("*?[x]", "$HOME`id`$(id)", "%s%n", "-v", "#;&|<>", "x" * 255),
)

# Each mount is told by the number that its target has; all that could change the host is tried.
HANDLE = """\
for mount in /data/* "$HOME/kept"; do
    printf '%s: ' "$mount" && cat "$mount/note" || true
    chmod -R 777 "$mount" && echo "$mount: mode changed"
    echo changed >"$mount/note" && echo "$mount: changed"
    mv "$mount/note" "$mount/moved" && echo "$mount: moved"
    rm -rf "$mount/note" "$mount/inner" || true
    [ ! -e "$mount/note" ] && echo "$mount: removed"
    ln "$mount/note" "$mount/link" && echo "$mount: linked"
    touch "$mount/new" && echo "$mount: written"
done 2>/dev/null
cat /file
true
"""


class Odd(NamedTuple):
    """What the host had before and after a session that had every odd source, and its end."""

    before: dict[str, tuple[object, ...]]
    after: dict[str, tuple[object, ...]]
    ended: Ended


def pictured(base: Path) -> dict[str, tuple[object, ...]]:
    """All that the host could see change below a directory, its own entry included."""

    def picture(path: Path) -> tuple[object, ...]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        times = (status.st_mtime_ns, status.st_ctime_ns)
        return (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, *times, content)

    return {str(path): picture(path) for path in (base, *sorted(base.rglob("*")))}


@pytest.fixture(scope="module")
def odd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    tmp_path_factory: pytest.TempPathFactory,
) -> Odd:
    base = tmp_path_factory.mktemp("odd")
    for name in (*ODD_SOURCES, "kept"):
        (base / name / "inner").mkdir(parents=True)
        (base / name / "note").write_text(f"from {name!r}\n")
        for path in (base / name, base / name / "inner", base / name / "note"):
            path.chmod(0o777)
        if os.geteuid() == 0:
            os.chown(base / name / "note", 12345, 54321)
    file, links = base / "a file, mounted", base / "links"
    file.write_text("the file\n")
    links.mkdir()
    (links / "first").symlink_to("second")
    (links / "second").symlink_to(file)
    mounts = [
        {"source": str(base / name), "target": f"/data/{number}", "read_only": True}
        for number, name in enumerate(ODD_SOURCES)
    ]
    mounts += [
        {"source": str(links / "first"), "target": "/file", "read_only": True},
        # Below home, where the setup gives all that it finds to the agent.
        {"source": str(base / "kept"), "target": "/home/worker/kept", "read_only": True},
    ]
    agentd = start_agentd(declare(mounts=mounts))
    before = pictured(base)
    ended = agentd.script(HANDLE).wait()
    return Odd(before, pictured(base), ended)


@pytest.mark.contract("MNT-01", "MNT-03", "MNT-16")
@pytest.mark.parametrize("number", range(len(ODD_SOURCES)))
def test_a_source_may_have_any_name(odd: Odd, number: int) -> None:
    assert f"/data/{number}: from {ODD_SOURCES[number]!r}\n" in odd.ended.stdout


@pytest.mark.contract("MNT-03")
def test_a_source_may_be_a_link_to_a_link_to_a_file(odd: Odd) -> None:
    assert "\nthe file\n" in odd.ended.stdout


@pytest.mark.contract("MNT-12")
def test_nothing_at_all_can_be_done_to_a_read_only_mount(odd: Odd) -> None:
    done = ("changed", "moved", "removed", "linked", "written")
    assert [line for line in odd.ended.stdout.splitlines() if line.endswith(done)] == []


@pytest.mark.contract("MNT-12", "ENV-15", "ENV-16")
def test_the_hosts_files_are_as_they_were(odd: Odd) -> None:
    """Content, owners, modes, links and times; of what is mounted below home, too."""
    assert (odd.ended.code, odd.after) == (0, odd.before)


# --- what a source can turn into -----------------------------------------------------------------


async def test_a_source_that_vanishes_after_the_check_fails_the_session_by_its_name(
    podman: PodmanService, session_image: str, repository: str, tmp_path: Path
) -> None:
    """In the process of the test, since only here is there a moment between check and create."""
    source = tmp_path / "source"
    source.mkdir()
    agent = Agent(
        name="worker",
        base_image=session_image,
        methodology_dir=Path(__file__).parents[2] / "testbed/methodology_pass_through",
        command=Command(("true",)),
        pull="never",
        mounts=(Mount(str(source), "/data", read_only=True),),
    )
    (tmp_path / "masks").mkdir(mode=0o700)
    prepare(tmp_path / "audit")
    async with open_podman(podman.socket) as api, open_watcher() as watcher:
        engine = Engine(
            podman=api,
            watcher=watcher,
            abilities=HostAbilities.of(await api.info()),
            instance="0badcafe",
            audit_root=tmp_path / "audit",
            masks_dir=tmp_path / "masks",
            starting=trio.CapacityLimiter(1),
        )
        invocation = Invocation(agent=agent, repo_url=repository, credentials=())
        admitted = await admit(invocation, engine, lambda _line: None)
        source.rmdir()
        whose = names.Identity(engine.instance, names.new_session_id())
        session = Session.of(admitted, whose, engine.audit_root)
        await run_session(session, admitted, engine)
    assert session.ended is not None
    assert (str(source) in str(session.ended.error), session.teardown_error) == (True, None)
    assert "0badcafe" not in podman.podman("ps", "--all", "--format", "{{.Names}}")
    assert list((tmp_path / "masks").iterdir()) == []


@pytest.fixture
def mounted_below(podman: PodmanService, tmp_path: Path) -> Iterator[Path]:
    """A directory on which another is mounted, as Podman sees it and as everybody else does."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a directory")
    other, below = tmp_path / "other", tmp_path / "source/below"
    other.mkdir()
    other.chmod(0o777)
    below.mkdir(parents=True)
    # A Podman of a tree has mounts of its own.
    views = dict.fromkeys(((), podman.entering))
    for entering in views:
        subprocess.run([*entering, "mount", "--bind", other, below], check=True)
    yield below
    for entering in views:
        subprocess.run([*entering, "umount", below], check=True)


@pytest.mark.contract("MNT-12")
def test_read_only_says_so_of_what_is_mounted_below_the_source_too(
    own_agentd: Agentd, declare: Callable[..., Table], mounted_below: Path
) -> None:
    mount = {"source": str(mounted_below.parent), "target": "/data", "read_only": True}
    own_agentd.configure(declare(mounts=[mount]))
    own_agentd.start()
    own_agentd.script("touch /data/below/planted").wait()
    assert list(mounted_below.iterdir()) == []
