"""What an agent finds around itself, seen by one session in an image that sets traps."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.agentd_client import Record
from testbed.agentd_process import Agentd, Table
from testbed.podman_service import PodmanService
from testbed.session_image import derive_image

pytestmark = pytest.mark.live

# What an image may set, and what a session must not believe.
TRAPS = (
    "ENV AGENTD_REPO_TOKEN=baked-in",
    "ENV AGENTD_WORK_UNIT=baked-in",
    "ENV AGENT_NAME=baked-in",
    "ENV GIT_DIR=/nowhere",
    "ENV GIT_CONFIG_COUNT=1",
    "ENV GIT_SSL_NO_VERIFY=1",
    "ENV HOME=/nowhere",
    "ENV FROM_THE_IMAGE=yes",
    'ENTRYPOINT ["/bin/false"]',
    "USER games",
    "WORKDIR /var",
)

# Each line makes one file of the record.
LOOK = """\
/usr/bin/env -0 >.runa/environment
{ pwd; id -u; id -g; id -un; } >.runa/identity
cat /proc/self/status >.runa/status
readlink .runa >.runa/link
readlink /proc/self/fd/0 >.runa/stdin
cat /proc/1/comm >.runa/first-process
find "$HOME" ! -user worker >.runa/not-mine
git config --list --show-scope >.runa/git-config
git status --porcelain >.runa/git-status
ls -A .git/hooks >.runa/hooks 2>&1 || true
ls -A "$HOME/.agentd/audit" >.runa/audit
ls -A /agentd >.runa/agentd
touch "$HOME/new" new && echo writable >.runa/writable
touch /agentd/methodology/new 2>.runa/methodology || true
"""


# An image whose files are not as Debian makes them. A last line without a newline, a uid that is
# taken, no files of passwords, a user of the agent's name, and a home that is not empty.
ODDITIES = """\
ln -sf bash /bin/sh
rm /etc/shadow /etc/gshadow
echo 'touch /profile-was-read' | tee -a /etc/profile >/root/.profile
mkdir -p /home/oddball/repo/.runa /home/oddball/tools
echo stale >/home/oddball/repo/stale
echo important >/etc/important
ln -s /etc/important /home/oddball/link
printf 'oddball:x:77:77::/nowhere:/bin/false\ntaken:x:10001:10001::/taken:/bin/sh' >>/etc/passwd
printf 'oddball:x:77:\ntaken:x:10001:oddball' >>/etc/group
"""


@pytest.fixture(scope="module")
def trapped_image(podman: PodmanService, session_image: str) -> str:
    return derive_image(podman, "trapped", session_image, changes=TRAPS)


@pytest.fixture(scope="module")
def odd_image(podman: PodmanService, session_image: str) -> str:
    changes = ("ENV user=image", "ENV secret=image", "ENV OLDPWD=/image")
    return derive_image(podman, "odd", session_image, ODDITIES, changes)


@pytest.fixture(scope="module")
def full_image(podman: PodmanService, odd_image: str) -> str:
    """Its own variables leave little room for those of a session."""
    name = "localhost/agentd-session:full"
    # Not by lines of a Containerfile: Podman 5 takes half a minute for each that is so long.
    variables = [f"--env=IMAGE_{index}={'x' * 100_000}" for index in range(12)]
    container = podman.podman("create", *variables, odd_image).strip()
    podman.podman("commit", "--quiet", container, name)
    podman.podman("rm", container)
    return name


# As much as agentd lets pass; only the image's own can make it too much.
LARGE_VALUE = "x" * 120_000
LARGE = {
    "environment": {f"V{index}": LARGE_VALUE for index in range(6)},
    "credentials": [{"name": f"C{index}", "source": "AGENTD_TEST_LARGE"} for index in range(8)],
}


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    trapped_image: str,
    odd_image: str,
    full_image: str,
) -> Agentd:
    plain = {"CI": "1", "GREETING": "it's ünicode; $HOME"}
    seen = "echo ${AGENTD_WORK_UNIT-unset} ${AGENTD_REPO_TOKEN-unset}"
    return start_agentd(
        declare(base_image=trapped_image, environment=plain),
        declare("unitless", base_image=trapped_image, command={"argv": ["sh", "-c", seen]}),
        declare("oddball", base_image=odd_image),
        declare("large", base_image=odd_image, **LARGE),
        declare("too-large", base_image=full_image, credentials=LARGE["credentials"]),
        environ={"AGENTD_TEST_LARGE": LARGE_VALUE},
    )


@pytest.fixture(scope="module")
def seen(agentd: Agentd) -> Record:
    ended = agentd.script(LOOK).wait()
    assert ended.code == 0, ended
    return ended.record


@pytest.fixture(scope="module")
def environ(seen: Record) -> dict[str, str]:
    return dict(line.split("=", 1) for line in seen.read("environment").split("\0") if line)


@pytest.fixture(scope="module")
def status(seen: Record) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in seen.read("status").splitlines())
    return {key: text.strip() for key, text in pairs}


@pytest.mark.contract("ENV-04")
def test_the_agent_knows_its_name(environ: dict[str, str]) -> None:
    assert environ["AGENT_NAME"] == "worker"


@pytest.mark.contract("ENV-02")
def test_home_is_the_agents_own(environ: dict[str, str]) -> None:
    assert environ["HOME"] == "/home/worker"


@pytest.mark.contract("F-23", "ENV-21")
def test_nothing_of_agentd_or_git_is_in_the_environment(environ: dict[str, str]) -> None:
    ours = {name for name in environ if name.startswith(("AGENTD_", "GIT_"))}
    assert ours == {"AGENTD_WORK_UNIT"}


@pytest.mark.contract("ENV-07", "F-23")
def test_what_the_image_says_of_a_work_unit_does_not_count(agentd: Agentd) -> None:
    assert "unset unset\n" in agentd.run("unitless").stdout


@pytest.mark.parametrize(("name", "value"), [("CI", "1"), ("GREETING", "it's ünicode; $HOME")])
def test_plain_variables_of_the_configuration_are_set(
    environ: dict[str, str], name: str, value: str
) -> None:
    assert environ[name] == value


def test_variables_of_the_image_stay(environ: dict[str, str]) -> None:
    assert environ["FROM_THE_IMAGE"] == "yes"


@pytest.mark.contract("DSP-06")
def test_nothing_of_the_daemons_environment_is_passed_on(environ: dict[str, str]) -> None:
    assert {"XDG_RUNTIME_DIR", "CONTAINER_HOST"} & set(environ) == set()


@pytest.mark.contract("ENV-01", "ENV-03", "ENV-13", "SES-16")
def test_the_agent_is_an_unprivileged_user_in_its_clone(seen: Record) -> None:
    identity = seen.read("identity").splitlines()
    assert identity == ["/home/worker/repo", "10001", "10001", "worker"]


@pytest.mark.contract("F-24")
@pytest.mark.parametrize("kind", ["CapEff", "CapPrm", "CapAmb"])
def test_the_agent_has_no_capability(status: dict[str, str], kind: str) -> None:
    assert int(status[kind], 16) == 0


@pytest.mark.contract("F-24")
def test_the_agent_gains_no_privileges(status: dict[str, str]) -> None:
    assert status["NoNewPrivs"] == "1"


def test_the_agent_is_under_seccomp(status: dict[str, str]) -> None:
    assert status["Seccomp"] == "2"


def test_an_init_process_looks_after_orphans(seen: Record) -> None:
    assert seen.read("first-process") == "podman-init\n"


def test_standard_input_is_empty(seen: Record) -> None:
    assert seen.read("stdin") == "/dev/null\n"


@pytest.mark.contract("ENV-10")
def test_runas_state_is_a_link_into_the_record(seen: Record) -> None:
    assert seen.read("link") == "/home/worker/.agentd/audit/runa\n"


@pytest.mark.contract("ENV-03", "ENV-15", "ENV-22")
def test_all_of_home_belongs_to_the_agent_but_the_way_to_the_record(seen: Record) -> None:
    assert seen.read("not-mine") == ""


@pytest.mark.contract("ENV-02", "ENV-03")
def test_home_and_clone_are_writable(seen: Record) -> None:
    assert seen.read("writable") == "writable\n"


@pytest.mark.contract("ENV-08")
def test_the_methodology_is_read_only(seen: Record) -> None:
    assert "Read-only file system" in seen.read("methodology")


@pytest.mark.contract("ENV-09")
def test_without_input_there_is_no_mount_for_it(seen: Record) -> None:
    assert "invocation-input" not in seen.read("agentd").split()


@pytest.mark.contract("AUD-03", "ENV-14")
def test_agentds_part_of_the_record_is_out_of_reach(seen: Record) -> None:
    assert seen.read("audit") == "runa\n"


@pytest.mark.contract("ENV-21", "ENV-20")
def test_the_clone_is_configured_for_nothing_but_its_origin(seen: Record, repository: str) -> None:
    lines = [line.split("\t") for line in seen.read("git-config").splitlines()]
    local = {line.split("=", 1)[0]: line.split("=", 1)[1] for scope, line in lines}
    assert {scope for scope, _ in lines} == {"local"}
    assert local["remote.origin.url"] == repository
    assert not [key for key in local if key.startswith(("credential.", "http."))]


def test_the_clone_is_unchanged(seen: Record) -> None:
    """But for runa's state, which is agentd's."""
    assert set(seen.read("git-status").splitlines()) <= {"?? .runa"}


@pytest.mark.contract("F-15")
def test_no_hook_of_the_image_is_in_the_clone(seen: Record) -> None:
    assert "No such file" in seen.read("hooks")


@pytest.mark.contract("ENV-24", "B-06")
def test_agentd_adds_nothing_to_runas_configuration(seen: Record) -> None:
    expected = 'methodology_path = "/agentd/methodology/manifest.toml"\n'
    assert seen.read("config.toml") == expected


# --- an odd image, whose sh is bash --------------------------------------------------------------


LOOK_AT_ODDITIES = """\
/usr/bin/env -0 >.runa/environment
{ id -un; id -u; id -gn; id -g; id -Gn; whoami; } >.runa/identity
getent passwd taken 10001 | cut -d: -f1 >.runa/users
stat -c '%n %U' "$HOME" "$HOME/tools" "$HOME/link" /etc/important >.runa/owners
ls -A "$HOME/repo" >.runa/repo
ls /profile-was-read >.runa/profile 2>&1 || true
"""


@pytest.fixture(scope="module")
def oddities(agentd: Agentd) -> Record:
    ended = agentd.script(LOOK_AT_ODDITIES, "oddball").wait()
    assert ended.code == 0, ended
    return ended.record


@pytest.mark.contract("ENV-01", "ENV-13", "F-44")
def test_the_agent_has_its_name_where_its_uid_has_another(oddities: Record) -> None:
    names = ["oddball", "10001", "oddball", "10001", "oddball", "oddball"]
    assert oddities.read("identity").splitlines() == names


@pytest.mark.contract("ENV-13")
def test_no_user_of_the_image_is_lost(oddities: Record) -> None:
    assert oddities.read("users").splitlines() == ["taken", "oddball"]


@pytest.mark.contract("ENV-15", "ENV-02")
def test_what_the_image_has_in_home_is_the_agents_and_what_it_links_to_is_not(
    oddities: Record,
) -> None:
    assert oddities.read("owners").splitlines() == [
        *("/home/oddball oddball", "/home/oddball/tools oddball", "/home/oddball/link oddball"),
        "/etc/important root",
    ]


@pytest.mark.contract("ENV-30", "F-15")
def test_no_profile_of_the_image_is_read(oddities: Record) -> None:
    assert "No such file" in oddities.read("profile")


@pytest.mark.contract("ENV-18")
def test_what_the_image_has_in_place_of_the_clone_is_gone(oddities: Record) -> None:
    assert sorted(oddities.read("repo").splitlines()) == [".git", ".runa", "index.html"]


@pytest.mark.contract("ENV-04", "ENV-07", "ENV-21", "DSP-06", "F-23")
def test_the_environment_is_the_images_and_the_sessions_and_nothing_else(
    environ: dict[str, str], oddities: Record
) -> None:
    ours = {"AGENT_NAME", "AGENTD_WORK_UNIT", "HOME"}
    # Podman's, and one that the Python of the stand-in runa adds.
    of_others = {"HOSTNAME", "PATH", "container", "LC_CTYPE"}
    of_podman_4 = {"TERM"}
    plain = {"CI", "GREETING", "FROM_THE_IMAGE"}
    assert set(environ) - of_podman_4 == ours | of_others | plain | {"PWD"}
    odd = {entry.split("=", 1)[0] for entry in oddities.read("environment").split("\0") if entry}
    assert odd - of_podman_4 == ours | of_others | {"PWD", "SHLVL", "_"}


@pytest.mark.contract("F-11", "F-28")
def test_what_agentd_lets_pass_can_be_started(agentd: Agentd) -> None:
    ended = agentd.script('echo "$((${#C0} + ${#C7} + ${#V0} + ${#V5}))"', "large").wait()
    assert (ended.code, "\n480000\n" in ended.stdout) == (0, True), ended


@pytest.mark.contract("F-28", "ENV-12")
def test_an_agent_that_cannot_be_started_is_a_failure_of_the_setup(agentd: Agentd) -> None:
    """By itself this shell ends with 126, which would pass for the agent's own code."""
    ended = agentd.script("echo the agent has started", "too-large").wait()
    line = "agentd: setup step 'start' failed: gosu cannot start a program"
    assert (ended.code, line in ended.stderr) == (6, True), ended
    assert ended.record.facts["outcome"] == "infrastructure_failure"
