"""Podman 5 on a machine whose own Podman is another: the programs of Debian 13 over its own.

`./dev tests-long` unpacks them below `.dev`. A process holds a mount namespace in which the tree's
`/usr` lies over the machine's, and with it the little of `/etc` that belongs to it. All else stays
what it is at the same paths (test directories, audit roots, sockets, users), so a path means the
same to agentd, to Podman and to conmon.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

VARIABLE = "AGENTD_TESTS_PODMAN"
ON_PODMAN_5 = os.environ.get(VARIABLE) == "5"
TREE = Path(__file__).parents[1] / ".dev/podman5"

# In a user namespace nobody may change what the machine mounted, but everybody may cover it.
_HOLD = """\
set -e
for path in etc/alternatives etc/containers etc/ld.so.cache usr; do
    mount --bind "$1/$path" "/$path"
done
echo held
exec cat
"""

# What `podman unshare` tells Podman when it runs in the namespaces that Podman would make itself.
_AS_UNSHARED = {
    "_CONTAINERS_USERNS_CONFIGURED": "done",
    "_CONTAINERS_ROOTLESS_UID": str(os.getuid()),
    "_CONTAINERS_ROOTLESS_GID": str(os.getgid()),
}


_SUBNET = "10.87.0.0/16"
"""The bridge of the machine's own Podman stays after it, and with it the route to its subnet."""


@dataclass(frozen=True)
class Programs:
    """Where a Podman is found: the machine's own, or that of a tree."""

    entering: tuple[str, ...] = ()
    """What stands before a command that is to see the files that this Podman sees."""
    environ: Mapping[str, str] = field(default_factory=dict)
    subnet: str = "10.88.0.0/16"
    """Of the default network; this is Podman's own choice."""


@contextmanager
def chosen_programs(directory: Path) -> Iterator[Programs]:
    """The machine's own Podman, or Podman 5 when `AGENTD_TESTS_PODMAN=5` asks for it.

    `directory` is where its commands run.
    """
    match os.environ.get(VARIABLE, ""):
        case "":
            yield Programs()
        case "5":
            with _tree_over_machine(TREE, directory) as programs:
                yield programs
        case other:
            raise ValueError(f"{VARIABLE} is {other!r}: leave it out, or set it to 5")


@contextmanager
def _tree_over_machine(tree: Path, directory: Path) -> Iterator[Programs]:
    if not tree.is_dir():
        raise FileNotFoundError(f"no Podman 5 at {tree}: './dev tests-long' unpacks it")
    root = os.geteuid() == 0
    namespaces = () if root else ("--user", "--map-root-user", "--map-auto")
    with subprocess.Popen(
        ["unshare", "--mount", *namespaces, "sh", "-c", _HOLD, "sh", str(tree)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        # Closed at the end of the block, or by the kernel when this process dies: cat ends then.
        assert holder.stdout is not None
        if holder.stdout.readline() != b"held\n":
            raise OSError(f"could not lay {tree} over the machine's own files")
        entered = ("--mount",) if root else ("--user", "--preserve-credentials", "--mount")
        enter = ("nsenter", "--target", str(holder.pid), *entered, f"--wdns={directory}")
        environ = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}
        if not root:
            environ |= _AS_UNSHARED
        yield Programs(enter, environ, subnet=_SUBNET)
