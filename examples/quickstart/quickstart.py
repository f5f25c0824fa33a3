"""One session from a request to its sealed record; start it by `./dev quickstart`.

Around agentd it puts what a machine without any set-up lacks: a Podman service, an image with a
stand-in runa and agent, and a repository. The record stays in `.quickstart/`, the rest goes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path.insert(0, str(CHECKOUT))

from testbed.git_daemon import git_daemon  # noqa: E402
from testbed.podman_service import (  # noqa: E402
    PodmanError,
    PodmanService,
    private_podman_service,
    reachable_podman_socket,
    reached_podman_service,
)
from testbed.session_image import cache_directory, ensure_session_image  # noqa: E402

CONFIG = HERE / "agentd.toml"
STATE = CHECKOUT / ".quickstart"
RECORDS = STATE / "tesserine/audit/site-builder"
AGENTD = Path(sys.executable).with_name("agentd")
IMAGE = "localhost/agentd-session:quickstart"
PORT = 19418
SITE = {"index.html": "<!doctype html>\n<title>Site</title>\n<h1>A small site</h1>\n"}
REQUEST = "Add a status page"
READY_EVENT = "agentd.daemon_started"
LOG_ENDED = ""
READY_SECONDS = 30.0
STOP_SECONDS = 10.0


class QuickstartError(Exception):
    """The quickstart cannot go on; the message says why."""


def say(text: str) -> None:
    """Print a line of the quickstart's own."""
    print(f"quickstart: {text}", flush=True)


@contextmanager
def podman_service(base: Path) -> Iterator[PodmanService]:
    """The Podman service of this user, or one of our own where there is none."""
    if reachable := reachable_podman_socket():
        say(f"using the Podman service at {reachable}")
        yield reached_podman_service(reachable)
        return
    say("starting a private Podman service")
    with private_podman_service(base) as service:
        yield service


@contextmanager
def session_image(service: PodmanService) -> Iterator[None]:
    """The image, for as long as the quickstart needs it."""
    say("preparing the session image (the first time this takes about half a minute)")
    ensure_session_image(service, IMAGE)
    try:
        yield
    finally:
        service.run("rmi", "--force", IMAGE)


@contextmanager
def daemon(environ: Mapping[str, str], log: Path) -> Iterator[None]:
    """A running agentd daemon, ready for requests; its log is shown if anything goes wrong."""
    say(f"starting agentd daemon --config {CONFIG.relative_to(CHECKOUT)}")
    with subprocess.Popen(
        [AGENTD, "daemon", "--config", CONFIG],
        env=environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Ctrl-C is for the quickstart, which then stops the daemon in good order.
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        events: Queue[str] = Queue()
        keeper = Thread(target=keep_log, args=(process.stderr, log, events))
        keeper.start()
        try:
            wait_until_ready(events)
            yield
        except BaseException:
            stop(process)
            keeper.join()
            show_tail(log)
            raise
        stop(process)
        keeper.join()


def keep_log(lines: IO[bytes], log: Path, events: Queue[str]) -> None:
    """Copy the daemon's log to a file until it ends, and name its events to the queue."""
    with log.open("wb", buffering=0) as kept:
        for line in lines:
            kept.write(line)
            with suppress(ValueError):
                events.put(str(json.loads(line).get("event")))
    events.put(LOG_ENDED)


def wait_until_ready(events: Queue[str]) -> None:
    """Return when the daemon has logged that it takes requests."""
    while True:
        try:
            event = events.get(timeout=READY_SECONDS)
        except Empty:
            raise QuickstartError("the daemon did not become ready") from None
        if event == READY_EVENT:
            return
        if event == LOG_ENDED:
            raise QuickstartError("the daemon ended before it was ready")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the daemon to end; ask again, which cuts sessions short; then insist."""
    for end in (process.terminate, process.terminate, process.kill):
        end()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return


def show_tail(log: Path) -> None:
    """Show the end of the daemon's log."""
    say("the end of the daemon's log:")
    print("".join(log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)


def environment(runtime: Path, service: PodmanService) -> dict[str, str]:
    """What the daemon and its client share, apart from everything that the user has."""
    return os.environ | {
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_STATE_HOME": str(STATE),
        "CONTAINER_HOST": f"unix://{service.socket}",
    }


def run_session(environ: Mapping[str, str]) -> Path:
    """Let agentd run one session, its output shown as it comes; return the record."""
    before = records()
    say(f'agentd run site-builder --request "{REQUEST}"')
    started = time.monotonic()
    code = subprocess.run(
        [AGENTD, "run", "site-builder", "--request", REQUEST], check=False, env=environ
    ).returncode
    say(f"the session took {time.monotonic() - started:.1f} s; agentd run ended with {code}")
    new = records() - before
    if code != 0 or len(new) != 1:
        raise QuickstartError(f"the session failed; records: {[str(each) for each in new]}")
    return new.pop()


def records() -> set[Path]:
    """The records of all sessions so far."""
    return set(RECORDS.glob("*"))


def show_record(record: Path) -> None:
    """Print what a session left."""
    session = record / "agentd/session.json"
    say(f"the outcome: {json.loads(session.read_text())['outcome']}")
    say(f"the record: {record.relative_to(CHECKOUT)}")
    for path in (session, *sorted((record / "runa/workspace/report").glob("*.json"))):
        print(f"--- {path.relative_to(record)}")
        print(path.read_text().rstrip())


def quickstart() -> None:
    """Do everything, and undo all but the record."""
    STATE.mkdir(exist_ok=True)
    with ExitStack() as stack:
        enter = stack.enter_context
        # Storage lies beside the record, since overlays do not work on every kind of /tmp.
        work = Path(enter(tempfile.TemporaryDirectory(dir=STATE, prefix="work-")))
        # Sockets lie in this one, whose path has to be short.
        runtime = Path(enter(tempfile.TemporaryDirectory(prefix="agentd-")))
        service = enter(podman_service(work / "podman"))
        enter(session_image(service))
        enter(git_daemon(work / "git", PORT)).add_repository("site.git", SITE)
        environ = environment(runtime, service)
        with daemon(environ, work / "daemon.log"):
            record = run_session(environ)
        show_record(record)
    say(f"removed all but the record; the base of the image stays in {cache_directory()}")


def main() -> int:
    """Run the quickstart; clean up on SIGTERM as on Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        quickstart()
    except KeyboardInterrupt:
        return 130
    except (QuickstartError, PodmanError, OSError) as error:
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
