"""README.md and docs/: nothing is shown that no test executes, and the configuration loads.

The commands of agentd itself are executed in tests/live/test_documents.py.
"""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from agentd import config, errors
from testbed import documents
from testbed.documents import Block, Command

FILES = "mkdir -p ", "cp examples/", "cp -r examples/"
"""How commands begin that only lay files out: they are executed below."""

IMAGE = "tests/live/test_container.py::test_the_image_says_its_version"
CHECK = "tests/live/test_container.py::test_a_session_can_be_tried_from_inside_the_container"
UNITS = "tests/unit/test_deployment.py::test_podman_makes_services_of_the_units"

ELSEWHERE = {
    "./dev quickstart": ".ci/run executes it",
    "./dev tests": ".ci/run executes it: it executes this test",
    "podman build --tag localhost/agentd:0.1.1 .": f"on another base: {IMAGE}",
    "python3 -m venv ~/.local/lib/agentd": f"the image is made so: {IMAGE}",
    "~/.local/lib/agentd/bin/pip install .": f"the image is made so: {IMAGE}",
    "podman exec agentd agentd ps": f"the container's program is that of {IMAGE}",
    "podman exec agentd agentd check --agent site-builder": f"with another agent: {CHECK}",
    "podman build --build-arg BASE=": f"on a base like it: {IMAGE}",
    "podman build --secret ": f"testbed/daemon_image.py has the secrets: {IMAGE}",
}
"""Commands, or their beginnings, that other tests execute, and which ones."""

NOWHERE = {
    "sudo install ": "it needs root, and makes directories of the machine that are not the tests'",
    "node_exporter ": "it is not there",
    "systemctl ": "no systemd runs where the tests do; the units are those of " + UNITS,
    "loginctl ": "no systemd runs where the tests do",
    "mmdebstrap ": "it downloads half of Debian; testbed/session_image.py makes a base like it",
    "podman build --build-arg AGENT_VERSION=": "it needs registries, and is marked as not built",
    "export PATH=": "what follows is executed with the program of the tests",
    "export SITE_": "it needs the operator's key",
    "podman secret create ": "it needs the operator's token",
    "cargo build ": "neither Rust nor runa's sources are there",
}
"""Commands, or their beginnings, that no test can execute, and why."""

COMMANDS = [each for each in documents.commands() if not each.line.startswith("agentd ")]

MINIMAL = {
    "name": 'name = "site-builder"',
    "base_image": 'base_image = "localhost/site-builder:1"',
    "methodology_dir": 'methodology_dir = "/etc/agentd/methodologies/site"',
    "repo_token_source": 'repo_token_source = "SITE_REPO_TOKEN"',
    "command": 'command = { argv = ["my-agent"] }',
}


def test_every_block_is_read() -> None:
    """One in another language, or badly fenced, would be shown and never executed."""
    read = [
        len(documents.blocks(language))
        for language in ("sh", "toml", "json", "text", "python", "yaml")
    ]
    fences = [path.read_text().count("```") for path in documents.DOCUMENTS]
    assert 2 * sum(read) == sum(fences)


def test_every_command_is_executed_somewhere_or_it_is_said_why_not() -> None:
    known = (*FILES, *ELSEWHERE, *NOWHERE)
    assert [each for each in COMMANDS if not each.line.startswith(known)] == []


def test_no_command_is_explained_that_nobody_shows() -> None:
    lines = [each.line for each in COMMANDS]
    known = (*FILES, *ELSEWHERE, *NOWHERE)
    assert [each for each in known if not any(line.startswith(each) for line in lines)] == []


def test_the_tests_that_execute_commands_exist() -> None:
    named = documents.tests_named_in(" ".join([*ELSEWHERE.values(), *NOWHERE.values()]))
    assert [name for name in named if not documents.is_test(name)] == []


def test_the_files_of_the_documents_can_be_laid_out(tmp_path: Path) -> None:
    script = "\n".join(each.line for each in COMMANDS if each.line.startswith(FILES))
    subprocess.run(
        ["/bin/sh", "-euc", script],
        check=True,
        cwd=documents.PROJECT,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert (tmp_path / ".config/containers/systemd/agentd.container").is_file()


@pytest.mark.parametrize("block", documents.blocks("python"), ids=lambda block: block.document)
def test_the_python_that_is_shown_is_python(block: Block) -> None:
    """Whole programs are in examples/, which tests execute."""
    compile(block.text, block.document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def completed(fragment: str) -> str:
    """A fragment of a configuration with what every configuration needs."""
    parsed: dict[str, Any] = tomllib.loads(fragment)
    agents = parsed.get("agents", {})
    if not isinstance(agents, list):
        # Tables such as `[agents.limits]` belong to the agent above them.
        missing = "\n".join(text for key, text in MINIMAL.items() if key not in agents)
        at = re.search(r"^\[+agents\.", fragment, re.MULTILINE)
        start = at.start() if at else len(fragment)
        return f"{fragment[:start]}\n[[agents]]\n{missing}\n{fragment[start:]}"
    first, *others = re.split(r"^\[\[agents\]\]$", fragment, flags=re.MULTILINE)
    for agent, text in zip(agents, others, strict=True):
        missing = "\n".join(line for key, line in MINIMAL.items() if key not in agent)
        first += f"[[agents]]\n{missing}{text}"
    return first


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{block.document}-{position}")
        for position, block in enumerate(documents.blocks("toml"))
        if block.remark != "registries.conf"
    ],
)
def test_the_configuration_that_is_shown_loads(block: Block) -> None:
    assert config.parse(completed(block.text)).agents


def test_the_operations_guide_has_every_error() -> None:
    guide = (documents.PROJECT / "docs/operations.md").read_text()
    codes = {
        each.code
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.AgentdError)
    }
    # What no class of its own says, which nothing raises.
    codes.remove(errors.AgentdError.code)
    assert {code for code in codes if f"`{code}`" not in guide} == set()


def test_the_operations_guide_has_every_warning_of_the_log() -> None:
    guide = (documents.PROJECT / "docs/operations.md").read_text()
    events = (documents.PROJECT / "docs/log-events.md").read_text()
    rows = re.findall(
        r"^\| `([a-z]+\.\w+)` \| [^|]*(?:warning|error)[^|]* \|", events, re.MULTILINE
    )
    assert rows
    assert [event for event in rows if f"`{event}`" not in guide] == []


def test_the_promises_of_the_security_page_name_tests_and_modules_that_exist() -> None:
    page = (documents.PROJECT / "docs/security.md").read_text()
    rows = [row for row in page.partition("| promise |")[2].splitlines() if row.count(" | ") == 2]
    assert rows
    for row in rows:
        _, where, shown = row.split(" | ")
        modules, tests = re.findall("`(.*?)`", where), documents.tests_named_in(shown)
        assert (bool(modules), bool(tests)) == (True, True), row
        assert [m for m in modules if not (documents.SOURCE / m).is_file()] == []
        assert [name for name in tests if not documents.is_test(name)] == []


@pytest.mark.parametrize("path", documents.WITH_LINKS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    assert documents.broken_links(path) == []


def test_commands_are_found_in_lists_and_over_several_lines() -> None:
    shown = "<!-- exits 2 -->\n\n  ```sh\n  agentd run \\\n      nobody   # fails\n\n  ls\n  ```\n"
    assert [*documents.commands_in("x.md", shown)] == [
        Command("x.md", "agentd run nobody", 2),
        Command("x.md", "ls", 2),
    ]
