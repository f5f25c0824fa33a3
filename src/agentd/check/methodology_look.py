"""Reading a methodology's directory as `runa init` would. Blocking."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import methodology
from ..errors import AgentdError, InputRefused, MethodologyUnusable
from ..strict_json import parse_json
from ..wire import TextInput
from . import methodology_rules as rules
from .finding import Finding, fail, ok, refused
from .look import is_file

_NAME = "methodology"


def methodology_findings(directory: Path, agent: str) -> list[Finding]:
    """All that is wrong with it, a finding each, or that nothing is."""
    try:
        manifest = _manifest(directory)
    except MethodologyUnusable as error:
        return [refused(_NAME, error, f"correct methodology_dir of agent '{agent}'", agent)]
    faults = [*rules.manifest_faults(manifest), *_file_faults(directory, manifest)]
    if not faults:
        types, protocols = (rules.declared(manifest, k) for k in ("artifact_types", "protocols"))
        counts = f"{len(types)} artifact types, {len(protocols)} protocols"
        return [ok(_NAME, f"{directory} is complete: {counts}", agent)]
    remedy = f"correct it below {directory}: runa would refuse it after the clone"
    return [fail(_NAME, fault, remedy, agent) for fault in faults]


def _manifest(directory: Path) -> dict[str, Any]:
    methodology.check(directory)
    path = directory / methodology.MANIFEST
    try:
        return tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise MethodologyUnusable(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise MethodologyUnusable(f"{path} is no TOML: {error}", remedy="correct it") from error


def _file_faults(directory: Path, manifest: Mapping[str, Any]) -> list[str]:
    faults: list[str] = []
    schemas: dict[str, Any] = {}
    for name in rules.declared(manifest, "artifact_types"):
        path = directory / rules.schema_path(name)
        try:
            schemas[name] = parse_json(path.read_bytes())
        except OSError as error:
            faults.append(f"cannot read {path}: {error.strerror}")
        except (ValueError, RecursionError) as error:
            faults.append(f"{path} is no JSON: {error}")
    for name in rules.declared(manifest, "protocols"):
        path = directory / rules.instructions_path(name)
        if not is_file(path):
            faults.append(f"there is no {path}")
    return [*faults, *rules.scope_faults(manifest, schemas)]


def scheduled_request_finding(directory: Path, text: str, agent: str) -> Finding:
    """Whether the methodology takes what scheduled runs ask for."""
    try:
        methodology.resolve_input(directory, TextInput(description=text))
    except (InputRefused, MethodologyUnusable) as error:
        remedy = "give the methodology a canonical artifact type 'request', or remove the key"
        return refused("scheduled-request", error, remedy, agent)
    except AgentdError as error:
        return refused("scheduled-request", error, "run this check again", agent)
    return ok("scheduled-request", "the methodology takes scheduled_request as its input", agent)
