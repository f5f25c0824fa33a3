"""What a site may need for its sessions: a proxy, and an authority of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.agentd_process import Agentd, Table
from testbed.connect_proxy import ConnectProxy, connect_proxy
from testbed.git_daemon import GitDaemon
from testbed.git_https import Authority, GitHttps, git_https

pytestmark = pytest.mark.live

# Where Debian's libcurl, and with it git, looks for the authorities that it trusts.
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def server(authority: Authority, git_server: GitDaemon, repository: str) -> Iterator[GitHttps]:
    """Serves `repository` too."""
    with git_https(git_server.base, authority.issue("server")) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with connect_proxy() as proxy:
        yield proxy


@pytest.fixture
def agent(
    declare: Callable[..., Table],
    authority: Authority,
    server: GitHttps,
    repository: str,
    proxy: ConnectProxy,
) -> Table:
    """What docs/deployment.md says to declare."""
    return declare(
        repo=server.url(repository.rpartition("/")[2]),
        environment={"https_proxy": proxy.url, "no_proxy": "mirror.example.org"},
        mounts=[{"source": str(authority.certificate), "target": TRUSTED, "read_only": True}],
    )


def test_a_session_reaches_a_server_of_a_private_authority_by_a_proxy(
    own_agentd: Agentd, agent: Table, server: GitHttps, proxy: ConnectProxy
) -> None:
    own_agentd.configure(agent)
    own_agentd.start()
    ended = own_agentd.script('echo "proxy $https_proxy"').wait()
    assert ended.code == 0, ended
    assert set(proxy.asked) == {server.origin.removeprefix("https://")}
    assert f"proxy {proxy.url}" in ended.stdout
