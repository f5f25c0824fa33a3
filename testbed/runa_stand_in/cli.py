"""The commands `init` and `run`, their arguments and their exit codes."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from testbed.runa_stand_in import RUNA, VERSION, InfrastructureError
from testbed.runa_stand_in.execution import INTERRUPTED, Run
from testbed.runa_stand_in.methodology import load_methodology

USAGE, INFRASTRUCTURE = 2, 6
OUTCOMES = {
    "success": 0,
    "blocked": 3,
    "nothing_ready": 4,
    "work_failed": 5,
    "interrupted": INTERRUPTED,
}


def usage_error(text: str) -> NoReturn:
    """End as a command line parser does."""
    print(f"error: {text}", file=sys.stderr)
    sys.exit(USAGE)


def split_options(args: Sequence[str], valued: Sequence[str]) -> dict[str, str]:
    """Read options that each take a value; anything else is a usage error."""
    options: dict[str, str] = {}
    rest = list(args)
    while rest:
        name = rest.pop(0)
        if name not in valued:
            usage_error(f"unexpected argument '{name}'")
        if not rest:
            usage_error(f"a value is required for '{name}'")
        options[name] = rest.pop(0)
    return options


def main() -> int:
    """Carry out the process's command line; return the exit code."""
    try:
        return dispatch(sys.argv[1:])
    except (InfrastructureError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return INFRASTRUCTURE


def dispatch(args: Sequence[str]) -> int:
    """Choose the command."""
    match args:
        case ["--version"]:
            print(f"runa {VERSION}")
            return 0
        case ["init", *rest]:
            options = split_options(rest, ["--methodology", "--config"])
            if "--methodology" not in options:
                usage_error("--methodology is required")
            config = Path(options["--config"]) if "--config" in options else None
            return init(Path(options["--methodology"]), config)
        case ["run", *rest]:
            split = rest.index("--") if "--" in rest else len(rest)
            before, argv = rest[:split], rest[split + 1 :]
            if "--json" in before:
                usage_error("--json requires --dry-run")
            flags = [each for each in before if each != "--agent-command"]
            options = split_options(flags, ["--work-unit", "--config"])
            config = Path(options["--config"]) if "--config" in options else None
            return run(options.get("--work-unit"), config, argv)
    usage_error("a command is required: init or run")


def init(methodology_path: Path, config: Path | None) -> int:
    """Make the current directory a runa project."""
    methodology = load_methodology(methodology_path)
    check_state_is_usable()
    for directory in (RUNA, RUNA / "store", RUNA / "workspace"):
        directory.mkdir(exist_ok=True)
    canonical = json.dumps(str(methodology_path.resolve()))
    (config or RUNA / "config.toml").write_text(f"methodology_path = {canonical}\n")
    (RUNA / "state.toml").write_text(
        f'initialized_at = "{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"\nruna_version = "{VERSION}"\n'
    )
    types, protocols = methodology.document["artifact_types"], methodology.protocols
    print(f"Initialized runa project with methodology '{methodology.document['name']}'")
    print(f"  {len(types)} artifact types, {len(protocols)} protocols")
    return 0


def check_state_is_usable() -> None:
    """Refuse state, or a parent of it, that this user cannot write."""
    existing = [path for path in (RUNA, *RUNA.glob("*")) if path.exists()]
    for path in (*existing, RUNA.resolve().parent if not RUNA.exists() else RUNA):
        if not os.access(path, os.W_OK):
            raise InfrastructureError(f"pre-existing runa state is not usable: {path} not writable")


def run(unit: str | None, explicit_config: Path | None, argv: Sequence[str]) -> int:
    """Carry out `runa run`."""
    config = find_config(explicit_config)
    document = tomllib.loads(config.read_text())
    methodology = load_methodology(Path(document["methodology_path"]))
    if methodology.passes_through:
        become(argv)
    outcome = Run(config, methodology, unit).to_the_end(argv)
    print(f"Run outcome: {outcome}")
    return OUTCOMES[outcome]


def find_config(explicit: Path | None) -> Path:
    """The configuration of the project in the current directory."""
    if not (RUNA / "state.toml").is_file():
        raise InfrastructureError("not a runa project: .runa/state.toml is missing")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    from_environment = os.environ.get("RUNA_CONFIG")
    named = explicit or (Path(from_environment) if from_environment else None)
    candidates = [named] if named else [RUNA / "config.toml", home / "runa/config.toml"]
    for path in candidates:
        if path.is_file():
            return path
    raise InfrastructureError("no runa configuration found")


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process by the agent, with a shell's codes for what cannot be started."""
    try:
        os.execvp(argv[0], list(argv))
    except FileNotFoundError:
        sys.exit(127)
    except OSError:
        sys.exit(126)
