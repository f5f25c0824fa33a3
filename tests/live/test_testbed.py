"""The stand-ins do what the contract says of the real things, seen in real containers."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.git_daemon import GitDaemon
from testbed.podman_service import PodmanService, answers
from testbed.processes import command_lines
from testbed.session_image import ensure_broken_image

pytestmark = pytest.mark.live

TESTBED = Path(__file__).parents[2] / "testbed"
METHODOLOGY = TESTBED / "methodology"
PASS_THROUGH = TESTBED / "methodology_pass_through"

REQUEST = '{"description":"Add a status page","source":"operator"}'
INIT = "runa init --methodology /agentd/methodology/manifest.toml"
ASK = (
    f"mkdir .runa/workspace/request; echo '{REQUEST}' >.runa/workspace/request/operator-input.json"
)
ANSWER = (
    "cat >/dev/null; mkdir -p .runa/workspace/report;"
    """ echo '{"request":"r","summary":"s","files":[]}' >.runa/workspace/report/r.json"""
)


@dataclass(frozen=True)
class Ended:
    code: int
    stdout: str
    stderr: str


class Project:
    """A directory, mounted as the working directory of containers that run one script each."""

    def __init__(self, podman: PodmanService, image: str, directory: Path) -> None:
        self.podman = podman
        self.image = image
        self.directory = directory

    def sh(self, script: str, *args: str, methodology: Path = METHODOLOGY) -> Ended:
        done = self.podman.run(
            *("run", "--rm", "--network", "none", "--workdir", "/project"),
            *("--volume", f"{methodology}:/agentd/methodology:ro"),
            *("--volume", f"{self.directory}:/project"),
            *(self.image, "sh", "-c", script, "sh", *args),
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def read(self, path: str) -> str:
        return (self.directory / path).read_text()


@pytest.fixture
def project(podman: PodmanService, session_image: str, tmp_path: Path) -> Project:
    return Project(podman, session_image, tmp_path)


def agent(script: str) -> str:
    """A project with a request, run with a shell script for an agent."""
    return f"{INIT} >/dev/null && {ASK} && runa run --agent-command -- sh -c {shlex.quote(script)}"


@pytest.mark.contract("B-06", "B-07")
def test_init_writes_the_state_of_a_project(project: Project) -> None:
    ended = project.sh(f"{INIT} && {INIT}")

    greeting = "Initialized runa project with methodology 'answer-requests'\n"
    assert ended == Ended(0, 2 * (greeting + "  2 artifact types, 1 protocols\n"), "")
    path = "/agentd/methodology/manifest.toml"
    assert project.read(".runa/config.toml") == f'methodology_path = "{path}"\n'
    assert "runa_version = " in project.read(".runa/state.toml")
    assert sorted(each.name for each in (project.directory / ".runa").iterdir()) == [
        "config.toml",
        "state.toml",
        "store",
        "workspace",
    ]


@pytest.mark.contract("B-06")
def test_init_accepts_a_link_to_a_directory_as_its_state(project: Project) -> None:
    assert project.sh(f"mkdir elsewhere && ln -s elsewhere .runa && {INIT}").code == 0
    assert (project.directory / "elsewhere/state.toml").exists()


@pytest.mark.contract("B-02", "B-03", "B-08", "B-11", "B-12", "B-14")
@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        ("runa init", 2, "error: --methodology is required"),
        ("runa init --nonsense", 2, "error: unexpected argument '--nonsense'"),
        ("runa init --methodology", 2, "error: a value is required for '--methodology'"),
        ("runa init --methodology /none", 6, "error: methodology not found: /none"),
        ("echo '[' >m.toml; runa init --methodology m.toml", 6, "failed to parse"),
        ("echo >m.toml; runa init --methodology m.toml", 6, "missing or invalid field `name`"),
        (
            f"cd /tmp && mkdir -m 0555 .runa && useradd u && exec gosu u {INIT}",
            6,
            "pre-existing runa state is not usable: .runa",
        ),
        ("runa run --agent-command -- true", 6, "error: not a runa project"),
        (f"{INIT} && rm .runa/config.toml && runa run --agent-command -- true",
            6, "error: no runa configuration found"),
        (f"{INIT} && runa run --agent-command true", 2, "error: unexpected argument 'true'"),
        (f"{INIT} && runa run --agent-command --", 6, "error: no agent command configured"),
        (f"{INIT} && runa run --json", 2, "error: --json requires --dry-run"),
        (f"{INIT} && {ASK} && rm /usr/local/bin/runa-mcp && runa run --agent-command -- true",
            6, "could not locate MCP server binary 'runa-mcp'"),
    ],
)  # fmt: skip
def test_refusals(project: Project, script: str, code: int, message: str) -> None:
    ended = project.sh(script)
    assert (ended.code, message in ended.stderr) == (code, True), ended


@pytest.mark.contract("B-10", "B-13", "B-16", "B-17", "B-18", "B-19", "B-20")
@pytest.mark.parametrize(
    ("script", "code", "outcome"),
    [
        (agent(ANSWER), 0, "success"),
        (f"{INIT} && runa run --agent-command -- true", 3, "blocked"),
        (f"{INIT} && runa run --work-unit 7 --agent-command -- true", 4, "nothing_ready"),
        (agent("cat >/dev/null"), 5, "work_failed"),
        (agent("cat >/dev/null; exit 9"), 5, "work_failed"),
        (agent(f"{ANSWER}; echo 1 >.runa/workspace/report/bad.json"), 5, "work_failed"),
        (agent(f"kill -INT $PPID; {ANSWER}"), 130, "interrupted"),
    ],
)
def test_outcomes_of_a_run(project: Project, script: str, code: int, outcome: str) -> None:
    ended = project.sh(script)
    assert ended.code == code, ended
    assert ended.stdout.endswith(f"Run outcome: {outcome}\n")


@pytest.mark.contract("B-12", "B-16")
def test_an_agent_that_cannot_be_started_is_a_failure_of_the_infrastructure(
    project: Project,
) -> None:
    ended = project.sh(f"{INIT} && {ASK} && runa run --agent-command -- no-such-agent")
    assert ended.code == 6
    assert "no-such-agent" in ended.stderr


@pytest.mark.contract("B-10", "B-15")
def test_what_an_agent_is_given_and_what_stays_behind(project: Project) -> None:
    ended = project.sh(agent(f'cat; echo; echo "$RUNA_MCP_CONFIG"; {ANSWER} </dev/null'))
    heading, *_, mcp_config, executed, _ = ended.stdout.splitlines()
    assert heading == "# Protocol: answer"
    assert executed == "Executed: answer"
    assert json.loads(mcp_config) == {
        "command": "/usr/local/bin/runa-mcp",
        "args": ["--protocol", "answer"],
        "env": {"RUNA_CONFIG": "/project/.runa/config.toml", "RUNA_WORKING_DIR": "/project"},
    }
    assert json.loads(project.read(".runa/store/report/r.json"))["status"] == "valid"
    assert len(json.loads(project.read(".runa/store/execution-records.json"))) == 1


@pytest.mark.contract("B-09")
def test_only_files_of_declared_types_are_artifacts(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    methodology = tmp_path_factory.mktemp("open") / "methodology"
    shutil.copytree(METHODOLOGY, methodology)
    (methodology / "schemas/report.schema.json").write_text("{}")
    strange = (
        f"{INIT} >/dev/null && cd .runa/workspace && mkdir request report strange"
        f" && echo '{REQUEST}' >strange/a.json && echo '{REQUEST}' >request/a.txt"
        " && ln -s ../strange/a.json request/link.json && mkdir request/directory.json"
        """ && echo '{"work_unit":"7"}' >report/r.json"""
        " && cd /project && runa run --agent-command -- true"
    )
    ended = project.sh(strange, methodology=methodology)
    assert (ended.code, "unrecognized workspace entry" in ended.stderr) == (3, True), ended
    assert list((project.directory / ".runa/store").glob("*/*")) == [
        project.directory / ".runa/store/report/r.json"
    ]
    assert json.loads(project.read(".runa/store/report/r.json"))["work_unit"] == "7"


@pytest.mark.contract("B-11")
@pytest.mark.parametrize(
    ("place", "run"),
    [
        ("/tmp/c.toml", "runa run --config /tmp/c.toml"),
        ("/tmp/c.toml", "RUNA_CONFIG=/tmp/c.toml runa run"),
        ("/tmp/x/runa/config.toml", "XDG_CONFIG_HOME=/tmp/x runa run"),
        ("/tmp/h/.config/runa/config.toml", "HOME=/tmp/h runa run"),
    ],
)
def test_the_configuration_is_looked_for_in_turn(project: Project, place: str, run: str) -> None:
    move = f'mkdir -p "$(dirname {place})" && mv .runa/config.toml {place}'
    ended = project.sh(f"{INIT} && {move} && {run} --agent-command -- true")
    assert (ended.code, ended.stdout.splitlines()[-1]) == (3, "Run outcome: blocked"), ended


@pytest.mark.contract("B-14", "B-15")
def test_the_server_is_found_on_the_search_path_too(project: Project) -> None:
    elsewhere = "mv /usr/local/bin/runa-mcp /usr/bin/runa-mcp"
    ended = project.sh(f"{elsewhere}; " + agent(f'echo "$RUNA_MCP_CONFIG"; {ANSWER}'))
    assert ended.code == 0, ended
    assert json.loads(ended.stdout.splitlines()[0])["command"] == "/usr/bin/runa-mcp"


@pytest.mark.contract("B-22")
def test_variables_pass_through_and_logs_go_to_standard_error(project: Project) -> None:
    shown = 'echo "${AGENT_NAME-unset} ${AGENTD_WORK_UNIT-unset}"'
    without = project.sh(agent(f"{shown}; cat >/dev/null; exit 9"))
    given = project.sh("export AGENT_NAME=a AGENTD_WORK_UNIT=u; " + agent(f"{shown}; {ANSWER}"))
    assert without.stdout.splitlines() == ["unset unset", "Run outcome: work_failed"]
    assert "protocol 'answer' failed" in without.stderr
    assert given.stdout.splitlines()[0] == "a u"


@pytest.mark.contract("B-25")
def test_the_request_schema_is_the_canonical_one() -> None:
    schema = json.loads((METHODOLOGY / "schemas/request.schema.json").read_text())
    assert (schema["type"], schema["additionalProperties"]) == ("object", False)
    assert sorted(schema["required"]) == ["description", "source"]
    texts = {name: (of["type"], of.get("minLength")) for name, of in schema["properties"].items()}
    assert texts == {
        "description": ("string", 1),
        "source": ("string", 1),
        "context": ("string", None),
    }
    assert schema["x-tesserine-canonical"]["version"] == "1.0.0"


@pytest.mark.contract("B-23")
@pytest.mark.parametrize("code", [0, 1, 2, 23, 125, 126, 127, 128, 130, 143, 255])
def test_pass_through_gives_the_agents_own_code(project: Project, code: int) -> None:
    script = f'{INIT} && exec runa run --agent-command -- sh -c "exit $1"'
    assert project.sh(script, str(code), methodology=PASS_THROUGH).code == code


def test_the_stand_in_agent_answers_a_request(project: Project) -> None:
    ended = project.sh(f"{INIT} && {ASK} && runa run --agent-command -- stand-in-agent")
    assert ended.code == 0, ended
    assert "agent: the request: Add a status page\n" in ended.stdout
    assert "All systems work" in project.read("status.html")


def test_an_image_can_lack_a_program(podman: PodmanService, session_image: str) -> None:
    image = ensure_broken_image(podman, without="gosu", of=session_image)
    assert (
        podman.run("run", "--rm", "--network", "none", image, "gosu", "--version").returncode == 127
    )
    assert podman.run("run", "--rm", "--network", "none", image, "git", "--version").returncode == 0


def test_a_container_clones_from_the_git_server(
    podman: PodmanService, session_image: str, git_server: GitDaemon
) -> None:
    url = git_server.add_repository("site.git", {"pages/index.html": "<h1>Site</h1>"})
    script = 'git clone --quiet "$1" /clone && cat /clone/pages/index.html'
    run = ("run", "--rm", "--network", "host", session_image, "sh", "-c", script, "sh", url)
    assert podman.podman(*run) == "<h1>Site</h1>"


def test_a_service_can_restart_on_its_socket(podman: PodmanService, tmp_path: Path) -> None:
    before = podman.process
    podman.restart(tmp_path / "service.log")
    assert podman.process is not before
    assert answers(podman.socket)


def test_a_private_service_leaves_nothing_behind(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from testbed.podman_service import private_podman_service\n"
        "with private_podman_service(Path(sys.argv[1])) as service:\n"
        "    print(service.socket.parent)\n"
    )
    done = subprocess.run(
        ["python3", "-c", script, str(tmp_path / "base")],
        cwd=TESTBED.parent,
        capture_output=True,
        check=True,
        text=True,
    )
    runtime = done.stdout.strip()
    assert not Path(runtime).exists()
    assert not (tmp_path / "base/store").exists()
    assert runtime not in Path("/proc/self/mountinfo").read_text()
    assert [line for line in command_lines() if runtime in line] == []
