"""Clones from a real HTTPS server: who sees the token, and who does not.

The image sets traps, as a careless one might, and trusts the authority of the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from testbed.agentd_client import HOLD, Ended, Record
from testbed.agentd_process import Agentd, Table
from testbed.git_daemon import GitDaemon
from testbed.git_https import Authority, GitHttps, Request, basic, bearer, git_https
from testbed.podman_service import PodmanService
from testbed.session_image import ensure_session_image
from tests.conftest import LONG

# The first long run on a machine makes an image of another Debian.
pytestmark = [pytest.mark.live, *([pytest.mark.timeout(900)] if LONG else [])]

TOKEN = "clone-7d1e5c0f9b3a4826"
SHOWN = {"basic": basic("x-access-token", TOKEN), "bearer": bearer(TOKEN)}
"""By scheme, what a server is to receive."""

TRACES = [TOKEN, SHOWN["basic"].removeprefix("Basic ")]
"""What nobody else may find: the token, and how it looks in a header."""


def holds_trace(text: str) -> bool:
    return any(trace in text for trace in TRACES)


TOKEN_AGENTS = [*SHOWN, *(f"{scheme}-trixie" for scheme in SHOWN if LONG)]
"""One for each scheme, and for each again with a git whose helpers take bearer tokens."""

PIPED = [agent for agent in TOKEN_AGENTS if agent != "bearer"]
"""Those whose git gets the token through a pipe."""

AGENTS = pytest.mark.parametrize("agent", TOKEN_AGENTS)


def scheme(agent: str) -> str:
    return agent.partition("-")[0]


def suite(agent: str) -> str:
    return agent.partition("-")[2] or "bookworm"


# --- an image with traps --------------------------------------------------------------------------

SPY = """\
#!/bin/sh
{ id -u; env; cat <&3; cat /proc/[0-9]*/environ | tr '\\0' '\\n'; } >/tmp/spied 2>/dev/null
exec cat
"""
MISER = '#!/bin/sh\n{ echo "$@"; cat; } >>/tmp/kept\nprintf "username=image\\npassword=image\\n"\n'
ASKED = "#!/bin/sh\necho image\n"
HOOK = "#!/bin/sh\ntouch /tmp/hooked\n"
SYSTEM = """\
[http]
    sslCAInfo = /etc/testbed-authority.pem
[filter "lfs"]
    smudge = /usr/local/bin/spy
    required = true
[credential]
    helper = /usr/local/bin/miser
[credential "https://127.0.0.1"]
    helper = /usr/local/bin/miser
[core]
    hooksPath = /etc/testbed-hooks
"""
STEERED = '[http]\n    extraHeader = "X-Steered: yes"\n'
NETRC = "machine 127.0.0.1 login image password image\n"
VARIABLES = (
    "ENV GIT_SSL_NO_VERIFY=1",
    "ENV GIT_CONFIG_COUNT=1",
    "ENV GIT_CONFIG_KEY_0=http.extraHeader",
    'ENV GIT_CONFIG_VALUE_0="X-Steered: yes"',
    "ENV GIT_TRACE_CURL=/tmp/traced",
    "ENV GIT_TRACE_REDACT=0",
    "ENV SSH_ASKPASS=/usr/local/bin/asked",
    "ENV XDG_CONFIG_HOME=/etc/testbed-xdg",
)
PROGRAMS = {
    "usr/local/bin/spy": SPY,
    "usr/local/bin/miser": MISER,
    "usr/local/bin/asked": ASKED,
    "etc/testbed-hooks/post-checkout": HOOK,
}
FILES = {"etc/gitconfig": SYSTEM, "etc/testbed-xdg/git/config": STEERED}
HOMES = ("root", *(f"home/{agent}" for agent in (*TOKEN_AGENTS, "unset", "empty")))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def images(
    podman: PodmanService,
    session_image: str,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """The image with traps, by the Debian that it is made of."""
    tree = tmp_path_factory.mktemp("image")
    own = {".netrc": NETRC, ".gitconfig": STEERED}
    homes = {f"{home}/{name}": text for home in HOMES for name, text in own.items()}
    trust = {"etc/testbed-authority.pem": authority.certificate.read_text()}
    for path, text in {**PROGRAMS, **FILES, **homes, **trust}.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755 if path in PROGRAMS else 0o644)
    bases = {"bookworm": session_image}
    if LONG:
        bases["trixie"] = ensure_session_image(podman, "localhost/agentd-session:trixie", "trixie")
    return {suite: trapped(podman, base, suite, tree) for suite, base in bases.items()}


def trapped(podman: PodmanService, base: str, tag: str, tree: Path) -> str:
    name, container = f"localhost/agentd-private-clones:{tag}", "agentd-testbed-private-clones"
    podman.podman("create", "--name", container, base, "true")
    podman.podman("cp", f"{tree}/.", f"{container}:/")
    changes = (word for variable in VARIABLES for word in ("--change", variable))
    podman.podman("commit", "--quiet", *changes, container, name)
    podman.podman("rm", container)
    return name


# --- servers --------------------------------------------------------------------------------------


@dataclass
class Servers:
    """One server a way to meet the token."""

    private: Mapping[str, GitHttps]
    """By scheme, one that lets only the token in."""
    rival: GitHttps
    """Another host, which gives its repositories to everybody."""
    asking: GitHttps
    """Another host, which wants to be told who comes."""
    expired: GitHttps
    """One whose certificate is out of date."""
    strange: GitHttps
    """One whose certificate is from an authority that the image does not know."""


@pytest.fixture(scope="module")
def servers(
    git_server: GitDaemon, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    base = git_server.base
    valid = authority.issue("valid")
    unknown = Authority(tmp_path_factory.mktemp("unknown")).issue("unknown")
    with ExitStack() as stack:
        serve = stack.enter_context
        yield Servers(
            {scheme: serve(git_https(base, valid, shown)) for scheme, shown in SHOWN.items()},
            rival=serve(git_https(base, valid)),
            asking=serve(git_https(base, valid, basic("somebody", "else"))),
            expired=serve(git_https(base, authority.issue("expired", expired=True))),
            strange=serve(git_https(base, unknown)),
        )


@pytest.fixture(scope="module")
def hostile(git_server: GitDaemon, servers: Servers) -> str:
    """A repository that asks for whatever git might run or fetch by itself."""
    name = "hostile.git"
    git_server.add_repository(
        name,
        {
            "index.html": "<h1>Private</h1>\n",
            ".gitattributes": "*.html filter=lfs diff=lfs merge=lfs\n",
            ".gitconfig": STEERED,
            ".lfsconfig": f"[lfs]\n\turl = {servers.rival.url('lfs')}\n",
            "hooks/post-checkout": HOOK,
        },
        submodules={"module": servers.rival.url("module.git")},
    )
    return name


@pytest.fixture(scope="module")
def public(git_server: GitDaemon) -> Callable[[str], str]:
    """Makes a harmless repository of a name, if there is none."""

    def public(name: str) -> str:
        if not (git_server.base / name).exists():
            git_server.add_repository(name, {"index.html": "<h1>Public</h1>\n"})
        return name

    return public


# --- sessions -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd],
    declare: Callable[..., Table],
    images: Mapping[str, str],
    servers: Servers,
    hostile: str,
) -> Agentd:
    def private(
        name: str, like: str, server: GitHttps | None = None, source: str = "TOKEN"
    ) -> Table:
        """An agent with the scheme and the image of a token agent."""
        return declare(
            name,
            base_image=images[suite(like)],
            repo=(server or servers.private[scheme(like)]).url(hostile),
            repo_token_source=f"AGENTD_TEST_{source}",
            repo_token={"scheme": scheme(like)},
        )

    return start_agentd(
        *(private(agent, agent) for agent in TOKEN_AGENTS),
        *(private(f"wrong-{agent}", agent, source="WRONG") for agent in TOKEN_AGENTS),
        private("expired", "bearer", servers.expired),
        private("strange", "bearer", servers.strange),
        private("unset", "basic", servers.rival, "UNSET"),
        private("empty", "bearer", servers.rival, "EMPTY"),
        environ={
            "AGENTD_TEST_TOKEN": TOKEN,
            "AGENTD_TEST_WRONG": f"{TOKEN}-wrong",
            "AGENTD_TEST_EMPTY": "",
        },
    )


@pytest.fixture(scope="module")
def run(agentd: Agentd) -> Callable[..., Ended]:
    """The end of a session of an agent, of its own repository or another; run once."""
    ended: dict[tuple[str, ...], Ended] = {}

    def run(*args: str) -> Ended:
        if args not in ended:
            ended[args] = agentd.run(*args, "--work-unit", "cat index.html")
        return ended[args]

    return run


# What an agent finds of its clone, each in a file of the record.
LOOK = """\
git config --list --show-scope >.runa/git-config
cp index.html .runa/page
ls -A module >.runa/module
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >.runa/processes 2>/dev/null || true
cp /tmp/spied .runa/spied
ls /tmp >.runa/temporary
"""


@dataclass
class Cloned:
    """A session that has its clone and waits."""

    agentd: Agentd
    server: GitHttps
    url: str
    container: str
    record: Record
    requests: list[Request]
    processes: list[tuple[str, str]]
    """Command line and environment of the setup's processes, as they were at each request."""

    def sh(self, script: str, *args: str) -> str:
        """What a script prints that root runs in the container."""
        words = ("exec", "--user", "0", self.container, "sh", "-c", script, "sh", *args)
        return self.agentd.podman.podman(*words)


def processes_about(text: str) -> Iterator[tuple[str, str]]:
    """Command line and environment of all processes of the machine that were told a text."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = os.fsdecode((process / "cmdline").read_bytes())
            if text in command:
                yield command, os.fsdecode((process / "environ").read_bytes())


@pytest.fixture(scope="module")
def cloned(agentd: Agentd, servers: Servers, hostile: str) -> Iterator[Callable[[str], Cloned]]:
    """The session that has cloned by a scheme, still there."""
    with ExitStack() as stack:
        sessions: dict[str, Cloned] = {}

        def start(agent: str) -> Cloned:
            server = servers.private[scheme(agent)]
            url, before = server.url(hostile), len(server.requests)
            processes: list[tuple[str, str]] = []
            server.observer = lambda _: processes.extend(processes_about(url))
            client = agentd.script(LOOK + HOLD, agent)
            client.wait_for_line("ready")
            server.observer = None
            stack.callback(client.wait)
            stack.callback(client.record.release)
            (container,) = (each for each in agentd.containers() if client.session_id in each)
            requests = server.requests[before:]
            return Cloned(agentd, server, url, container, client.record, requests, processes)

        def cloned(agent: str) -> Cloned:
            if agent not in sessions:
                sessions[agent] = start(agent)
            return sessions[agent]

        yield cloned


# --- a clone that succeeds ------------------------------------------------------------------------


@pytest.mark.contract("DSP-07", "ENV-18", "F-13")
@AGENTS
def test_the_token_opens_a_private_repository(cloned: Callable[[str], Cloned], agent: str) -> None:
    assert cloned(agent).record.read("page") == "<h1>Private</h1>\n"


@pytest.mark.contract("DSP-07", "ENV-19", "F-13", "F-14")
@AGENTS
def test_the_server_receives_the_token_in_its_scheme_and_nothing_of_the_image(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    requests = cloned(agent).requests
    assert {request.authorization for request in requests} - {None} == {SHOWN[scheme(agent)]}
    assert [request for request in requests if "X-Steered" in request.headers] == []


@pytest.mark.contract("ENV-19", "SES-09")
@AGENTS
def test_no_command_line_shows_the_token_while_git_clones(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    commands = [command for command, _ in cloned(agent).processes]
    assert [command for command in commands if "remote-https" in command]
    assert [command for command in commands if holds_trace(command)] == []


@pytest.mark.contract("ENV-19")
@pytest.mark.parametrize("agent", PIPED)
def test_no_environment_shows_a_token_that_goes_through_a_pipe(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    environments = [environment for _, environment in cloned(agent).processes]
    assert [environment for environment in environments if "GIT_ALLOW_PROTOCOL" in environment]
    assert [environment for environment in environments if holds_trace(environment)] == []


# What reads the files of a container as root: those with one of the traces, and the credentials.
SEARCH = """\
find / '(' -path /proc -o -path /sys -o -path /dev ')' -prune -o -type f \
    -exec grep -slF -e "$1" -e "$2" '{}' + || true
cat /agentd/credentials/*
"""


@pytest.mark.contract("ENV-21", "F-23", "SES-19")
@AGENTS
def test_no_file_of_the_container_holds_the_token(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    """The clone, the mounted credential, and what the image's traps would keep, included."""
    assert cloned(agent).sh(SEARCH, *TRACES) == ""


@pytest.mark.contract("ENV-20", "ENV-21")
@AGENTS
def test_the_clone_is_configured_for_nothing_but_its_origin(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    lines = cloned(agent).record.read("git-config").splitlines()
    own = [line.split("\t")[1] for line in lines if line.startswith(("local\t", "worktree\t"))]
    assert f"remote.origin.url={cloned(agent).url}" in own
    assert [line for line in own if line.startswith(("credential.", "http."))] == []


@pytest.mark.contract("DSP-07", "ENV-21", "F-23")
@AGENTS
def test_no_process_that_the_agent_can_look_at_has_the_token(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    processes = cloned(agent).record.read("processes")
    assert "AGENT_NAME=" in processes
    assert not holds_trace(processes)


@pytest.mark.contract("ENV-21", "SES-09")
@AGENTS
def test_the_first_process_and_podman_do_not_show_the_token(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    session = cloned(agent)
    shown = session.sh("cat /proc/1/environ /proc/1/cmdline")
    assert session.url in shown
    assert not holds_trace(shown + session.agentd.podman.podman("inspect", session.container))


@pytest.mark.contract("ENV-21")
@AGENTS
def test_no_file_of_the_record_holds_the_token(cloned: Callable[[str], Cloned], agent: str) -> None:
    files = [path for path in cloned(agent).record.directory.rglob("*") if path.is_file()]
    assert [path for path in files if holds_trace(path.read_text(errors="replace"))] == []


@pytest.mark.contract("F-15")
@AGENTS
def test_a_filter_that_the_repository_chooses_is_not_root_and_finds_no_token(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    spied = cloned(agent).record.read("spied")
    assert spied.startswith("10001\n")
    assert "GIT_ALLOW_PROTOCOL=https\n" in spied
    assert not holds_trace(spied)


@pytest.mark.contract("F-15")
@AGENTS
def test_neither_hook_nor_helper_nor_trace_of_the_image_takes_part(
    cloned: Callable[[str], Cloned], agent: str
) -> None:
    assert {"hooked", "kept", "traced"} & set(
        cloned(agent).record.read("temporary").split()
    ) == set()


@pytest.mark.contract("F-14")
@AGENTS
def test_a_submodule_is_not_cloned_and_its_host_hears_nothing(
    cloned: Callable[[str], Cloned], servers: Servers, agent: str
) -> None:
    assert cloned(agent).record.read("module") == ""
    assert servers.rival.received("module.git") + servers.rival.received("lfs") == []


@pytest.mark.contract("DSP-08", "ENV-20")
@pytest.mark.parametrize("agent", ["unset", "empty"])
def test_without_a_token_a_public_repository_is_cloned_as_nobody(
    run: Callable[..., Ended], servers: Servers, public: Callable[[str], str], agent: str
) -> None:
    ended = run(agent, servers.rival.url(public(f"{agent}.git")))
    requests = servers.rival.received(f"{agent}.git")
    assert (ended.code, "<h1>Public</h1>" in ended.stdout) == (0, True), ended
    assert {request.authorization for request in requests} == {None}
    assert [request for request in requests if "X-Steered" in request.headers] == []


# --- a clone that fails ---------------------------------------------------------------------------


FAILING = {
    **{f"wrong-{agent}": "Authentication failed" for agent in PIPED},
    "wrong-bearer": "terminal prompts disabled",
    "expired": "certificate",
    "strange": "certificate",
}


@pytest.mark.contract("ENV-12", "ENV-18", "F-28")
@pytest.mark.parametrize("agent", FAILING)
def test_a_clone_that_fails_says_why(run: Callable[..., Ended], agent: str) -> None:
    ended = run(agent)
    assert (ended.code, FAILING[agent] in ended.stderr) == (6, True), ended
    assert "agentd: setup step 'clone' failed: status 128\n" in ended.stderr


@pytest.mark.contract("ENV-21")
@pytest.mark.parametrize("agent", FAILING)
def test_a_clone_that_fails_does_not_tell_the_token(run: Callable[..., Ended], agent: str) -> None:
    ended = run(agent)
    files = [path for path in ended.record.directory.rglob("*") if path.is_file()]
    written = [path.read_text(errors="replace") for path in files]
    assert not holds_trace("".join((ended.stdout, ended.stderr, *written)))


@pytest.mark.contract("ENV-19")
@pytest.mark.parametrize("agent", ["expired", "strange"])
def test_a_server_without_a_good_certificate_receives_nothing(
    run: Callable[..., Ended], servers: Servers, agent: str
) -> None:
    server: GitHttps = getattr(servers, agent)
    assert (run(agent).code, server.requests) == (6, [])


# --- other hosts ----------------------------------------------------------------------------------


# How the token is shown, when its host redirects, and to whom: one that gives, or one that asks.
LURES = [
    (agent, *lure)
    for agent in TOKEN_AGENTS
    for lure in (("at once", "asking"), ("once authorized", "rival"))
]
if LONG:
    LURES = list(product(TOKEN_AGENTS, ("at once", "once authorized"), ("asking", "rival")))


@pytest.mark.contract("F-14", "ENV-19")
@pytest.mark.parametrize("lure", LURES, ids="-".join)
def test_a_redirect_does_not_carry_the_token_to_another_host(
    run: Callable[..., Ended],
    servers: Servers,
    public: Callable[[str], str],
    lure: tuple[str, str, str],
) -> None:
    agent, when, other = lure
    home, away = servers.private[scheme(agent)], getattr(servers, other)
    name = public(f"{'-'.join(lure).replace(' ', '-')}.git")
    run(agent, home.redirect(name, away.url(name), guarded=when == "once authorized"))
    assert home.received(name)
    assert [request for request in away.received(name) if request.authorization] == []
    assert [request for request in away.requests if holds_trace(str(request.headers))] == []


@pytest.mark.contract("ENV-18", "F-13")
@pytest.mark.parametrize("agent", PIPED)
def test_a_renamed_repository_is_found_at_its_new_name(
    run: Callable[..., Ended], servers: Servers, public: Callable[[str], str], agent: str
) -> None:
    server = servers.private[scheme(agent)]
    old = server.redirect(f"{agent}-old.git", server.url(public("new.git")))
    assert "<h1>Public</h1>" in run(agent, old).stdout


@pytest.mark.contract("DSP-14", "DSP-15", "DSP-16")
@AGENTS
def test_a_repository_on_another_origin_is_refused_before_anything_exists(
    agentd: Agentd, servers: Servers, agent: str
) -> None:
    before = agentd.records(), agentd.containers()
    ended = agentd.run(agent, servers.rival.url("refused.git"))
    assert (ended.code, "clone token is for" in ended.stderr) == (2, True), ended
    assert (agentd.records(), agentd.containers()) == before
    assert servers.rival.received("refused.git") == []
