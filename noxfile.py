"""The project's checks. `./dev SESSION` runs them with everything set up."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import nox

HERE = Path(__file__).parent
INTERPRETERS = HERE / ".dev/interpreters"
OLDEST = "3.11"
SHELL_FILES = (
    "dev",
    ".ci/run",
    "src/agentd/session/setup.sh",
    "src/agentd/check/probe.sh",
    "testbed/login.sh",
    "testbed/stand_in_agent.sh",
    "testbed/image/runa-mcp",
    "examples/images/codex-for-runa",
)
# All rules of flake8-async but these: 114 and 128 do not see a `task_status` that is passed on;
# 124 asks for plain functions, where pytest-trio wants async ones; 127 is the advice to exchange
# httpx; 910 to 913 ask for a checkpoint on every path, also where there is nothing left to do.
ASYNC_RULES = (
    "--select=ASYNC",
    "--extend-ignore=ASYNC114,ASYNC124,ASYNC127,ASYNC128,ASYNC910,ASYNC911,ASYNC912,ASYNC913",
)

# Most of a live test is waiting. The tests of a file share a daemon and stay on one worker, which
# has a Podman service of its own.
PYTEST = ("pytest", "--durations=10", "--numprocesses=2", "--dist=loadfile")

nox.needs_version = ">=2024.10"
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["lint", "types", "tests"]


def runs(interpreter: Path, version: str) -> bool:
    """Whether this is a working interpreter of that version; a version manager's shim may fail."""
    try:
        done = subprocess.run(
            [interpreter, "--version"], check=False, capture_output=True, text=True
        )
    except OSError:
        return False
    return done.stdout.startswith(f"Python {version}.")


def find_interpreter(version: str) -> Path | None:
    """An interpreter of this version, from the search path or from pyenv."""
    name = f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = pyenv.glob(f"versions/{version}.*/bin/{name}")
    places = [Path(place, name) for place in ("/usr/bin", *os.get_exec_path())]
    return next((each for each in (*places, *installed) if runs(each, version)), None)


def tested_pythons() -> list[str]:
    """The oldest supported Python and the newest that this machine has, as far as it has them.

    nox looks interpreters up by name, and a broken shim could come first on the search path. So
    links to the working ones go into a directory of their own, at its head.
    """
    INTERPRETERS.mkdir(parents=True, exist_ok=True)
    versions = [f"3.{minor}" for minor in range(20, 10, -1)]
    found = [(version, path) for version in versions if (path := find_interpreter(version))]
    chosen = dict(found[:1] + [each for each in found if each[0] == OLDEST])
    for version, path in chosen.items():
        link = INTERPRETERS / f"python{version}"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    os.environ["PATH"] = os.pathsep.join([str(INTERPRETERS), *os.get_exec_path()])
    return sorted(chosen, key=lambda version: int(version.removeprefix("3.")))


PYTHONS = tested_pythons()


def install(session: nox.Session, *groups: str) -> None:
    """Install the project and these dependency groups, unless that was done and nothing changed."""
    project = HERE / "pyproject.toml"
    wanted = hashlib.sha256(project.read_bytes() + " ".join(groups).encode()).hexdigest()
    stamp = Path(session.virtualenv.location, "installed.sha256")
    if stamp.exists() and stamp.read_text() == wanted:
        return
    requirements = nox.project.dependency_groups(nox.project.load_toml(project), *groups)
    session.install("--editable", str(HERE), *requirements)
    stamp.write_text(wanted)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, async mistakes, the floors of the architecture, shell scripts."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", *ASYNC_RULES, "src", "tests", "testbed", "examples")
    session.run("lint-imports")
    scripts = [name for name in SHELL_FILES if Path(name).exists()]
    session.run("shellcheck", *scripts, external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Strict type checks."""
    install(session, "types")
    session.run("mypy", *session.posargs)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests on the newest Python, and on the oldest those that need no Podman."""
    install(session, "tests")
    places = [] if session.python == PYTHONS[-1] else ["tests/unit"]
    session.run(*PYTEST, *(session.posargs or places))


@nox.session(name="tests-long", python=PYTHONS[-1])
def tests_long(session: nox.Session) -> None:
    """The same tests with larger numbers, then those that need Podman on Debian 13's Podman 5."""
    install(session, "tests")
    session.run(*PYTEST, *session.posargs, env={"AGENTD_TESTS_LONG": "1"})
    session.run(*PYTEST, *(session.posargs or ["tests/live"]), env={"AGENTD_TESTS_PODMAN": "5"})


@nox.session
def lock(session: nox.Session) -> None:
    """Write down anew what the image is made of: every version, with the digests of its files."""
    session.install("uv>=0.9")
    for group, file in (("", "requirements.lock"), ("build", "requirements-build.lock")):
        session.run(
            *("uv", "pip", "compile", "--quiet", "--no-config", "--upgrade", "--universal"),
            *("--python-version", OLDEST, "--generate-hashes", "--no-annotate"),
            *("--custom-compile-command", "./dev lock", "--output-file", file),
            *(("--group", group) if group else ("pyproject.toml",)),
        )


@nox.session
def reference(session: nox.Session) -> None:
    """Write docs/cli.md anew, from the commands' own signatures and docstrings."""
    install(session)
    session.run("python", "-m", "testbed.cli_reference", *session.posargs)


@nox.session
def quickstart(session: nox.Session) -> None:
    """One session from a request to its sealed record, on a machine without any configuration."""
    install(session)
    session.run("python", "examples/quickstart/quickstart.py", *session.posargs)
