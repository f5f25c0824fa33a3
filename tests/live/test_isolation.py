"""What an agent cannot reach: privileges, devices, the kernel's settings, and other networks."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.agentd_client import HOLD, Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService

pytestmark = pytest.mark.live

HOST_NETWORK = Path("/proc/self/ns/net")
NETWORK = "agentd-tests-lab"
ABSENT_NETWORK = "agentd-tests-absent"
SETUP_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7
"""CHOWN, DAC_OVERRIDE, KILL, SETGID and SETUID, as capabilities(7) numbers them."""

MOUNT = """\
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)
print(os.strerror(ctypes.get_errno()))"""

# Each line makes one file of the record; what is refused leaves its reason there.
LOOK = f"""\
cat /proc/self/status >.runa/status
cat /proc/self/mountinfo >.runa/mounts
find /dev -type b >.runa/block-devices
id_as_root -u >.runa/setuid
python3 -c '{MOUNT}' >.runa/mount
unshare --mount true 2>.runa/unshare
mknod .runa/device b 8 0 2>.runa/mknod
chown root .runa/setuid 2>.runa/chown
kill -KILL 1 2>.runa/kill
cat /proc/1/environ 2>.runa/environ >&2
echo 1 2>.runa/sysctl >/proc/sys/vm/drop_caches
"""
REFUSALS = {
    "mount": ("Operation not permitted",),
    "unshare": ("Operation not permitted",),
    "mknod": ("Operation not permitted",),
    "chown": ("Operation not permitted",),
    "kill": ("Operation not permitted", "Permission denied"),
    "environ": ("Permission denied",),
    "sysctl": ("Permission denied", "Read-only file system"),
}
LOOK_AT_NETWORK = f"""\
ls /sys/class/net >.runa/interfaces
readlink /proc/self/ns/net >.runa/namespace
{HOLD}
"""
KNOCK = 'python3 -c "import socket; socket.create_connection((\\"{}\\", {}), 20)"'

# Where the container's network does not lead to the testbed's git server.
GIT = """\
#!/bin/sh
for target; do :; done
case " $* " in *" clone "*) exec mkdir "$target" ;; esac
exit 1
"""


@pytest.fixture(scope="module")
def setuid_image(podman: PodmanService, session_image: str) -> str:
    """A session image with a program that says who it runs as, and should be root."""
    name, container = "localhost/agentd-session:setuid", "agentd-testbed-setuid"
    make = "cp /usr/bin/id /usr/local/bin/id_as_root && chmod 4755 /usr/local/bin/id_as_root"
    run = ("run", "--name", container, "--network", "none", session_image, "sh", "-c", make)
    podman.podman(*run)
    podman.podman("commit", "--quiet", container, name)
    podman.podman("rm", container)
    return name


@pytest.fixture(scope="module")
def offline_git(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """A mount that replaces git by something that needs no network."""
    git = tmp_path_factory.mktemp("git") / "git"
    git.write_text(GIT)
    git.chmod(0o755)
    return {"source": str(git), "target": "/usr/local/bin/git", "read_only": True}


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    setuid_image: str,
    offline_git: Table,
) -> Agentd:
    def on(name: str, network: str) -> Table:
        return declare(name, network=network, mounts=[offline_git])

    relaxed = {"no_new_privileges": False, "init": False}
    return start_agentd(
        declare(base_image=setuid_image),
        declare("relaxed", base_image=setuid_image, isolation=relaxed),
        on("offline", "none"),
        on("ordinary", "default"),
        on("lab", NETWORK),
        on("lost", ABSENT_NETWORK),
    )


@pytest.fixture(scope="module")
def seen(agentd: Agentd) -> Record:
    return agentd.script(LOOK).wait().record


@pytest.fixture(scope="module")
def status(seen: Record) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in seen.read("status").splitlines())
    return {key: text.strip() for key, text in pairs}


# --- privileges ----------------------------------------------------------------------------------


@pytest.mark.contract("F-24")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("CapInh", 0), ("CapPrm", 0), ("CapEff", 0), ("CapAmb", 0), ("CapBnd", SETUP_CAPABILITIES)],
)
def test_the_agent_has_no_capability_and_could_gain_the_setups_at_most(
    status: dict[str, str], kind: str, expected: int
) -> None:
    assert int(status[kind], 16) == expected


@pytest.mark.contract("F-24")
def test_a_setuid_program_gains_nothing(seen: Record) -> None:
    assert seen.read("setuid") == "10001\n"


@pytest.mark.contract("F-24")
@pytest.mark.parametrize("deed", REFUSALS)
def test_what_only_root_may_do_is_refused(seen: Record, deed: str) -> None:
    reason = seen.read(deed)
    assert any(text in reason for text in REFUSALS[deed]), reason


@pytest.mark.contract("F-24")
def test_no_disk_of_the_host_is_there(seen: Record) -> None:
    assert seen.read("block-devices") == ""


@pytest.mark.contract("F-24")
@pytest.mark.parametrize("place", ["/proc/sys", "/sys"])
def test_the_kernels_settings_are_read_only_for_the_setup_too(seen: Record, place: str) -> None:
    fields = [line.split() for line in seen.read("mounts").splitlines()]
    options = [field[5].split(",") for field in fields if field[4] == place]
    assert [("ro" in each) for each in options] == [True]


@pytest.fixture(scope="module")
def shown(agentd: Agentd, podman: PodmanService) -> dict[str, Any]:
    """What inspect says of a container while its session runs."""
    client = agentd.script(HOLD)
    client.wait_for_line("ready")
    inspected: list[dict[str, Any]] = json.loads(podman.podman("inspect", *agentd.containers()))
    client.record.release()
    client.wait()
    return inspected[0]


@pytest.mark.contract("F-24")
def test_the_container_has_what_the_setup_needs_and_no_more(shown: dict[str, Any]) -> None:
    expected = {"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"}
    assert set(shown["EffectiveCaps"]) == expected


@pytest.mark.contract("F-24")
def test_protections_are_on_by_default(shown: dict[str, Any]) -> None:
    host = shown["HostConfig"]
    found = ("no-new-privileges" in host["SecurityOpt"], host["Init"], host["Privileged"])
    assert found == (True, True, False)


@pytest.mark.contract("F-24")
def test_protections_can_be_given_up(agentd: Agentd) -> None:
    """A setuid program is root then, without a capability beyond those of the setup."""
    script = "id_as_root -u >.runa/setuid; cat /proc/1/comm >.runa/first"
    record = agentd.script(script, "relaxed").wait().record
    assert (record.read("setuid"), record.read("first") != "podman-init\n") == ("0\n", True)


# --- a host without an init program --------------------------------------------------------------


@pytest.fixture
def initless(podman: PodmanService, tmp_path: Path) -> Iterator[PodmanService]:
    """A second service on the same store, which looks for its init program where none is."""
    configuration = tmp_path / "containers.conf"
    usual = Path(podman.environ["CONTAINERS_CONF"]).read_text()
    absent = 'init_path = "/nowhere/catatonit"\n'
    for table in ("[containers]\n", "[engine]\n"):
        usual = usual.replace(table, table + absent)
    configuration.write_text(usual)
    service = replace(
        podman,
        socket=podman.socket.with_name("initless.sock"),
        environ={**podman.environ, "CONTAINERS_CONF": str(configuration)},
        process=None,
    )
    service.start(tmp_path / "service.log")
    yield service
    service.stop()


@pytest.mark.contract("F-24", "SES-15")
def test_a_host_without_an_init_program_is_told_what_to_do(
    own_agentd: Agentd, declare: Callable[..., Table], initless: PodmanService
) -> None:
    own_agentd.configure(declare(), podman_socket=str(initless.socket))
    own_agentd.start()
    ended = own_agentd.run("worker")
    told = "install the package 'catatonit'" in ended.stderr and "isolation.init" in ended.stderr
    assert (ended.code, told) == (6, True), ended
    own_agentd.assert_nothing_left()


# --- networks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bridge(podman: PodmanService, session_image: str) -> Iterator[None]:
    """A network of Podman's, where this host can make one and start containers in it."""
    made = podman.run("network", "create", NETWORK)
    tried = podman.run("run", "--rm", "--network", NETWORK, session_image, "true")
    if tried.returncode == 0:
        yield
    podman.run("network", "rm", "--force", NETWORK)
    if not podman.rootless:
        # CNI's own notes, which no command removes.
        shutil.rmtree(f"/var/lib/cni/networks/{NETWORK}", ignore_errors=True)
    if tried.returncode != 0:
        pytest.skip(f"this host has no bridge networks: {made.stderr}{tried.stderr}")


@pytest.fixture(scope="module")
def default_network(podman: PodmanService, session_image: str) -> Iterator[None]:
    """What Podman gives by default, where this host can: rootful CNI leaves its bridge behind."""
    bridge = Path("/sys/class/net/cni-podman0")
    was_there = bridge.exists()
    tried = podman.run("run", "--rm", session_image, "true")
    if tried.returncode == 0:
        yield
    if not was_there and bridge.exists() and not list((bridge / "brif").iterdir()):
        subprocess.run(["ip", "link", "delete", bridge.name], check=False)
    if tried.returncode != 0:
        pytest.skip(f"this host has no default network for containers: {tried.stderr}")


@pytest.fixture(scope="module")
def host_address() -> Iterator[tuple[str, int]]:
    """Where a container reaches the host: an address of it that is not the loopback's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, socket.socket() as listener:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            pytest.skip(f"this host has no address but the loopback's: {error}")
        listener.bind((probe.getsockname()[0], 0))
        listener.listen()
        yield listener.getsockname()


def knock(host: str, port: int) -> str:
    """What reaches the host at this address, or at Podman's name for it: with pasta, rootless
    Podman 5's default, a container has the host's address as its own."""
    knocks = (KNOCK.format(name, port) for name in (host, "host.containers.internal"))
    return f"{{ {' || '.join(knocks)}; }} && "


class Networked:
    """What a session saw of its network, and what inspect says of it."""

    def __init__(self, agentd: Agentd, podman: PodmanService, agent: str, first: str = "") -> None:
        client = agentd.script(first + LOOK_AT_NETWORK, agent)
        client.wait_for_line("ready")
        template = "{{json .NetworkSettings.Networks}}"
        shown = podman.podman("inspect", "--format", template, *agentd.containers())
        client.record.release()
        record = client.wait().record
        self.inspected = set(json.loads(shown) or ())
        self.interfaces = set(record.read("interfaces").split())
        self.is_the_hosts = record.read("namespace") == f"{HOST_NETWORK.readlink()}\n"


@pytest.mark.contract("F-24")
def test_without_a_network_there_is_only_the_loopback(
    agentd: Agentd, podman: PodmanService
) -> None:
    found = Networked(agentd, podman, "offline")
    assert (found.interfaces, found.is_the_hosts) == ({"lo"}, False)


@pytest.mark.contract("F-24")
def test_the_hosts_network_is_the_hosts(agentd: Agentd, podman: PodmanService) -> None:
    assert Networked(agentd, podman, "worker").is_the_hosts


@pytest.mark.contract("F-24")
def test_the_default_network_is_a_sessions_own_and_leads_out(
    agentd: Agentd,
    podman: PodmanService,
    default_network: None,
    host_address: tuple[str, int],
) -> None:
    found = Networked(agentd, podman, "ordinary", knock(*host_address))
    assert (len(found.interfaces), found.is_the_hosts) == (2, False)


@pytest.mark.contract("F-24")
def test_a_network_of_podmans_is_joined_by_name(
    agentd: Agentd, podman: PodmanService, bridge: None, host_address: tuple[str, int]
) -> None:
    found = Networked(agentd, podman, "lab", knock(*host_address))
    shown = (found.inspected, len(found.interfaces), found.is_the_hosts)
    assert shown == ({NETWORK}, 2, False)


@pytest.mark.contract("F-24", "SES-04")
def test_a_network_that_does_not_exist_is_told_and_leaves_nothing(agentd: Agentd) -> None:
    before = agentd.records()
    ended = agentd.run("lost")
    told = f"agentd: there is no network '{ABSENT_NETWORK}'" in ended.stderr
    assert (ended.code, told, agentd.records()) == (6, True, before), ended
    agentd.assert_nothing_left()
