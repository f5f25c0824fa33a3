"""How long a session takes beside a plain `podman run` of the same image.

Needs Podman and git on the machine:  python benchmarks/session.py [RUNS]
It starts a private Podman service and a daemon on it, then runs sessions and `podman run --rm` in
turn. A session does more: a user, a clone, runa, a record. The ratio says what that costs.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from testbed.git_daemon import git_daemon
from testbed.podman_service import private_podman_service
from testbed.session_image import ensure_session_image

AGENTD = str(Path(sys.executable).with_name("agentd"))
METHODOLOGY = Path(__file__).parent.parent / "testbed/methodology_pass_through"


def configuration(base: Path, socket: Path, image: str, repo: str) -> Path:
    """A file that declares one agent, whose work is to do nothing."""
    path = base / "agentd.toml"
    path.write_text(
        f"""
[daemon]
audit_root = "{base}/audit"
podman_socket = "{socket}"
[[agents]]
name = "idle"
base_image = "{image}"
methodology_dir = "{METHODOLOGY}"
repo = "{repo}"
network = "host"
pull = "never"
[agents.command]
argv = ["true"]
"""
    )
    return path


def seconds(work: Callable[[], object]) -> float:
    """The wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(runs: int) -> None:
    """Measure and print."""
    base = Path(tempfile.mkdtemp(prefix="agentd-bench-"))
    with private_podman_service(base / "podman") as podman, git_daemon(base / "git") as git:
        image = ensure_session_image(podman)
        git.add_repository("idle", {"README": "nothing to do\n"})
        config = configuration(base, podman.socket, image, git.url("idle"))
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(base)}
        daemon = subprocess.Popen(
            [AGENTD, "--config", str(config)], env=environ, stderr=subprocess.PIPE, text=True
        )
        assert daemon.stderr is not None
        next(line for line in daemon.stderr if "agentd.daemon_started" in line)

        def session() -> None:
            command = [AGENTD, "run", "idle", "--quiet"]
            subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)

        def plain() -> None:
            podman.podman("run", "--rm", "--network", "host", image, "true")

        session()
        plain()
        times = [(seconds(plain), seconds(session)) for _ in range(runs)]
        daemon.terminate()
        daemon.communicate()
    plain_median = statistics.median(pair[0] for pair in times)
    session_median = statistics.median(pair[1] for pair in times)
    print(f"podman run --rm  {plain_median * 1000:6.0f} ms")
    print(
        f"agentd run       {session_median * 1000:6.0f} ms  {session_median / plain_median:.2f} x"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
