"""What a session's output costs beside a plain `podman run` that writes the same.

Needs Podman and git on the machine:  python benchmarks/output.py [MEGABYTES]
It starts a private Podman service and a daemon on it, and lets containers write as fast as they
can, first under `podman run` with the same log driver, then as sessions: with no follower, with one
that reads, with one that is stopped. Of the daemon it shows the processor time while the agent
writes, that of the closing (masking, sealing) after it, and the peak of its memory. At last it
closes logs made here, without any container.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from agentd import wire
from agentd.cri import encode
from agentd.session.output_log import finish
from testbed.agentd_client import AGENTD, SCRIPTED
from testbed.agentd_process import Agentd, agentd_process
from testbed.git_daemon import git_daemon
from testbed.podman_service import PodmanService, private_podman_service
from testbed.session_image import ensure_session_image

METHODOLOGY = Path(__file__).parent.parent / "testbed/methodology_pass_through"
TEXT = "a line of output as an agent writes it, some eighty bytes long, with words in it"
VALUE = "tok-3f9a8b7c6d5e4f3a2b1c"


class Process:
    """What the kernel says of the daemon's process."""

    def __init__(self, pid: int) -> None:
        self._proc = Path("/proc", str(pid))

    def forget_peak(self) -> None:
        """Let the peak of its memory be what it has now."""
        (self._proc / "clear_refs").write_text("5")

    def mebibytes(self, what: str) -> float:
        """`VmRSS` or `VmHWM`."""
        found = re.search(rf"{what}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def cpu(self) -> float:
        """Seconds of processor time, its own and the kernel's for it."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def followed(agentd: Agentd, script: str, *, stopped: bool) -> Iterator[str]:
    """Start a session with a client; its id. A stopped client goes on at the end."""
    command = [str(AGENTD), "run", "writer", "--work-unit", script]
    client = subprocess.Popen(
        command, env=agentd.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert client.stderr is not None
    session = re.match(rb"agentd: session ([0-9a-f]+)", client.stderr.readline())
    assert session is not None
    if stopped:
        client.send_signal(signal.SIGSTOP)
    yield session[1].decode()
    client.send_signal(signal.SIGCONT)
    client.communicate()


@contextmanager
def unfollowed(agentd: Agentd, script: str) -> Iterator[str]:
    """Start a session that nobody follows; its id."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(agentd.socket))
        request = wire.Run(agent="writer", work_unit=script, detach=True)
        connection.sendall(wire.frame(wire.encode(request)))
        buffer = wire.FrameBuffer()
        while (body := buffer.next_body()) is None:
            buffer.feed(connection.recv(4096))
    accepted = wire.decode_event(body)
    assert isinstance(accepted, wire.Accepted), accepted
    yield accepted.session_id


def plain(podman: PodmanService, image: str, log: Path, script: str) -> float:
    """Seconds of a container under the same log driver, from its creation to its removal."""
    options = ("--rm", "--network", "host", "--log-driver", "k8s-file", "--log-opt", f"path={log}")
    began = time.perf_counter()
    subprocess.run(
        [*podman.command, "run", *options, image, "sh", "-c", script],
        env=podman.environ,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    took = time.perf_counter() - began
    log.unlink()
    return took


def sessions(megabytes: int) -> None:
    """Measure daemon and containers, and print."""
    script = f"yes '{TEXT}' | head -c {megabytes}000000"
    with (
        tempfile.TemporaryDirectory(
            prefix="agentd-bench-", ignore_cleanup_errors=True
        ) as directory,
        private_podman_service(Path(directory, "podman")) as podman,
        git_daemon(Path(directory, "git")) as git,
        agentd_process(podman, Path(directory, "agentd")) as agentd,
    ):
        image = ensure_session_image(podman)
        agentd.configure(
            {
                "name": "writer",
                "base_image": image,
                "methodology_dir": str(METHODOLOGY),
                "repo": git.add_repository("writer", {"README": "nothing to do\n"}),
                "network": "host",
                "pull": "never",
                "command": {"argv": SCRIPTED},
                "limits": {"output": "16GiB"},
                "credentials": [{"name": "TOKEN", "source": "BENCHMARK_VALUE"}],
            }
        )
        agentd.start({"BENCHMARK_VALUE": VALUE})
        assert agentd.process is not None
        process = Process(agentd.process.pid)

        def session(name: str, following: AbstractContextManager[str]) -> None:
            process.forget_peak()
            cpu, began = process.cpu(), time.perf_counter()
            with following as session_id:
                agentd.wait_for("runner.session_outcome", session_id=session_id)
                ended, ended_cpu = time.perf_counter(), process.cpu()
                agentd.wait_for("agentd.run_completed", session_id=session_id)
                closed, closed_cpu = time.perf_counter(), process.cpu()
            print(
                f"agentd, {name:18} {ended - began:6.2f} s {(ended - began) / base_seconds:5.2f} x"
                f"   daemon: {ended_cpu - cpu:5.2f} s of CPU,"
                f" closing {closed_cpu - ended_cpu:5.2f} of {closed - ended:5.2f} s,"
                f" memory {process.mebibytes('VmRSS'):4.0f} MiB,"
                f" peak {process.mebibytes('VmHWM'):4.0f} MiB"
            )

        plain(podman, image, Path(directory, "plain.log"), "true")
        base_seconds = plain(podman, image, Path(directory, "plain.log"), script)
        print(f"{megabytes} MB of lines of {len(TEXT) + 1} bytes")
        print(f"podman run --rm            {base_seconds:6.2f} s")
        session("a silent session", unfollowed(agentd, "true"))
        session("no follower", unfollowed(agentd, script))
        session("a follower", followed(agentd, script, stopped=False))
        session("a stuck follower", followed(agentd, script, stopped=True))
        agentd.drained()


def closing(mebibytes: int) -> None:
    """Measure how long it takes to mask and rename a log, and print."""
    time_of_line = b"2026-08-20T10:11:12.123456789+02:00"
    value = VALUE.encode()
    line = encode(time_of_line, "stdout", TEXT.encode() + b"\n")
    told = encode(time_of_line, "stdout", TEXT.encode() + b" " + value + b"\n")
    endless = time_of_line + b" stdout P " + b"x" * 8192 + b"\n"
    bundle = [b"%064d" % number for number in range(2000)]
    cases = {
        "lines": (line * 1000, [value]),
        "one line": (endless * 10, [value]),
        "lines, 2000 values": (line * 1000, [value, *bundle]),
        "a value in each 1000th": (line * 999 + told, [value]),
        "a value in each 10th": ((line * 9 + told) * 100, [value]),
    }
    for name, (block, values) in cases.items():
        with tempfile.TemporaryDirectory(prefix="agentd-bench-") as directory:
            raw, log = Path(directory, "output.raw"), Path(directory, "output.log")
            with raw.open("wb") as file:
                while file.tell() < mebibytes * 1024 * 1024:
                    file.write(block)
            began, cpu = time.perf_counter(), time.process_time()
            finish(raw, log, values, 0, lambda: False)
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(f"closing {mebibytes} MiB, {name:22} {took:6.2f} s, {cpu:6.2f} s of CPU")


if __name__ == "__main__":
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    sessions(megabytes)
    closing(256)
