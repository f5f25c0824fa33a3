"""Inputs: handed to the session byte for byte, or refused before anything exists."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentd import wire
from agentd.client import connect
from agentd.errors import InputRefused
from testbed.agentd_client import Record
from testbed.agentd_process import Agentd, Table

pytestmark = pytest.mark.live

USAGE, INFRASTRUCTURE = 2, 6
CANONICAL = {"x-tesserine-canonical": {"version": "1.0.0"}}
ODD_TYPE = "odd type's *\"`id`$HOME\\n"[:-2]

# What a parser and a writer of JSON would change, and what a shell would.
ODD_DOCUMENT = (
    '\r\n{ "z" : 1.0e2,\t"a":"\\u00fc\\/ü 日本",\r\n\r\n'
    ' "n": 123456789012345678901234567890.10, "id": 1, "$HOME": "`id` \'q\' %s \\\\"}  \n\n\n'
).encode()
LARGE_DOCUMENT = b'{"id": "' + b"0123456789abcdef" * (7 * 2**16) + b'"}'

NAMES = {
    "quoted": (ODD_TYPE, "'q' \"w\" ;#&|<> $(id) * ?"),
    "option": ("--help", "-rf"),
    "lines": ("ünï-日本", "two\nlines\n"),
    "longest": ("t" * 243, "i" * 250),
    "dots": (".hidden", "..."),
}

# The agent's own look at what lies in its workspace.
LOOK = """\
find .runa/workspace -type f -exec stat -c '%U:%G %a' {} + >.runa/owners
find .runa/workspace -type f -exec sha256sum -z {} + >.runa/digests
find .runa/workspace -type d ! -user "$AGENT_NAME" >.runa/not-mine
find .runa/workspace -type f -exec sh -c 'for f; do echo more >>"$f"; done' sh {} +
ls -lan /agentd/invocation-input >.runa/mount
echo x 2>/dev/null >>/agentd/invocation-input/document.json || echo refused >.runa/read-only
"""


def make_methodology(directory: Path) -> Path:
    """A methodology with odd types, and with types whose schemas cannot be used."""
    schemas: dict[str, object] = {
        name: {"required": ["id"]} for name in ("claim", *(type for type, _ in NAMES.values()))
    }
    schemas |= {
        "request": CANONICAL | {"required": ["description"]},
        "unknown-dialect": {"$schema": "https://example.org/dialect"},
        "file": {"$ref": "file:///etc/passwd"},
        "urn": {"$dynamicRef": "urn:example:elsewhere"},
    }
    (directory / "schemas").mkdir(parents=True)
    for name, schema in schemas.items():
        (directory / f"schemas/{name}.schema.json").write_text(json.dumps(schema))
    (directory / "protocols/answer").mkdir(parents=True)
    (directory / "protocols/answer/PROTOCOL.md").write_text("# Answer\n")
    types = "".join(
        f"[[artifact_types]]\nname = {json.dumps(name, ensure_ascii=False)}\n"
        for name in (*schemas, "schemaless", "remote")
    )
    protocol = 'name = "answer"\ntrigger = { type = "on_artifact", name = "request" }\n'
    (directory / "manifest.toml").write_text(
        f'stand_in_mode = "pass-through"\nname = "odd"\n{types}[[protocols]]\n{protocol}'
    )
    return directory


@pytest.fixture(scope="module")
def methodology(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_methodology(tmp_path_factory.mktemp("odd inputs") / "methodology, 'quoted' ü")


@pytest.fixture(scope="module")
def agentd(
    start_agentd: Callable[..., Agentd], declare: Callable[..., Table], methodology: Path
) -> Agentd:
    # The session's own runa wants every schema of the manifest to be there.
    whole = make_methodology(methodology.parent / "whole")
    for name in ("schemaless", "remote"):
        (whole / f"schemas/{name}.schema.json").write_text("{}")
    command = {"argv": ["/bin/sh", "-c", LOOK]}
    versions = {"future": "2.0.0", "unversioned": None}
    gated = {}
    for name, version in versions.items():
        gated[name] = make_methodology(methodology.parent / name)
        schema = {"x-tesserine-canonical": {"version": version}} if version else {}
        (gated[name] / "schemas/request.schema.json").write_text(json.dumps(schema))
    untyped = methodology.parent / "untyped"
    untyped.mkdir()
    (untyped / "manifest.toml").write_text("")
    return start_agentd(
        declare(methodology_dir=str(whole), command=command),
        declare("refuser", methodology_dir=str(methodology)),
        declare("untyped", methodology_dir=str(untyped)),
        *(declare(name, methodology_dir=str(path)) for name, path in gated.items()),
    )


async def run_with(agentd: Agentd, type: str, id: str, document: bytes) -> Record:
    """The record of a finished session with an artifact."""
    given = wire.ArtifactInput(artifact_type=type, artifact_id=id, document=document)
    async with connect(agentd.socket) as client, client.run("worker", artifact=given) as session:
        finished = await session.wait()
    assert str(finished.outcome) == "success", finished
    assert session.record is not None
    return Record(session.record)


@pytest.mark.contract("F-50", "INP-17", "ENV-25", "DSP-10")
async def test_a_large_document_reaches_the_agent_whole(agentd: Agentd) -> None:
    record = await run_with(agentd, "claim", "claim-42", LARGE_DOCUMENT)
    digest, path = record.read("digests").rstrip("\0").split("  ", 1)
    expected = hashlib.sha256(LARGE_DOCUMENT).hexdigest()
    assert (digest, path) == (expected, ".runa/workspace/claim/claim-42.json")


@pytest.mark.contract("F-50", "INP-15", "INP-16", "INP-17", "ENV-28")
@pytest.mark.parametrize("names", NAMES)
async def test_an_artifact_may_have_any_name_that_a_file_can_have(
    agentd: Agentd, names: str
) -> None:
    type, id = NAMES[names]
    record = await run_with(agentd, type, id, b'{"id":1}')
    placed = [path for path in (record.runa / "workspace").rglob("*") if path.is_file()]
    assert placed == [record.runa / "workspace" / type / f"{id}.json"]


@pytest.fixture(scope="module")
def seen(agentd: Agentd, tmp_path_factory: pytest.TempPathFactory) -> Record:
    document = tmp_path_factory.mktemp("given") / "claim-7.json"
    document.write_bytes(ODD_DOCUMENT)
    ended = agentd.run("worker", "--artifact-type", "claim", "--artifact-file", str(document))
    assert ended.code == 0, ended
    return ended.record


@pytest.mark.contract("F-50", "INP-17", "ENV-25")
def test_a_document_reaches_the_agent_byte_for_byte(seen: Record) -> None:
    digest, path = seen.read("digests").rstrip("\0").split("  ", 1)
    expected = hashlib.sha256(ODD_DOCUMENT).hexdigest()
    assert (digest, path) == (expected, ".runa/workspace/claim/claim-7.json")


@pytest.mark.contract("ENV-25", "INP-17")
def test_a_placed_document_is_the_agents_own(seen: Record) -> None:
    owner, mode = seen.read("owners").split()
    assert (owner, int(mode, 8) & 0o600) == ("worker:worker", 0o600)
    assert seen.read("not-mine") == ""


@pytest.mark.contract("F-50", "INP-03")
def test_the_record_keeps_the_document_whatever_the_agent_makes_of_its_copy(seen: Record) -> None:
    kept = (seen.directory / "agentd/invocation-input/document.json").read_bytes()
    placed = (seen.runa / "workspace/claim/claim-7.json").read_bytes()
    assert (kept, placed) == (ODD_DOCUMENT, ODD_DOCUMENT + b"more\n")


@pytest.mark.contract("ENV-09")
def test_the_mounted_document_is_read_only(seen: Record) -> None:
    assert " document.json\n" in seen.read("mount")
    assert seen.read("read-only") == "refused\n"


@pytest.mark.contract("F-18")
def test_only_the_daemons_user_can_reach_a_document_on_the_host(
    agentd: Agentd, seen: Record
) -> None:
    """No copy outside the record: the record's own root is closed to others."""
    assert agentd.audit_root.stat().st_mode & 0o777 == 0o700


# --- refusals ------------------------------------------------------------------------------------


REFUSED = {
    "undeclared": ("refuser", "nothing", "x", b"{}", "artifact type 'nothing' is not declared"),
    "schemaless": ("refuser", "schemaless", "x", b"{}", "failed to read schema"),
    "mismatch": ("refuser", "claim", "x", b"{}", "does not match the methodology schema"),
    "doubled": ("refuser", "claim", "x", b'{"id":1,"id":2}', "the key 'id' occurs twice"),
    "dialect": ("refuser", "unknown-dialect", "x", b"{}", "'https://example.org/dialect'"),
    "file": ("refuser", "file", "x", b"{}", "'file:///etc/passwd'"),
    "urn": ("refuser", "urn", "x", b"{}", "'urn:example:elsewhere'"),
    "parent": ("refuser", "..", "x", b"{}", "artifact type must be a single path segment"),
    "slash": ("refuser", "claim", "a/b", b'{"id":1}', "artifact id must be a single path segment"),
    "long": ("refuser", "claim", "i" * 251, b'{"id":1}', "artifact id must not be above 250 bytes"),
    "nested": ("refuser", "claim", "x", b"[" * 10**6, "artifact input must be valid JSON"),
}


@pytest.mark.contract("INP-03", "INP-12", "INP-13", "INP-14", "INP-15", "SES-04")
@pytest.mark.parametrize("case", REFUSED)
async def test_an_artifact_is_refused_by_name_and_leaves_nothing(agentd: Agentd, case: str) -> None:
    agent, type, id, document, text = REFUSED[case]
    before = agentd.records()
    given = wire.ArtifactInput(artifact_type=type, artifact_id=id, document=document)
    async with connect(agentd.socket) as client:
        with pytest.raises(InputRefused) as caught:
            async with client.run(agent, artifact=given) as session:
                await session.wait()
    assert text in caught.value.message
    assert agentd.records() == before
    agentd.assert_nothing_left()


UNSUPPORTED = "methodology does not support operator request input: "


@pytest.mark.contract("INP-03", "INP-06", "INP-08", "INP-09", "INP-10", "SES-04")
@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        ("untyped", "the manifest declares no artifact type 'request'"),
        ("future", "canonical request version 2.0.0 is not supported"),
        ("unversioned", "request schema must declare x-tesserine-canonical.version"),
    ],
)
def test_a_request_that_the_methodology_does_not_know_leaves_nothing(
    agentd: Agentd, agent: str, reason: str
) -> None:
    before = agentd.records()
    ended = agentd.run(agent, "--request", "do it")
    assert (ended.code, ended.stderr) == (USAGE, f"agentd: {UNSUPPORTED}{reason}\n")
    assert agentd.records() == before
    agentd.assert_nothing_left()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.mark.contract("INP-14")
async def test_nobody_is_asked_for_a_schema(
    agentd: Agentd, methodology: Path, listening: socket.socket
) -> None:
    """A server listens at the very address that the schema refers to, and hears nothing."""
    address = "http://{}:{}/claim.schema.json".format(*listening.getsockname())
    (methodology / "schemas/remote.schema.json").write_text(json.dumps({"$ref": address}))
    given = wire.ArtifactInput(artifact_type="remote", artifact_id="x", document=b"{}")
    async with connect(agentd.socket) as client:
        with pytest.raises(InputRefused, match=address):
            async with client.run("refuser", artifact=given) as session:
                await session.wait()
    with pytest.raises(BlockingIOError):
        listening.accept()


@pytest.mark.contract("INP-21")
def test_without_input_the_manifest_is_not_read(agentd: Agentd) -> None:
    """It ends in the session, where runa is told of it; agentd itself has no complaint."""
    ended = agentd.run("untyped")
    assert (ended.code, "setup step 'runa-init' failed" in ended.stderr) == (INFRASTRUCTURE, True)
