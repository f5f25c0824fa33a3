"""From a file to a configuration whose paths are ready to use."""

import os
from pathlib import Path

import pytest

from agentd import config, names
from agentd.errors import AuditError, ConfigError, RuntimePathError

AGENTS = """
[[agents]]
name = "builder"
base_image = "localhost/builder:latest"
methodology_dir = "{methodology}"
repo_token_source = "NO_SUCH_VARIABLE"
[agents.command]
argv = ["work"]
[[agents.mounts]]
source = "/no/such/source"
target = "/data"
read_only = true
[[agents.credentials]]
name = "TOKEN"
source = "NO_SUCH_VARIABLE"
"""

XDG = {"XDG_RUNTIME_DIR": "/run/user/7"}
BOTH = '[daemon]\nsocket_path = "/r/s"\npid_file = "/r/p"\n'


def write(directory: Path, text: str = "", methodology: str = "m") -> Path:
    path = directory / "agentd.toml"
    path.write_text(text + AGENTS.format(methodology=methodology))
    return path


@pytest.mark.contract("CFG-18")
def test_a_relative_methodology_is_joined_onto_the_files_directory(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, methodology="../common/./m"), XDG)
    assert str(loaded.agents[0].methodology_dir) == f"{tmp_path}/../common/m"


@pytest.mark.contract("CFG-18")
def test_an_absolute_methodology_stays(tmp_path: Path) -> None:
    loaded = config.load(write(tmp_path, methodology="/srv/m"), XDG)
    assert loaded.agents[0].methodology_dir == Path("/srv/m")


@pytest.mark.contract("CFG-18")
def test_a_relative_config_path_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = config.load(Path("agentd.toml"), XDG)
    assert loaded.agents[0].methodology_dir == tmp_path / "m"


@pytest.mark.contract("CFG-19")
def test_nothing_that_the_file_points_at_needs_to_exist(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, methodology="/no/such"), XDG).agents[0].mounts


@pytest.mark.contract("CFG-36")
@pytest.mark.parametrize("key", ["socket_path", "pid_file", "audit_root", "podman_socket"])
def test_relative_daemon_paths_are_joined_onto_the_files_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f'[daemon]\n{key} = "sub/x"\n')
    assert getattr(config.load(Path("agentd.toml"), XDG).daemon, key) == tmp_path / "sub/x"


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """A directory whose name is not UTF-8."""
    directory = tmp_path / os.fsdecode(b"caf\xe9")
    directory.mkdir()
    return directory


@pytest.mark.contract("CFG-18", "CFG-36")
@pytest.mark.parametrize("key", ["socket_path", "pid_file", "audit_root", "podman_socket"])
def test_a_daemon_path_that_is_not_utf8_is_refused(nameless: Path, key: str) -> None:
    path = write(nameless, f'[daemon]\n{key} = "x"\n', methodology="/m")
    with pytest.raises(ConfigError, match=f"field 'daemon.{key}' must be UTF-8, and '.*caf") as got:
        config.load(path, XDG)
    assert len(got.value.problems) == 1


@pytest.mark.contract("CFG-18")
def test_a_methodology_whose_path_is_not_utf8_is_refused(nameless: Path) -> None:
    text = "field 'methodology_dir' must be UTF-8 for agent 'builder'"
    with pytest.raises(ConfigError, match=text):
        config.load(write(nameless, methodology="m"), XDG)


def test_a_configuration_below_such_a_directory_may_have_absolute_paths(nameless: Path) -> None:
    assert config.load(write(nameless, methodology="/m"), XDG).agents


def test_a_runtime_directory_that_is_not_utf8_is_no_default(tmp_path: Path) -> None:
    with pytest.raises(RuntimePathError, match="XDG_RUNTIME_DIR must be UTF-8"):
        config.load(write(tmp_path), {"XDG_RUNTIME_DIR": os.fsdecode(b"/run/\xff")})


def test_a_state_directory_that_is_not_utf8_is_no_default() -> None:
    environ = {"XDG_STATE_HOME": os.fsdecode(b"/\xff"), "HOME": "/h"}
    root = config.resolve_audit_root(config.Daemon(), environ)
    assert root == Path("/h/.local/state/tesserine/audit")


def test_a_home_that_is_not_utf8_gives_no_default_audit_root() -> None:
    with pytest.raises(AuditError, match=r"set .* daemon\.audit_root"):
        config.resolve_audit_root(config.Daemon(), {"HOME": os.fsdecode(b"/home/\xff")})


@pytest.mark.contract("RTP-01")
def test_omitted_runtime_paths_are_below_the_runtime_directory(tmp_path: Path) -> None:
    daemon = config.load(write(tmp_path), XDG).daemon
    assert daemon.socket_path == Path("/run/user/7/agentd/agentd.sock")
    assert daemon.pid_file == Path("/run/user/7/agentd/agentd.pid")


@pytest.mark.contract("CFG-41", "RTP-02")
def test_runtime_paths_that_cannot_be_known_fail_the_load(tmp_path: Path) -> None:
    with pytest.raises(RuntimePathError) as caught:
        config.load(write(tmp_path), {})
    assert str(caught.value) == (
        "daemon runtime paths could not be resolved; XDG_RUNTIME_DIR is not set;"
        " set XDG_RUNTIME_DIR or configure explicit daemon runtime paths"
    )


@pytest.mark.contract("CFG-41")
def test_explicit_runtime_paths_need_no_runtime_directory(tmp_path: Path) -> None:
    daemon = config.load(write(tmp_path, BOTH), {"XDG_RUNTIME_DIR": "relative"}).daemon
    assert (daemon.socket_path, daemon.pid_file) == (Path("/r/s"), Path("/r/p"))


@pytest.mark.contract("RTP-04")
@pytest.mark.parametrize("key", ["socket_path", "pid_file"])
def test_one_explicit_runtime_path_still_needs_the_other(tmp_path: Path, key: str) -> None:
    with pytest.raises(RuntimePathError, match="XDG_RUNTIME_DIR"):
        config.load(write(tmp_path, f'[daemon]\n{key} = "/r/x"\n'), {})


@pytest.mark.contract("CFG-43")
def test_faults_of_agents_are_told_before_runtime_paths_are_missed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        config.load(write(tmp_path, methodology=""), {})


@pytest.mark.contract("CFG-37")
def test_a_given_audit_root_is_the_audit_root(tmp_path: Path) -> None:
    daemon = config.load(write(tmp_path, '[daemon]\naudit_root = "/var/a"\n'), XDG).daemon
    assert config.resolve_audit_root(daemon, {"XDG_STATE_HOME": "/s"}) == Path("/var/a")


@pytest.mark.contract("CFG-38")
@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/tesserine/audit"),
        ({"HOME": "/h"}, "/h/.local/state/tesserine/audit"),
    ],
)
def test_the_audit_root_defaults_to_the_state_directory(environ: dict[str, str], root: str) -> None:
    assert config.resolve_audit_root(config.Daemon(), environ) == Path(root)


@pytest.mark.contract("CFG-40")
def test_a_missing_default_audit_root_fails_at_use_and_not_at_load(tmp_path: Path) -> None:
    daemon = config.load(write(tmp_path), XDG).daemon
    with pytest.raises(AuditError, match=r"audit root.*XDG_STATE_HOME.*HOME.*daemon.audit_root"):
        config.resolve_audit_root(daemon, XDG)


@pytest.mark.contract("CFG-42")
def test_text_without_a_file_keeps_relative_paths() -> None:
    parsed = config.parse('[daemon]\nsocket_path = "s"\n' + AGENTS.format(methodology="../m"))
    assert parsed.daemon.socket_path == Path("s")
    assert parsed.agents[0].methodology_dir == Path("../m")


@pytest.mark.contract("CFG-42")
def test_relative_paths_give_no_instance_id() -> None:
    text = '[daemon]\nsocket_path = "s"\npid_file = "p"\n' + AGENTS.format(methodology="m")
    daemon = config.parse(text).daemon
    with pytest.raises(ValueError, match=r"^field 'daemon\.socket_path' must be absolute before"):
        names.instance_id(str(daemon.socket_path), str(daemon.pid_file), "/a")


@pytest.mark.contract("CFG-44")
def test_a_file_that_cannot_be_read_is_told_with_the_systems_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "none.toml", XDG)
    reason = os.strerror(2)
    assert str(caught.value) == f"failed to read config: {tmp_path}/none.toml: {reason}"


@pytest.mark.contract("CFG-44")
def test_a_directory_in_place_of_the_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^failed to read config: "):
        config.load(tmp_path, XDG)


@pytest.mark.contract("CFG-44")
def test_a_file_that_is_not_utf8_is_an_invalid_config(tmp_path: Path) -> None:
    path = tmp_path / "agentd.toml"
    path.write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"^invalid config: .*agentd\.toml: not UTF-8 at byte 5"):
        config.load(path, XDG)


@pytest.mark.contract("CFG-43", "CFG-44")
def test_each_problem_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "x = 1\ny = 2\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path, XDG)
    prefixes = [problem.split(": ")[:3] for problem in caught.value.problems]
    assert prefixes == [["invalid config", str(path), "x"], ["invalid config", str(path), "y"]]


@pytest.mark.contract("CFG-47")
def test_the_daemon_alone_is_read_whatever_the_agents_hold(tmp_path: Path) -> None:
    path = tmp_path / "agentd.toml"
    path.write_text(BOTH + "[[agents]]\nnonsense = 1\n[agents.runa]\n")
    assert config.load_daemon(path, {}).socket_path == Path("/r/s")


@pytest.mark.contract("CFG-47")
def test_the_daemon_alone_needs_no_agents(tmp_path: Path) -> None:
    path = tmp_path / "agentd.toml"
    path.write_text("")
    assert config.load_daemon(path, XDG).pid_file == Path("/run/user/7/agentd/agentd.pid")


@pytest.mark.contract("CFG-47")
def test_the_daemon_alone_still_refuses_other_keys_at_the_top(tmp_path: Path) -> None:
    path = tmp_path / "agentd.toml"
    path.write_text("agents = 3\n[profiles]\n")
    with pytest.raises(ConfigError, match="unknown field 'profiles'"):
        config.load_daemon(path, XDG)


@pytest.mark.contract("CFG-47")
def test_the_daemon_alone_is_held_to_its_rules(tmp_path: Path) -> None:
    path = tmp_path / "agentd.toml"
    path.write_text("[daemon]\nmax_sessions = -1\n")
    with pytest.raises(ConfigError, match="must not be negative"):
        config.load_daemon(path, XDG)


@pytest.mark.contract("CFG-46")
def test_a_loaded_configuration_does_not_need_its_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    loaded = config.load(path, XDG)
    path.unlink()
    assert loaded.agent("builder") is loaded.agents[0]
