"""A systemd of a user, `systemd --user`, that runs units on the Podman of the tests.

It needs what a login gives: a machine that systemd has booted, and cgroups of version 2 of the
user's own. `login.sh` gives both; only root can call it, so another user must be called by it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from testbed.notify_socket import listening_systemd
from testbed.podman_service import PodmanService
from testbed.processes import SECONDS

PROGRAM = Path("/usr/lib/systemd/systemd")
LOG = "units.log"
"""Where units may write to, below the home directory, for errors to show."""

_CGROUPS = Path("/sys/fs/cgroup")
_LOGIN = Path(__file__).with_name("login.sh")

# Each manager is the root of cgroups of its own.
_MANAGER = 'mkdir -p "$0"; echo 0 >"$0/cgroup.procs"; exec "$@"'

# Without the system's own systemd, nobody tells a user's that the network is there: what Quadlet
# makes wait for it would wait a minute and a half.
_NETWORK_UNIT = "podman-user-wait-network-online.service"


def why_no_systemd() -> str | None:
    """What keeps a user's systemd from running here; None when nothing does."""
    if shutil.which("systemctl") is None:
        return "./dev installs systemd"
    if os.geteuid() == 0:
        return None
    logged_in = Path("/run/systemd/system").is_dir() and os.access(_CGROUPS, os.W_OK)
    return None if logged_in else "needs the login that root can give: testbed/login.sh"


class SystemdUser:
    """A running user manager, whose `%h` is `home` and whose `%t` is `runtime`."""

    def __init__(
        self,
        podman: PodmanService,
        home: Path,
        process: subprocess.Popen[bytes],
        environ: Mapping[str, str],
    ) -> None:
        """Units call `podman` without options: `environ` leads it to the store of the tests."""
        self.podman = podman
        self.home = home
        self.process = process
        self.runtime = podman.socket.parent
        self.environ = environ

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `systemctl --user` to its end, whatever its exit status."""
        return subprocess.run(
            [*self.podman.entering, "systemctl", "--user", *words],
            check=False,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
        )

    def do(self, *words: str) -> str:
        """Return what `systemctl --user` printed; an error shows what the unit says of itself."""
        done = self.systemctl(*words)
        if done.returncode != 0:
            status = self.systemctl("status", "--full", "--lines=0", *words[1:]).stdout
            log = self.home / LOG
            written = log.read_text()[-2000:] if log.exists() else ""
            raise AssertionError(f"systemctl {' '.join(words)}: {done.stderr}{status}{written}")
        return done.stdout

    def show(self, unit: str, key: str) -> str:
        """A property of a unit."""
        return self.do("show", "--property", key, "--value", unit).strip()

    def end(self) -> None:
        """Let it stop all units, as when the host goes down, and wait for its end."""
        if self.process.poll() is None:
            self.systemctl("exit")
        self.process.wait(SECONDS)


def write_unit(path: Path, text: str) -> None:
    """Write a unit file; it counts from the next `daemon-reload` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@contextmanager
def systemd_user(podman: PodmanService, home: Path) -> Iterator[SystemdUser]:
    """A user manager that ends, with all its units, when its context does."""
    environ = {**podman.environ, "HOME": str(home)}
    write_unit(home / ".config/systemd/user" / _NETWORK_UNIT, "")
    login = (str(_LOGIN), "root") if os.geteuid() == 0 else ()
    command = [
        *(*podman.entering, *login, "sh", "-euc", _MANAGER, f"{_CGROUPS}/{home.name}"),
        *(str(PROGRAM), "--user", "--log-target=console"),
    ]
    with (home / "systemd.log").open("wb") as log, ExitStack() as starting:
        starter = starting.enter_context(listening_systemd(str(home / "notify")))
        process = subprocess.Popen(
            command,
            env={**environ, "NOTIFY_SOCKET": starter.address},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        manager = SystemdUser(podman, home, process, environ)
        try:
            starter.hears("READY=1\nSTATUS=Ready.")
            # It goes on telling what it does, and waits for whoever listens and does not read.
            starting.close()
            yield manager
        finally:
            manager.end()
