"""Artifacts in a workspace, and which protocols they make ready."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.runa_stand_in import RUNA, InfrastructureError
from testbed.runa_stand_in.methodology import Methodology


@dataclass(frozen=True)
class Instance:
    """An artifact in the workspace."""

    type: str
    id: str
    valid: bool
    work_unit: str | None
    modified: int


def scan(methodology: Methodology) -> list[Instance]:
    """Judge every artifact in the workspace and put the findings into the store."""
    instances = []
    for directory in sorted((RUNA / "workspace").iterdir()):
        if directory.name not in methodology.schemas or not directory.is_dir():
            print(f"warning: unrecognized workspace entry {directory}", file=sys.stderr)
            continue
        for path in sorted(directory.glob("*.json")):
            if path.is_file() and not path.is_symlink():
                instances.append(judge(path, methodology.schemas[directory.name]))
    return instances


def judge(path: Path, schema: Mapping[str, Any]) -> Instance:
    """Validate one artifact and write its store record."""
    import jsonschema  # noqa: PLC0415 - costs 0.1 s, which only a run with artifacts should pay

    content = path.read_bytes()
    try:
        document = json.loads(content)
        jsonschema.validate(document, schema)
        valid = True
    except (ValueError, jsonschema.ValidationError):
        document, valid = None, False
    unit = document.get("work_unit") if isinstance(document, dict) else None
    record = RUNA / "store" / path.parent.name / path.name
    write_json(
        record,
        {
            "path": str(path),
            "status": "valid" if valid else "invalid",
            "content_hash": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "work_unit": unit if isinstance(unit, str) else None,
        },
    )
    modified = path.stat().st_mtime_ns
    return Instance(path.parent.name, path.stem, valid, unit, modified)


def write_json(path: Path, document: object) -> None:
    """Write a file of the store."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def valid_of(types: Iterable[str], instances: Iterable[Instance]) -> list[Instance]:
    """The valid instances of some types."""
    wanted = set(types)
    return [one for one in instances if one.valid and one.type in wanted]


def has_all(types: Iterable[str], instances: Sequence[Instance]) -> bool:
    """Whether every type has a valid instance."""
    return all(valid_of([name], instances) for name in types)


def newest(instances: Iterable[Instance]) -> int:
    """When the last of some instances was written."""
    return max((one.modified for one in instances), default=0)


def triggered(trigger: Mapping[str, Any], instances: Sequence[Instance], outputs_at: int) -> bool:
    """Whether a trigger holds."""
    match trigger:
        case {"type": "on_artifact", "name": name}:
            return bool(valid_of([name], instances))
        case {"type": "on_change", "name": name}:
            return newest(valid_of([name], instances)) > outputs_at
        case {"type": "on_invalid", "name": name}:
            return any(one.type == name and not one.valid for one in instances)
        case {"type": "all_of", "conditions": conditions}:
            return all(triggered(each, instances, outputs_at) for each in conditions)
        case {"type": "any_of", "conditions": conditions}:
            return any(triggered(each, instances, outputs_at) for each in conditions)
    raise InfrastructureError(f"unknown trigger: {trigger}")


def status(protocol: Mapping[str, Any], instances: Sequence[Instance]) -> str:
    """Tell `ready`, `current` (its outputs are newer than its inputs) and `waiting` apart."""
    requires, produces = protocol.get("requires", ()), protocol.get("produces", ())
    outputs_at = newest(valid_of(produces, instances))
    ready = triggered(protocol["trigger"], instances, outputs_at) and has_all(requires, instances)
    inputs_at = newest(valid_of((*requires, *protocol.get("accepts", ())), instances))
    if produces and has_all(produces, instances) and outputs_at >= inputs_at:
        return "current"
    return "ready" if ready else "waiting"
