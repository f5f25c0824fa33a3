"""Does a document fit a JSON Schema? Asked of a process of its own, which can be ended.

A `pattern` can keep Python's regular expressions busy for ever, and while one is matched no other
thread of its process runs: in the daemon it would stop every session.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final, Literal

import msgspec

from .errors import HostUnsupported

CHECK_SECONDS: Final = 20
"""What one check may take, below the bound of all checks on disk. Most take a fifth of a second."""


class Question(msgspec.Struct, frozen=True):
    """A schema and a document, both as the bytes of their files."""

    schema: bytes
    document: bytes


class Verdict(msgspec.Struct, frozen=True):
    """What is wrong, if anything, and with which of the two; `text` says why, in UTF-8."""

    fault: Literal["mismatch", "document", "schema"] | None = None
    text: str = ""


def check(question: Question) -> Verdict:
    """Judge a document, within `CHECK_SECONDS`. Blocking.

    Raises:
        HostUnsupported: no process can be started.
    """
    try:
        done = subprocess.run(
            # -P: the working directory is no place to import from.
            [sys.executable, "-P", "-m", f"{__package__}.schema_judge", str(CHECK_SECONDS)],
            input=msgspec.msgpack.encode(question),
            capture_output=True,
            check=False,
            timeout=CHECK_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return _unfinished(f"it takes more than {CHECK_SECONDS} s")
    except OSError as error:
        raise HostUnsupported(
            f"inputs cannot be checked: {sys.executable} cannot be started: {error.strerror}"
        ) from error
    if done.returncode < 0:
        return _unfinished(f"the check was ended by signal {-done.returncode}")
    if done.returncode > 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _unfinished(last or f"the check ended with status {done.returncode}")
    return msgspec.msgpack.decode(done.stdout, type=Verdict)


def _unfinished(reason: str) -> Verdict:
    return Verdict("schema", f"it cannot be applied to the document: {reason}")
