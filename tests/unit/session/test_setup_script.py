"""`setup.sh` itself, run by real shells on stand-ins for the image's tools.

The script's absolute places are moved below a temporary directory; nothing else of it is changed.
What the real tools do with it is shown by the tests on real Podman.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest

from agentd import config
from agentd.methodology import Document
from agentd.session.invocation import Invocation, RepoToken, Variable
from agentd.session.setup import setup_arguments, setup_script
from tests.unit.builders import URL, agent, credentials, invocation

REAL_TOOLS = ("cat", "cp", "env", "ln", "mkdir", "rm", "find")
STAND_INS = ("chown", "git", "gosu", "groupadd", "runa", "useradd")
SECONDS = 30.0
COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Notes how it was called: an object a line in the file `calls` beside it. A file `<tool>.status`
# makes the tool fail, a file `<tool>.<word>.status` one call of it; a FIFO `git.hangs` makes a
# clone hang; a file `<tool>.breaks` makes the call about `init` the last that works, a file
# `<tool>.fails` the call about `run` fail.
STAND_IN = """\
#!{python} -IS
import json, os, sys
here = os.path.dirname(os.path.abspath(__file__))
tool, words = os.path.basename(__file__), sys.argv[1:]
def text(raw):
    return raw.decode("utf-8", "surrogateescape")
call = {{
    "tool": tool, "argv": words, "cwd": os.getcwd(),
    "env": {{text(key): text(value) for key, value in os.environb.items()}},
}}
if tool == "git" and "clone" in words:
    try:
        call["pipe"] = text(os.read(3, 1 << 20))
    except OSError:
        call["pipe"] = None
with open(os.path.join(here, "calls"), "a") as file:
    file.write(json.dumps(call) + "\\n")
for name in (tool + ".status", *("%s.%s.status" % (tool, word.strip("-")) for word in words[:1])):
    if os.path.exists(os.path.join(here, name)):
        sys.exit(int(open(os.path.join(here, name)).read()))
if "init" in words and os.path.exists(os.path.join(here, tool + ".breaks")):
    os.chmod(__file__, 0)
if "run" in words and os.path.exists(os.path.join(here, tool + ".fails")):
    sys.exit(1)
if tool == "git" and "clone" in words:
    if os.path.exists(os.path.join(here, "git.hangs")):
        open(os.path.join(here, "git.hangs")).read()
    os.makedirs(words[-1])
if tool == "git" and words[-2:] == ["credential", "capability"]:
    print({capability!r})
if tool == "git" and "rev-parse" in words:
    print({commit!r})
if tool == "gosu":
    os.execvp(words[1], words[1:])
"""


def shells() -> list[str]:
    # Busybox would use tools of its own instead of the stand-ins.
    return [name for name in ("dash", "bash") if shutil.which(name)]


class Machine:
    """A session container's file system, as far as the setup looks at it."""

    def __init__(self, root: Path, shell: str, capability: str = "") -> None:
        self.root = root
        self.tools = root / "tools"
        self.tools.mkdir()
        for name in REAL_TOOLS:
            found = shutil.which(name)
            assert found is not None
            (self.tools / name).symlink_to(found)
        for name in STAND_INS:
            stand_in = self.tools / name
            facts = {"python": sys.executable, "commit": COMMIT, "capability": capability}
            stand_in.write_text(STAND_IN.format(**facts))
            stand_in.chmod(0o755)
        (root / "etc").mkdir()
        for name in ("passwd", "group"):
            (root / "etc" / name).write_text("root:x:0:0\nbuilder:x:5:5\nbuilder2:x:6:6\n")
        (root / "home/builder").mkdir(parents=True)
        (root / "agentd/credentials").mkdir(parents=True)
        (root / "agentd/invocation-input").mkdir()
        (root / "agentd/invocation-input/document.json").write_bytes(b'{"id": 1}')
        # bash behaves as sh when it is called so.
        self.sh = root / "sh"
        found = shutil.which(shell)
        assert found is not None
        self.sh.symlink_to(found)

    @property
    def repo(self) -> Path:
        return self.root / "home/builder/repo"

    def moved(self, text: str) -> str:
        for place in ("/home/", "/etc/", "/agentd/"):
            text = text.replace(place, f"{self.root}{place}")
        return text

    def fail(self, tool: str, status: int) -> None:
        (self.tools / f"{tool}.status").write_text(str(status))

    def command(self, invoked: Invocation, document: Document | None = None) -> list[str]:
        """The setup's command line; its files are put where it looks for them."""
        for index, variable in enumerate(invoked.credentials):
            (self.root / f"agentd/credentials/{index}").write_bytes(variable.value)
        if invoked.repo_token is not None:
            token = self.root / "agentd/credentials/repo-token"
            token.write_bytes(invoked.repo_token.value)
        words = [
            self.moved(word) if word.startswith(("/agentd/", "/home/")) else word
            for word in setup_arguments(invoked, document)
        ]
        return [str(self.sh), "-c", self.moved(setup_script()), "agentd", *words]

    def run(
        self,
        given: Invocation | None = None,
        document: Document | None = None,
        environ: Mapping[str, str] | None = None,
        stack_kib: int | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the setup; of the stack's size, a quarter is what one exec takes."""
        command = self.command(given or invocation(), document)
        if stack_kib is not None:
            limit = ["/bin/sh", "-c", 'ulimit -s "$1"; shift; exec "$@"', "sh", str(stack_kib)]
            command = [*limit, *command]
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            env={"PATH": str(self.tools), **(environ or {})},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS,
        )

    def calls(self, tool: str | None = None) -> list[dict[str, Any]]:
        lines = (self.tools / "calls").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [call for call in found if tool in {None, call["tool"]}]

    def clone(self) -> dict[str, Any]:
        return next(call for call in self.calls("git") if "clone" in call["argv"])

    def last(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The last call of a setup that went well: what the container has become."""
        done = self.run(*args, **kwargs)
        assert done.returncode == 0, done.stderr
        return self.calls()[-1]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, "sh")


@pytest.fixture(params=shells())
def every_shell(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """For what shells are known to differ in."""
    return Machine(tmp_path, request.param)


def failure(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a setup that failed."""
    assert done.returncode == 6, done
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


# --- what it becomes -----------------------------------------------------------------------------


@pytest.mark.contract("ENV-26", "ENV-28", "CFG-10")
def test_it_becomes_runa_with_the_agents_own_words(every_shell: Machine) -> None:
    hostile = ("work", "", "a b", "$(x)", "'", '"', "*", "\n", "--", "-n", "ü\\")
    given = invocation(agent=agent(command=config.Command(hostile)))
    last = every_shell.last(given)
    assert last["tool"] == "runa"
    assert last["argv"] == ["run", "--agent-command", "--", *hostile]
    assert last["cwd"] == str(every_shell.repo)


@pytest.mark.contract("ENV-26", "ENV-29")
def test_gosu_and_runa_are_started_by_their_absolute_paths(machine: Machine) -> None:
    machine.last()
    words = machine.calls("gosu")[-1]["argv"]
    assert words[:2] == ["builder:builder", str(machine.tools / "runa")]


@pytest.mark.contract("ENV-06", "ENV-27")
def test_a_work_unit_is_told_twice(machine: Machine) -> None:
    last = machine.last(invocation(work_unit="a b;$(x)"))
    assert last["argv"][:3] == ["run", "--work-unit", "a b;$(x)"]
    assert last["env"]["AGENTD_WORK_UNIT"] == "a b;$(x)"


@pytest.mark.contract("ENV-07", "F-23")
def test_what_the_image_sets_does_not_pass_for_agentds_own(every_shell: Machine) -> None:
    image = {
        "AGENTD_WORK_UNIT": "stale",
        "AGENTD_REPO_TOKEN": "baked in",
        "AGENT_NAME": "another",
        "GIT_DIR": "/x",
        "GIT_CONFIG_COUNT": "1",
        "MULTI": "a\nGIT_FAKE=b\nAGENTD_X",
    }
    environ = every_shell.last(environ=image)["env"]
    assert environ["AGENT_NAME"] == "builder"
    assert environ["MULTI"] == image["MULTI"]
    assert not [name for name in environ if name.startswith(("AGENTD_", "GIT_"))]
    assert "GIT_DIR" not in every_shell.clone()["env"]


@pytest.mark.contract("ENV-04", "ENV-21", "DSP-06")
def test_the_agent_gets_only_its_own_variables_beside_the_images(machine: Machine) -> None:
    given = invocation(
        agent=agent(environment={"CI": "1"}),
        credentials=credentials(TOKEN=b"s3cret"),
        repo_token=RepoToken(b"t0ken", "bearer", "x", "https://git.example.org"),
    )
    environ = machine.last(given, environ={"IMAGE": "own"})["env"]
    of_shells_and_python = {"PWD", "SHLVL", "_", "LC_CTYPE"}
    assert {name: text for name, text in environ.items() if name not in of_shells_and_python} == {
        "PATH": str(machine.tools),
        "IMAGE": "own",
        "CI": "1",
        "TOKEN": "s3cret",
        "AGENT_NAME": "builder",
    }


@pytest.mark.contract("ENV-28", "F-22")
def test_the_images_variables_do_not_carry_those_of_the_setup(every_shell: Machine) -> None:
    """A variable that was exported once stays so, whatever is assigned to it."""
    pattern = r"(?:(?:^|[\s(])(?=[a-z_]+=)|\bfor |\bread -r )([a-z_]+)"
    names = set(re.findall(pattern, setup_script(), re.MULTILINE))
    given = invocation(repo_token=RepoToken(b"t0ken", "basic", "me", "https://h:8443"))
    every_shell.last(given, environ=dict.fromkeys(names, "of the image"))
    carried = {
        name: text
        for call in every_shell.calls()
        for name, text in call["env"].items()
        if name in names and text != "of the image"
    }
    assert {"secret", "user", "name", "variable"} <= names
    assert carried == {}


# --- credentials ---------------------------------------------------------------------------------


VALUES = (b"", b"x", b"two\nlines", b"end\n", b"\n\n", b"-n", b"\\c\\0", b"'\"$(x)", b"\xc3\xbc")


@pytest.mark.contract("ENV-05", "SES-08")
def test_values_arrive_byte_for_byte(every_shell: Machine) -> None:
    given = {f"C{index}": value for index, value in enumerate(VALUES)}
    environ = every_shell.last(invocation(credentials=credentials(**given)))["env"]
    assert {name: environ[name].encode() for name in given} == given


@pytest.mark.contract("ENV-05")
def test_large_values_arrive_whole(every_shell: Machine) -> None:
    values = {f"C{index}": bytes([97 + index]) * 120_000 for index in range(8)}
    environ = every_shell.last(invocation(credentials=credentials(**values)))["env"]
    assert {name: environ[name].encode() for name in values} == values


ODD_NAMES = (
    *("PATH", "IFS", "step", "secret", "user", "gosu", "runa", "home", "status", "variables"),
    *("GIT_DIR", "LD_LIBRARY_PATH", "ENV", "PS4", "name", "x", "agent_words", "LC_ALL", "fail"),
)


@pytest.mark.contract("F-22", "ENV-05")
def test_a_credential_may_have_any_name(every_shell: Machine) -> None:
    last = every_shell.last(
        invocation(credentials=tuple(Variable(name, b"/s3cret:odd") for name in ODD_NAMES))
    )
    assert {name: last["env"].get(name) for name in ODD_NAMES} == dict.fromkeys(
        ODD_NAMES, "/s3cret:odd"
    )
    assert last["argv"] == ["run", "--agent-command", "--", "work", "-v"]


@pytest.mark.contract("F-22")
def test_no_step_before_the_last_sees_a_credential(machine: Machine) -> None:
    machine.last(invocation(credentials=credentials(GIT_DIR=b"/s3cret", TOKEN=b"s3cret")))
    *setup, _trial, _gosu, _runa = machine.calls()
    assert "s3cret" not in json.dumps(setup)


@pytest.mark.contract("F-22")
def test_the_mounted_copies_are_emptied(machine: Machine) -> None:
    token = RepoToken(b"t0ken", "basic", "x", "https://git.example.org")
    machine.last(invocation(credentials=credentials(A=b"1", B=b"2"), repo_token=token))
    files = list((machine.root / "agentd/credentials").iterdir())
    assert {file.name: file.stat().st_size for file in files} == {"0": 0, "1": 0, "repo-token": 0}


# --- the clone -----------------------------------------------------------------------------------


@pytest.mark.contract("ENV-18", "ENV-20", "F-15")
def test_a_clone_runs_as_the_user_and_trusts_nothing_but_the_system(machine: Machine) -> None:
    machine.last()
    clone = machine.clone()
    assert clone["argv"][-2:] == [URL, str(machine.repo)]
    assert clone["env"]["GIT_TERMINAL_PROMPT"] == "0"
    assert clone["env"]["GIT_CONFIG_GLOBAL"] == "/dev/null"
    assert clone["env"]["GIT_ALLOW_PROTOCOL"] == "https:http:git"
    assert clone["env"]["HOME"] == "/nonexistent"
    assert "GIT_CONFIG_COUNT" not in clone["env"]
    assert clone["pipe"] is None


@pytest.mark.contract("ENV-19", "ENV-21", "F-13", "F-14")
def test_a_basic_token_reaches_git_through_a_pipe_alone(machine: Machine) -> None:
    token = RepoToken(b"t0ken", "basic", "me", "https://h:8443")
    machine.last(invocation(repo_token=token))
    clone = machine.clone()
    assert clone["pipe"] == "username=me\npassword=t0ken\n"
    assert any(w.startswith("credential.https://h:8443.helper=!") for w in clone["argv"])
    assert clone["env"]["GIT_ALLOW_PROTOCOL"] == "https"
    for call in machine.calls():
        assert "t0ken" not in json.dumps([call["argv"], call["env"]])


@pytest.mark.contract("ENV-19", "ENV-21", "F-14")
def test_a_bearer_token_is_in_the_environment_of_one_git_alone(machine: Machine) -> None:
    token = RepoToken(b"t0ken", "bearer", "me", "https://h")
    machine.last(invocation(repo_token=token))
    clone = machine.clone()
    assert clone["env"]["GIT_CONFIG_KEY_0"] == "http.https://h.extraHeader"
    assert clone["env"]["GIT_CONFIG_VALUE_0"] == "Authorization: Bearer t0ken"
    assert "http.followRedirects=false" in clone["argv"]
    rest = [call for call in machine.calls() if "clone" not in call["argv"]]
    assert "t0ken" not in json.dumps([rest, clone["argv"]])


@pytest.mark.contract("ENV-19", "ENV-21", "F-14")
def test_a_bearer_token_goes_through_a_pipe_where_helpers_take_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "sh", capability="version 0\ncapability authtype")
    machine.last(invocation(repo_token=RepoToken(b"t0ken", "bearer", "me", "https://h")))
    clone = machine.clone()
    assert clone["pipe"] == "capability[]=authtype\nauthtype=Bearer\ncredential=t0ken\n"
    for call in machine.calls():
        assert "t0ken" not in json.dumps([call["argv"], call["env"]])


@pytest.mark.contract("F-15", "ENV-21")
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_files_are_laid_out_by_a_git_that_has_no_token(
    machine: Machine, scheme: Literal["basic", "bearer"]
) -> None:
    machine.last(invocation(repo_token=RepoToken(b"t0ken", scheme, "me", "https://h")))
    (checkout,) = (call for call in machine.calls("git") if "checkout" in call["argv"])
    assert "--no-checkout" in machine.clone()["argv"]
    assert not [word for word in checkout["argv"] if word.startswith(("credential.https", "http."))]
    assert "GIT_CONFIG_COUNT" not in checkout["env"]


@pytest.mark.contract("ENV-18")
def test_what_the_image_has_at_the_clones_place_is_removed(machine: Machine) -> None:
    machine.repo.mkdir()
    (machine.repo / "stale").write_text("")
    machine.last()
    assert not (machine.repo / "stale").exists()


def test_the_commit_is_told_for_the_record(machine: Machine) -> None:
    assert f"agentd: cloned {COMMIT}\n".encode() in machine.run().stdout


# --- the user and its home -----------------------------------------------------------------------


@pytest.mark.contract("ENV-13", "F-44")
def test_a_user_of_that_name_gives_way_and_no_other(machine: Machine) -> None:
    machine.last()
    for name in ("passwd", "group"):
        content = (machine.root / "etc" / name).read_text()
        assert content == "root:x:0:0\nbuilder2:x:6:6\n"
    assert not (machine.root / "etc/shadow").exists()


@pytest.mark.contract("ENV-13", "F-44")
@pytest.mark.parametrize("end", ["", "\n"], ids=["cut", "whole"])
def test_no_user_of_the_image_is_lost_for_want_of_a_newline(machine: Machine, end: str) -> None:
    (machine.root / "etc/passwd").write_text(f"root:x:0:0\nbuilder:x:5:5\nlast:x:7:7{end}")
    machine.last()
    assert (machine.root / "etc/passwd").read_text() == "root:x:0:0\nlast:x:7:7\n"


@pytest.mark.contract("ENV-13")
def test_an_empty_file_of_users_stays_empty(machine: Machine) -> None:
    (machine.root / "etc/gshadow").write_text("")
    machine.last()
    assert (machine.root / "etc/gshadow").read_bytes() == b""


@pytest.mark.contract("ENV-01", "ENV-13")
def test_the_new_user_comes_before_all_that_have_its_uid(machine: Machine) -> None:
    useradd = machine.tools / "useradd"
    passwd = machine.root / "etc/passwd"
    useradd.write_text(
        useradd.read_text() + f'open({str(passwd)!r}, "a").write("builder:x:10001:10001\\n")\n'
    )
    passwd.write_text("root:x:0:0\nother:x:10001:10001\n")
    machine.last()
    assert passwd.read_text() == "builder:x:10001:10001\nroot:x:0:0\nother:x:10001:10001\n"


@pytest.mark.contract("ENV-15", "ENV-16", "ENV-17")
def test_what_is_mounted_below_home_keeps_its_owner(machine: Machine) -> None:
    home = machine.root / "home/builder"
    for place in (".claude/inner", ".config/app/deep", "plain", "odd name"):
        (home / place).mkdir(parents=True)
    targets = ("/home/builder/.claude", "/home/builder/.config/app", "/home/builder/odd name")
    mounted = agent(mounts=tuple(config.Mount("/s", target, True) for target in targets))
    machine.last(invocation(agent=mounted))
    owned = {word for call in machine.calls("chown") for word in call["argv"][1:]} - {
        "builder:builder"
    }
    assert {Path(word).relative_to(home).as_posix() for word in owned} == {
        ".",
        ".config",
        "plain",
        ".agentd",
        ".agentd/audit",
        ".agentd/audit/runa",
    }


# --- runa and the input --------------------------------------------------------------------------


@pytest.mark.contract("ENV-10")
def test_runas_state_lies_in_the_record(machine: Machine) -> None:
    machine.last()
    leaf = machine.root / "home/builder/.agentd/audit/runa"
    assert (machine.repo / ".runa").readlink() == leaf


@pytest.mark.contract("ENV-23", "ENV-25")
def test_the_input_is_placed_between_init_and_run(machine: Machine) -> None:
    document = Document("claim", "a b", b"")
    machine.last(document=document)
    assert [call["argv"][0] for call in machine.calls("runa")] == ["--version", "init", "run"]
    placed = machine.repo / ".runa/workspace/claim/a b.json"
    assert placed.read_bytes() == b'{"id": 1}'


@pytest.mark.contract("ENV-09")
def test_without_input_nothing_is_placed(machine: Machine) -> None:
    machine.last()
    assert not (machine.repo / ".runa/workspace").exists()


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.contract("ENV-12", "F-28")
@pytest.mark.parametrize(
    ("tool", "step"),
    [
        ("groupadd", "make-user"),
        ("useradd", "make-user"),
        ("runa.version", "make-user"),
        ("chown", "own-home"),
        ("git", "clone"),
        ("runa.init", "runa-init"),
    ],
)
def test_a_failing_step_ends_with_six_and_its_name(machine: Machine, tool: str, step: str) -> None:
    machine.fail(tool, 3)
    assert failure(machine.run()).startswith(f"agentd: setup step '{step}' failed: ")


@pytest.mark.contract("ENV-29", "ENV-12")
@pytest.mark.parametrize("tool", sorted({*REAL_TOOLS, *STAND_INS}))
def test_a_tool_that_the_image_lacks_is_named(machine: Machine, tool: str) -> None:
    (machine.tools / tool).unlink()
    line = failure(machine.run())
    assert f"setup step 'check-image' failed: the image has no '{tool}'" in line


@pytest.mark.contract("ENV-11", "ENV-12")
def test_a_repository_with_its_own_runa_is_refused(machine: Machine) -> None:
    git = machine.tools / "git"
    git.write_text(git.read_text() + 'if "clone" in words: os.symlink("x", words[-1] + "/.runa")\n')
    line = failure(machine.run())
    assert "repo root .runa is reserved by agentd for persistent audit state" in line


@pytest.mark.contract("ENV-12", "F-28")
def test_a_document_that_is_not_there_names_its_step(machine: Machine) -> None:
    (machine.root / "agentd/invocation-input/document.json").unlink()
    done = machine.run(document=Document("claim", "x", b""))
    assert done.returncode == 6
    assert b"agentd: setup step 'place-input' failed: status 1\n" in done.stderr


@pytest.mark.contract("ENV-12", "F-28")
def test_a_secret_that_is_not_there_names_its_step(machine: Machine) -> None:
    (machine.root / "agentd/credentials/0").mkdir()
    given = invocation(credentials=(Variable("A", b""),))
    words = setup_arguments(given, None)
    at = words.index("A")
    words[at + 1 : at + 3] = ["file", str(machine.root / "agentd/credentials/0")]
    done = subprocess.run(
        [machine.sh, "-c", machine.moved(setup_script()), "agentd", *words],
        check=False,
        capture_output=True,
        env={"PATH": str(machine.tools)},
        timeout=SECONDS,
    )
    assert done.returncode == 6
    assert b"agentd: setup step 'credentials' failed" in done.stderr


@pytest.mark.contract("ENV-12")
def test_too_few_arguments_are_a_failure_of_that_step(machine: Machine) -> None:
    done = subprocess.run(
        [machine.sh, "-c", machine.moved(setup_script()), "agentd", "builder"],
        check=False,
        capture_output=True,
        env={"PATH": str(machine.tools)},
        timeout=SECONDS,
    )
    assert done.returncode == 6
    assert b"agentd: setup step 'arguments' failed" in done.stderr


@pytest.mark.contract("F-22", "F-28")
def test_what_cannot_be_started_at_the_end_shows_no_credential(
    every_shell: Machine,
) -> None:
    """The shell's own trap runs when `exec` fails; a credential may be called `step`."""
    (every_shell.tools / "gosu.breaks").write_text("")
    done = every_shell.run(invocation(credentials=credentials(step=b"s3cret", user=b"s3cret")))
    assert "setup step 'start' failed: gosu cannot start a program" in failure(done)
    assert b"s3cret" not in done.stdout + done.stderr


@pytest.mark.contract("F-28")
def test_more_than_one_exec_takes_is_a_failure_of_the_start(every_shell: Machine) -> None:
    """A shell ends with 126 when it cannot exec, which would pass for the agent's own code."""
    values = {f"C{index}": b"x" * 100_000 for index in range(6)}
    done = every_shell.run(invocation(credentials=credentials(**values)), stack_kib=2048)
    assert "setup step 'start' failed: gosu cannot start a program" in failure(done)


@pytest.mark.contract("F-28")
def test_a_user_that_gosu_cannot_become_is_a_failure_of_the_start(every_shell: Machine) -> None:
    (every_shell.tools / "gosu.fails").write_text("")
    done = every_shell.run()
    assert "setup step 'start' failed: gosu cannot start a program" in failure(done)


@pytest.mark.contract("B-21")
def test_a_stop_signal_ends_a_clone_that_hangs(every_shell: Machine) -> None:
    hang = every_shell.tools / "git.hangs"
    os.mkfifo(hang)
    with subprocess.Popen(
        every_shell.command(invocation()),
        env={"PATH": str(every_shell.tools)},
        cwd=every_shell.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as setup:
        # Opens once git reads it.
        with hang.open("w"):
            setup.send_signal(signal.SIGINT)
            status = setup.wait(SECONDS)
        assert setup.stderr is not None
        assert (status, setup.stderr.read()) == (
            130,
            b"agentd: stopped during setup step 'clone'\n",
        )
