"""What runa asks of a methodology, so that it is told before a session has cloned anything. Pure.

The rules of `runa init`: a manifest with its keys, a schema for each artifact type, instructions
for each protocol.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

TRIGGERS: Final = ("on_artifact", "on_change", "on_invalid", "all_of", "any_of")
_LISTS: Final = ("requires", "accepts", "produces", "may_produce", "required_output_choices")
_TABLES: Final = {"artifact_types": "artifact type", "protocols": "protocol"}


def schema_path(artifact_type: str) -> str:
    """Where the schema of an artifact type is, below the methodology's directory."""
    return f"schemas/{artifact_type}.schema.json"


def instructions_path(protocol: str) -> str:
    """Where the instructions of a protocol are, below the methodology's directory."""
    return f"protocols/{protocol}/PROTOCOL.md"


def declared(manifest: Mapping[str, Any], key: str) -> list[str]:
    """The names in `artifact_types` or `protocols` that can be parts of a path, each once."""
    names = (row.get("name") for row in _rows(manifest, key))
    sound = (name for name in names if isinstance(name, str) and _name_fault(name) is None)
    return list(dict.fromkeys(sound))


def _rows(manifest: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    rows = manifest.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _name_fault(name: str) -> str | None:
    if not name or "\0" in name or any(part in name for part in ("/", "\\", "..")):
        return "must not be empty nor hold '/', a backslash or '..'"
    return None


def manifest_faults(manifest: Mapping[str, Any]) -> list[str]:
    """What is wrong with the manifest by itself, a sentence each."""
    return list(_manifest_faults(manifest))


def _manifest_faults(manifest: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(manifest.get("name"), str):
        yield "the manifest has no string 'name'"
    for key, what in _TABLES.items():
        value = manifest.get(key)
        if not isinstance(value, list) or len(_rows(manifest, key)) != len(value):
            yield f"the manifest has no array of tables '{key}'"
        yield from _naming_faults(_rows(manifest, key), what)
    for row in _rows(manifest, "protocols"):
        yield from _protocol_faults(row)


def _naming_faults(rows: list[dict[str, Any]], what: str) -> Iterator[str]:
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        name = row.get("name")
        if not isinstance(name, str):
            yield f"{what} {number} has no string 'name'"
        elif fault := _name_fault(name):
            yield f"the name {name!r} of {what} {number} {fault}"
        elif name in seen:
            yield f"{what} {name!r} is declared twice"
        else:
            seen.add(name)


def _protocol_faults(row: Mapping[str, Any]) -> Iterator[str]:
    which = f"protocol {row.get('name')!r}"
    trigger = row.get("trigger")
    if not isinstance(trigger, dict) or trigger.get("type") not in TRIGGERS:
        yield f"{which} has no table 'trigger' whose type is one of {', '.join(TRIGGERS)}"
    for key in _LISTS:
        if not isinstance(row.get(key, []), list):
            yield f"'{key}' of {which} is no array"
    if not isinstance(row.get("scoped", False), bool):
        yield f"'scoped' of {which} is neither true nor false"


def scope_faults(manifest: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[str]:
    """Unscoped protocols with outputs that need a work unit; `schemas` are parsed, by type."""
    return [
        f"protocol {row.get('name')!r} is unscoped, and the schema of its output {output!r}"
        " requires work_unit: set scoped = true, or do not require it"
        for row in _rows(manifest, "protocols")
        if row.get("scoped", False) is False
        for output in _outputs(row)
        if _requires_unit(schemas.get(output))
    ]


def _outputs(row: Mapping[str, Any]) -> list[str]:
    lists = (row.get(key) for key in ("produces", "may_produce"))
    return [each for names in lists if isinstance(names, list) for each in map(str, names)]


def _requires_unit(schema: Any) -> bool:
    required = schema.get("required") if isinstance(schema, dict) else None
    return isinstance(required, list) and "work_unit" in required
