"""What is wanted of a run, as options of a command line: the same for `run` and for `plan`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from .. import wire
from ..errors import UsageError
from ..strict_json import parse_json
from .duration import duration

Words = Annotated[str | None, Parameter(allow_leading_hyphen=True)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """The options that say what a session is to do. Raises `UsageError` if they make no sense."""

    work_unit: str | None = None
    """Queued work that the session is to take up."""

    request: Words = None
    """What you want done, in words."""

    artifact_type: str | None = None
    """The type of the artifact in --artifact-file."""

    artifact_file: Path | None = None
    """A JSON file that becomes an artifact, named as the file is."""

    timeout: str | None = None
    """How long the session may take, such as 90s or 2h, in place of the agent's own."""

    def __post_init__(self) -> None:
        given = {
            "--work-unit": self.work_unit,
            "--request": self.request,
            "--artifact-file": self.artifact_file,
        }
        chosen = [flag for flag, value in given.items() if value is not None]
        if len(chosen) > 1:
            raise UsageError(
                f"{' and '.join(chosen)} cannot be used together: a run has one purpose"
            )
        if self.artifact_file is not None and self.artifact_type is None:
            raise UsageError("--artifact-file needs --artifact-type, which says what the file is")
        if self.artifact_type is not None and self.artifact_file is None:
            raise UsageError("--artifact-type needs --artifact-file, the artifact itself")

    def options(self, agent: str, repo: str | None) -> wire.RunOptions:
        """What a client is asked for; reads the artifact's file.

        Raises:
            UsageError: a word is no text, or the file or the duration is not what it has to be.
        """
        _check_text(agent, repo, self.work_unit, self.request, self.artifact_type)
        return {
            "repo": repo,
            "work_unit": self.work_unit,
            "request": self.request,
            "artifact": _artifact(self.artifact_type, self.artifact_file),
            "timeout": None if self.timeout is None else duration(self.timeout, "--timeout"),
        }


NO_FLAGS: Final = RunFlags()
"""A run of which nothing is wanted but its agent."""


def _check_text(*words: str | None) -> None:
    """Refuse words that are no text: they could reach neither the daemon nor the agent as typed."""
    for word in filter(None, words):
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{word!r} is not UTF-8; only paths may be anything else") from None


def _artifact(artifact_type: str | None, artifact_file: Path | None) -> wire.ArtifactInput | None:
    if artifact_type is None or artifact_file is None:
        return None
    return wire.ArtifactInput(
        artifact_type=artifact_type,
        artifact_id=_artifact_id(artifact_file),
        document=_document(artifact_file),
    )


def _artifact_id(file: Path) -> str:
    try:
        file.stem.encode()
    except UnicodeEncodeError:
        raise UsageError(f"artifact file must have a non-empty UTF-8 file stem: {file!r}") from None
    if not file.stem:
        raise UsageError(f"artifact file must have a non-empty UTF-8 file stem: {file}")
    return file.stem


def _document(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"failed to read artifact file {file}: {error.strerror}") from error
    try:
        parse_json(content)
    except UnicodeDecodeError:
        raise UsageError(f"artifact file must be valid UTF-8 JSON: {file}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"artifact file must contain valid JSON {file}: {error}") from None
    return content
