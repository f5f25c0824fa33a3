"""What README.md and docs/ must tell an operator, by the rows of the contract that ask for it."""

from __future__ import annotations

import pytest

from testbed import documents

WORDS = {
    "DEP-01": (
        ("docs/deployment.md", "you build the image"),
        ("docs/deployment.md", "is its client, and must be of the same build"),
        ("README.md", "from an image that you build, as a Quadlet"),
    ),
    "DEP-08": (
        ("docs/deployment.md", 'socket_path = "/run/agentd/agentd.sock"'),
        ("docs/deployment.md", 'pid_file = "/run/agentd/agentd.pid"'),
        ("docs/deployment.md", 'audit_root = "/var/lib/tesserine/audit"'),
    ),
    "DEP-12": (("docs/deployment.md", "plain containers of the host's service, beside it"),),
    "DEP-14": (
        ("docs/deployment.md", "same user must be able to use the Podman socket and the runtime"),
    ),
    "DEP-15": (("docs/deployment.md", "must be exported into its container before it starts"),),
    "DEP-16": (("docs/deployment.md", "label your own `mounts.source` before"),),
    "DEP-17": (
        ("docs/deployment.md", "which every rootful installation should set"),
        ("docs/deployment.md", 'stays `audit_root = "/var/lib/tesserine/audit"`'),
    ),
    "DEP-18": (
        ("docs/deployment.md", "<https://github.com/tesserine/runa>, must be 0.1.2 or newer"),
        ("docs/deployment.md", "that of commons v0.1.1 or newer"),
    ),
    "DOC-01": (
        ("docs/operations.md", "Client and daemon must be of one build"),
        ("docs/operations.md", "Install both, then restart the daemon"),
        ("docs/operations.md", "They meet at `$XDG_RUNTIME_DIR/agentd/agentd.sock`"),
        ("docs/operations.md", "There is no fallback to `/tmp` or `/run`"),
    ),
    "DOC-02": (
        ("docs/deployment.md", "/var/lib/tesserine/audit"),
        ("docs/operations.md", "records grow without bound"),
        ("docs/security.md", "The host has one operator"),
        ("docs/operations.md", "whose `session.json` has no `outcome` is incomplete"),
        ("docs/operations.md", "the log says in the lines that have its `session_id`"),
        ("README.md", "A repository must not have a `.runa` entry at its root"),
    ),
    "DOC-03": (
        ("docs/operations.md", "The socket is the single intake"),
        ("docs/operations.md", "scheduler is one more client of it"),
    ),
    "DOC-04": (
        ("README.md", "Model inference and MCP belong to the agent inside the container"),
        ("README.md", "agentd provides neither"),
    ),
}
"""Words of the documents, and the promise that they keep; how lines are broken does not matter."""


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(document, words, marks=pytest.mark.contract(row), id=f"{row}-{words}")
        for row, told in WORDS.items()
        for document, words in told
    ],
)
def test_a_document_says_what_was_promised(document: str, words: str) -> None:
    assert words in " ".join((documents.PROJECT / document).read_text().split())


@pytest.mark.contract("DEP-08", "DEP-11")
@pytest.mark.parametrize("unit", ["quadlet/agentd.container", "systemd/agentd.service"])
def test_the_recommended_settings_are_those_of_the_units(unit: str) -> None:
    text = (documents.PROJECT / "examples" / unit).read_text()
    assert ":/run/agentd" in text
    assert "/var/lib/tesserine/audit:/var/lib/tesserine/audit" in text
