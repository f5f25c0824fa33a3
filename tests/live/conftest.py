"""One private Podman service, with the session image in it, for all live tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testbed.git_daemon import GitDaemon, git_daemon
from testbed.podman_service import PodmanService, private_podman_service
from testbed.session_image import ensure_session_image


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PodmanService]:
    with private_podman_service(tmp_path_factory.mktemp("podman")) as service:
        yield service


@pytest.fixture(scope="session")
def session_image(podman: PodmanService) -> str:
    return ensure_session_image(podman)


@pytest.fixture(scope="session")
def git_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitDaemon]:
    with git_daemon(tmp_path_factory.mktemp("git")) as server:
        yield server
