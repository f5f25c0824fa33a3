"""Where things are by default."""

from pathlib import Path

import pytest

from agentd import paths
from agentd.errors import AuditError, HostUnsupported, RuntimePathError

XDG = {"XDG_RUNTIME_DIR": "/run/user/7"}
UNUSABLE = [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "run/user"}]


@pytest.mark.contract("RTP-01")
def test_the_daemons_files_are_below_the_runtime_directory() -> None:
    assert paths.default_socket_path(XDG) == Path("/run/user/7/agentd/agentd.sock")
    assert paths.default_pid_file(XDG) == Path("/run/user/7/agentd/agentd.pid")


@pytest.mark.contract("RTP-02")
@pytest.mark.parametrize("environ", UNUSABLE[:2])
def test_an_unset_or_empty_runtime_directory_is_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(RuntimePathError) as caught:
        paths.runtime_dir(environ)
    assert str(caught.value) == (
        "XDG_RUNTIME_DIR is not set; set XDG_RUNTIME_DIR or configure explicit daemon runtime paths"
    )


@pytest.mark.contract("RTP-03")
def test_a_relative_runtime_directory_is_an_error_that_shows_it() -> None:
    with pytest.raises(RuntimePathError, match=r"XDG_RUNTIME_DIR.*absolute.*'run/user'"):
        paths.runtime_dir({"XDG_RUNTIME_DIR": "run/user"})


@pytest.mark.contract("RTP-05")
@pytest.mark.parametrize("environ", [XDG, *UNUSABLE])
def test_a_clients_flag_wins_as_it_was_typed(environ: dict[str, str]) -> None:
    assert paths.client_socket_path(Path("../a.sock"), environ) == Path("../a.sock")


@pytest.mark.contract("RTP-06")
def test_a_client_without_a_flag_uses_the_default_and_nothing_else() -> None:
    assert paths.client_socket_path(None, XDG) == Path("/run/user/7/agentd/agentd.sock")


@pytest.mark.contract("RTP-07")
@pytest.mark.parametrize("environ", UNUSABLE)
def test_a_client_that_cannot_know_the_socket_names_both_ways_out(environ: dict[str, str]) -> None:
    with pytest.raises(RuntimePathError, match=r"XDG_RUNTIME_DIR.*--socket-path"):
        paths.client_socket_path(None, environ)


def test_a_socket_path_may_be_as_long_as_linux_allows() -> None:
    assert paths.socket_path_fault(Path("/" + "s" * 106)) is None


def test_a_longer_socket_path_is_refused_with_both_lengths() -> None:
    assert "108 bytes long and Linux allows 107" in (
        paths.socket_path_fault(Path("/" + "é" * 53 + "s")) or ""
    )


@pytest.mark.contract("CFG-38", "CFG-39")
@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/tesserine/audit"),
        ({"XDG_STATE_HOME": "", "HOME": "/h"}, "/h/.local/state/tesserine/audit"),
        ({"XDG_STATE_HOME": "s", "HOME": "/h"}, "/h/.local/state/tesserine/audit"),
        ({"HOME": "/h"}, "/h/.local/state/tesserine/audit"),
    ],
)
def test_the_audit_root_is_in_the_state_directory(environ: dict[str, str], root: str) -> None:
    assert paths.default_audit_root(environ) == Path(root)


@pytest.mark.contract("CFG-39", "CFG-40")
@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "h"}, {"XDG_STATE_HOME": "s"}])
def test_without_a_usable_directory_there_is_no_audit_root(environ: dict[str, str]) -> None:
    with pytest.raises(AuditError, match=r"audit root.*XDG_STATE_HOME.*HOME.*daemon\.audit_root"):
        paths.default_audit_root(environ)


@pytest.mark.parametrize(
    ("configured", "environ", "euid", "sockets"),
    [
        (Path("/p"), {"CONTAINER_HOST": "unix:///c", **XDG}, 0, ["/p"]),
        (None, {"CONTAINER_HOST": "unix:///c", **XDG}, 0, ["/c"]),
        (None, XDG, 7, ["/run/user/7/podman/podman.sock"]),
        (None, XDG, 0, ["/run/user/7/podman/podman.sock", "/run/podman/podman.sock"]),
        (None, {}, 0, ["/run/podman/podman.sock"]),
    ],
)
def test_podmans_socket_is_looked_for_where_podman_puts_it(
    configured: Path | None, environ: dict[str, str], euid: int, sockets: list[str]
) -> None:
    assert [str(p) for p in paths.podman_sockets(configured, environ, euid)] == sockets


@pytest.mark.contract("F-10")
@pytest.mark.parametrize("host", ["tcp://h:1", "ssh://h", "unix://relative"])
def test_a_podman_that_is_not_local_is_refused(host: str) -> None:
    with pytest.raises(HostUnsupported, match="CONTAINER_HOST"):
        paths.podman_sockets(None, {"CONTAINER_HOST": host}, 7)


def test_no_place_to_look_for_podman_is_refused_with_the_ways_out() -> None:
    with pytest.raises(HostUnsupported, match=r"XDG_RUNTIME_DIR.*daemon\.podman_socket"):
        paths.podman_sockets(None, {}, 7)
