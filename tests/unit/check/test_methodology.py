"""What the doctor says of a methodology, beside what a runa makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.check.finding import Finding
from agentd.check.methodology_look import methodology_findings, scheduled_request_finding
from agentd.check.methodology_rules import manifest_faults, scope_faults
from testbed.runa_stand_in import InfrastructureError
from testbed.runa_stand_in.methodology import load_methodology

SOUND = Path(__file__).parents[3] / "testbed/methodology"
MANIFEST = (SOUND / "manifest.toml").read_text()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(SOUND, tmp_path / "methodology")
    return tmp_path / "methodology"


def edited(old: str, new: str) -> Callable[[Path], object]:
    assert old in MANIFEST
    return lambda root: (root / "manifest.toml").write_text(MANIFEST.replace(old, new))


def trigger(text: str) -> Callable[[Path], object]:
    return edited('{ type = "on_artifact", name = "request" }', text)


def removed(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


def found(directory: Path) -> list[Finding]:
    return methodology_findings(directory, "worker")


@pytest.mark.contract("B-04", "B-05")
def test_a_sound_methodology_is_one_finding(directory: Path) -> None:
    (finding,) = found(directory)
    assert (finding.status, finding.agent) == ("ok", "worker")
    assert "2 artifact types, 1 protocols" in finding.text


DAMAGE = {
    "no manifest": (removed("manifest.toml"), "must contain manifest.toml"),
    "no TOML": (edited("[[protocols]]", "[[protocols]"), "is no TOML"),
    "no name": (edited('name = "answer-requests"', ""), "no string 'name'"),
    "a name that is no string": (edited('name = "answer-requests"', "name = 1"), "string 'name'"),
    "no types": (edited("artifact_types", "types"), "'artifact_types'"),
    "no protocols": (edited("[[protocols]]", "[[others]]"), "'protocols'"),
    "no trigger": (edited("trigger", "when"), "is no table whose type is one of"),
    "a trigger that is a string": (trigger('"on_artifact"'), "is no table whose type"),
    "a trigger of no kind": (trigger('{ type = "at_noon" }'), "on_artifact, on_change, on_invalid"),
    "a trigger without a name": (trigger('{ type = "on_change" }'), "no string 'name'"),
    "a trigger without a list": (trigger('{ type = "all_of" }'), "no array 'conditions'"),
    "a trigger in a trigger": (
        trigger('{ type = "any_of", conditions = [{ type = "on_invalid", name = 1 }] }'),
        "is on_invalid and has no string 'name'",
    ),
    "a list of numbers": (edited('["request"]', "[1]"), "'requires' of protocol 'answer'"),
    "a choice without members": (
        edited('requires = ["request"]', 'required_output_choices = [{ name = "one" }]'),
        "'required_output_choices'",
    ),
    "a type with a schema of its own": (
        edited('name = "report"', 'name = "report"\nschema = "x"'),
        "a key 'schema', and may only have 'name'",
    ),
    "a type twice": (edited('name = "report"', 'name = "request"'), "'request' is declared twice"),
    "a type outside": (edited('name = "report"', 'name = "../report"'), "must not be empty nor"),
    "no schema": (removed("schemas/report.schema.json"), "cannot read"),
    "a schema that is no JSON": (written("schemas/report.schema.json", "{"), "is no JSON"),
    "no instructions": (removed("protocols/answer/PROTOCOL.md"), "there is no"),
    "an output that needs a unit": (
        written("schemas/report.schema.json", '{"required": ["work_unit"]}'),
        "requires work_unit",
    ),
}


@pytest.mark.contract("F-47", "B-04", "B-05")
@pytest.mark.parametrize(("damage", "text"), DAMAGE.values(), ids=DAMAGE)
def test_what_runa_refuses_is_found_with_a_remedy(
    directory: Path, damage: Callable[[Path], object], text: str
) -> None:
    damage(directory)
    with pytest.raises(InfrastructureError):
        load_methodology(directory / "manifest.toml")
    findings = found(directory)
    assert {(each.status, each.name) for each in findings} == {("fail", "methodology")}
    assert any(text in each.text and each.remedy for each in findings), findings


@pytest.mark.contract("F-47")
def test_all_faults_are_told_at_once(directory: Path) -> None:
    for name in ("no schema", "no instructions"):
        DAMAGE[name][0](directory)
    assert len(found(directory)) == 2


@pytest.mark.contract("B-19")
@pytest.mark.parametrize(
    "text",
    [
        '{ type = "all_of", conditions = [] }',
        '{ type = "any_of", conditions = [{ type = "on_change", name = "report" }] }',
    ],
)
def test_triggers_made_of_triggers_are_sound(directory: Path, text: str) -> None:
    trigger(text)(directory)
    load_methodology(directory / "manifest.toml")
    assert [each.status for each in found(directory)] == ["ok"]


def test_a_trigger_may_be_nested_as_deep_as_toml_can_be() -> None:
    nested: dict[str, Any] = {"type": "on_artifact", "name": "request"}
    for _ in range(100_000):
        nested = {"type": "all_of", "conditions": [nested]}
    protocol = {"name": "answer", "trigger": nested}
    manifest = {"name": "m", "artifact_types": [], "protocols": [protocol]}
    assert manifest_faults(manifest) == []


def test_an_unscoped_protocol_may_do_without_an_output_that_needs_a_unit() -> None:
    schemas: dict[str, Any] = {"report": {"required": ["work_unit"]}}
    scoped = {"protocols": [{"name": "a", "produces": ["report"], "scoped": True}]}
    other = {"protocols": [{"name": "a", "produces": ["request"]}]}
    assert (scope_faults(scoped, schemas), scope_faults(other, schemas)) == ([], [])


@pytest.mark.parametrize("value", [None, 1, "x", {}, [1], [None]])
def test_tables_of_any_form_are_faults_and_no_errors(value: Any) -> None:
    manifest = {"name": "m", "artifact_types": value, "protocols": value}
    assert len(manifest_faults(manifest)) == 2


def test_a_scheduled_request_must_be_one_that_the_methodology_takes(directory: Path) -> None:
    taken = scheduled_request_finding(directory, "Bring it up to date.", "worker")
    removed("schemas/request.schema.json")(directory)
    refused = scheduled_request_finding(directory, "Bring it up to date.", "worker")
    assert (taken.status, refused.status) == ("ok", "fail")
    assert refused.remedy
