"""Methodologies: a manifest, a schema for each artifact type, instructions for each protocol."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.runa_stand_in import InfrastructureError


@dataclass(frozen=True)
class Methodology:
    """A manifest and the schemas beside it."""

    manifest: Path
    document: dict[str, Any]
    schemas: dict[str, dict[str, Any]]

    @property
    def protocols(self) -> list[dict[str, Any]]:
        """The protocol tables, in the manifest's order."""
        tables: list[dict[str, Any]] = self.document["protocols"]
        return tables

    @property
    def passes_through(self) -> bool:
        """Whether `run` becomes the agent."""
        return self.document.get("stand_in_mode") == "pass-through"

    def prompt(self, protocol: str) -> str:
        """The instructions of a protocol."""
        return (self.manifest.parent / "protocols" / protocol / "PROTOCOL.md").read_text()


def load_methodology(path: Path) -> Methodology:
    """Read a manifest and everything that it requires to exist."""
    if not path.exists():
        raise InfrastructureError(f"methodology not found: {path}")
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InfrastructureError(f"failed to parse methodology manifest {path}: {error}") from None
    check_manifest(document)
    types = [table["name"] for table in document["artifact_types"]]
    schemas = {name: load_schema(path.parent / "schemas" / f"{name}.schema.json") for name in types}
    for protocol in document["protocols"]:
        check_protocol(protocol, path.parent, schemas)
    return Methodology(path, document, schemas)


def check_manifest(document: Mapping[str, Any]) -> None:
    """Refuse a manifest that lacks a key or holds a name that cannot be used."""
    for key, kind in (("name", str), ("artifact_types", list), ("protocols", list)):
        if not isinstance(document.get(key), kind):
            raise InfrastructureError(f"methodology manifest: missing or invalid field `{key}`")
    for key, required in (("artifact_types", ("name",)), ("protocols", ("name", "trigger"))):
        for table, field in itertools.product(document[key], required):
            if field not in table:
                raise InfrastructureError(f"methodology manifest: {key}: missing field `{field}`")
            if key == "artifact_types" and len(table) > 1:
                raise InfrastructureError(f"methodology manifest: {key}: unknown field")
        names = [table["name"] for table in document[key]]
        for name in names:
            if names.count(name) > 1 or any(part in name for part in ("/", "\\", "..")):
                raise InfrastructureError(f"methodology manifest: {key}: invalid name '{name}'")


def load_schema(path: Path) -> dict[str, Any]:
    """Read the schema of an artifact type."""
    try:
        schema: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InfrastructureError(f"failed to read schema {path}: {error}") from None
    return schema


def check_protocol(
    protocol: Mapping[str, Any], root: Path, schemas: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a protocol with keys of another kind, without instructions, or one whose outputs need
    a scope it has not."""
    name = protocol["name"]
    lists = ("requires", "accepts", "produces", "may_produce")
    if not is_trigger(protocol["trigger"]) or not all(
        is_texts(protocol.get(key, [])) for key in lists
    ):
        raise InfrastructureError(f"methodology manifest: protocol '{name}': invalid type")
    for choice in protocol.get("required_output_choices", []):
        if not isinstance(choice.get("name"), str) or not is_texts(choice.get("members")):
            raise InfrastructureError(f"methodology manifest: protocol '{name}': invalid choice")
    if not (root / "protocols" / name / "PROTOCOL.md").is_file():
        raise InfrastructureError(f"protocol '{name}' has no protocols/{name}/PROTOCOL.md")
    for output in (*protocol.get("produces", ()), *protocol.get("may_produce", ())):
        scoped_output = "work_unit" in schemas.get(output, {}).get("required", ())
        if scoped_output and not protocol.get("scoped", False):
            raise InfrastructureError(f"unscoped protocol '{name}' cannot produce '{output}'")


def is_trigger(trigger: Any) -> bool:
    """Whether it is one of the five kinds, with what that kind needs."""
    match trigger:
        case {"type": "on_artifact" | "on_change" | "on_invalid", "name": str()}:
            return True
        case {"type": "all_of" | "any_of", "conditions": [*conditions]}:
            return all(map(is_trigger, conditions))
    return False


def is_texts(value: Any) -> bool:
    """Whether it is an array of strings."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
