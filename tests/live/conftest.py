"""One private Podman service, with the session image in it, for all live tests of a run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from testbed.agentd_client import SCRIPTED
from testbed.agentd_process import Agentd, Table, agentd_process
from testbed.git_daemon import GitDaemon, git_daemon
from testbed.leftovers import leftovers, monitors
from testbed.podman_service import PodmanService, private_podman_service
from testbed.processes import wait_until
from testbed.session_image import ensure_session_image

TESTBED = Path(__file__).parents[2] / "testbed"


@pytest.fixture(scope="session")
def podman() -> Iterator[PodmanService]:
    # Not below pytest's own directory: it keeps old runs, and would choke on the mounts of one
    # that was killed.
    with (
        TemporaryDirectory(prefix="agentd-tests-", ignore_cleanup_errors=True) as base,
        private_podman_service(Path(base)) as service,
    ):
        yield service


@pytest.fixture
def second_podman(podman: PodmanService, tmp_path: Path) -> Iterator[PodmanService]:
    """Another service on the same store, for one daemon: it can be stopped."""
    socket = podman.socket.with_name("second.sock")
    service = replace(podman, socket=socket, process=None)
    service.start(tmp_path / "service.log")
    yield service
    service.signal(signal.SIGCONT)
    service.stop()


@pytest.fixture(autouse=True)
def nothing_left(podman: PodmanService) -> Iterator[None]:
    """No test leaves anything of a session that has ended. Set up first, so it looks last."""
    yield
    assert leftovers(podman) == []
    wait_until("no monitor lives whose session has ended", lambda: not monitors(podman))


@pytest.fixture(scope="session")
def session_image(podman: PodmanService) -> str:
    return ensure_session_image(podman)


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitDaemon]:
    with git_daemon(tmp_path_factory.mktemp("git")) as server:
        yield server


@pytest.fixture(scope="session")
def repository(git_server: GitDaemon) -> str:
    """The clone URL of a repository with one page."""
    return git_server.add_repository("home.git", {"index.html": "<h1>Home</h1>\n"})


@pytest.fixture(scope="session")
def declare(session_image: str, repository: str) -> Callable[..., Table]:
    """Declares an agent; by default one whose runa passes exit codes through."""

    def declare(name: str = "worker", **keys: object) -> Table:
        return {
            "name": name,
            "base_image": session_image,
            "methodology_dir": str(TESTBED / "methodology_pass_through"),
            "repo": repository,
            "network": "host",
            "pull": "never",
            "command": {"argv": SCRIPTED},
        } | keys

    return declare


@pytest.fixture(scope="session")
def faithful(declare: Callable[..., Table]) -> Table:
    """An agent whose runa evaluates a protocol: it answers requests, and waits for one."""
    return declare(
        "site-builder",
        methodology_dir=str(TESTBED / "methodology"),
        command={"argv": ["stand-in-agent"]},
    )


@pytest.fixture(scope="module")
def start_agentd(
    podman: PodmanService, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Agentd]]:
    """Starts daemons for the tests of a module; they must end with 0 when asked once."""
    with ExitStack() as stack:
        started = []

        def start(
            *agents: Table, environ: Mapping[str, str | bytes] | None = None, **daemon: object
        ) -> Agentd:
            base = tmp_path_factory.mktemp("agentd")
            agentd = stack.enter_context(agentd_process(podman, base))
            agentd.configure(*agents, **daemon)
            agentd.start(environ)
            started.append(agentd)
            return agentd

        yield start
        for agentd in started:
            assert agentd.drained() == 0, agentd.written()


@pytest.fixture
def own_agentd(podman: PodmanService, session_image: str, tmp_path: Path) -> Iterator[Agentd]:
    """A daemon for one test; not configured and not started."""
    with agentd_process(podman, tmp_path / "agentd") as agentd:
        yield agentd
