"""A stand-in for runa, the runner of methodologies that agentd starts in a session's container.

This is not runa. It does what agentd can see runa do: the files that `init` writes, what it
refuses, and the artifacts, the output and the exit codes of `run`. A methodology whose manifest
says `stand_in_mode = "pass-through"` makes `run` become the agent, for tests of its exit code.

The package is copied into the session image; it needs Python 3.11 and jsonschema there.
"""

from pathlib import Path

VERSION = "0.1.2"
RUNA = Path(".runa")


class InfrastructureError(Exception):
    """Anything that makes a command end with exit code 6."""
