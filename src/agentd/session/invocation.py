"""What a run was asked for, checked against its agent: the parameters of one session. Pure.

The checks that need nothing but text come first and in a fixed order; what needs the disk (the
methodology, mount sources) comes after them, in `session.admission`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from .. import config, repository
from ..errors import (
    CredentialUnavailable,
    InvalidAgent,
    InvalidInvocation,
    RepositoryRefused,
    RepositoryRequired,
)
from ..wire import ArtifactInput, Run, TextInput

MAX_ENTRY_BYTES: Final = 128 * 1024 - 1
"""The longest `NAME=value` that Linux takes at exec: MAX_ARG_STRLEN less its NUL, execve(2)."""

MAX_CREDENTIALS_BYTES: Final = 1024 * 1024
"""All credentials together."""

MAX_EXEC_BYTES: Final = 2 * 1024 * 1024 - 256 * 1024
"""Command, work unit, variables and credentials together: arguments and environment share a quarter
of the stack, 2 MiB where its limit is 8 MiB, execve(2). The rest is for the image and runa."""

_POINTER_BYTES: Final = 8

_LINE_ENDS: Final = frozenset(b"\n\r\0")


class Variable(msgspec.Struct, frozen=True):
    """A credential with its value, which no representation of it shows."""

    name: str
    value: bytes

    def __repr__(self) -> str:
        """The name alone."""
        return f"Variable({self.name!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The name alone: rich, and with it a traceback of its, would show the fields."""
        return [("name", self.name)]


class RepoToken(msgspec.Struct, frozen=True):
    """The clone token with the one origin that may see it; its representation hides it."""

    value: bytes
    scheme: Literal["basic", "bearer"]
    username: str
    origin: str

    def __repr__(self) -> str:
        """All but the token."""
        return f"RepoToken(…, {self.scheme!r}, {self.username!r}, {self.origin!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """All but the token."""
        return [("scheme", self.scheme), ("username", self.username), ("origin", self.origin)]


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one session was asked for."""

    agent: config.Agent
    repo_url: str
    credentials: tuple[Variable, ...]
    repo_token: RepoToken | None = None
    work_unit: str | None = None
    input: TextInput | ArtifactInput | None = None
    trigger: Literal["manual", "schedule"] = "manual"
    shutdown_grace: float = 5.0
    """The daemon's, in seconds, when the run was taken in."""

    @property
    def sensitive_values(self) -> tuple[bytes, ...]:
        """The values that no client and no record may see."""
        token = () if self.repo_token is None else (self.repo_token.value,)
        return tuple(variable.value for variable in self.credentials) + token


def resolve_invocation(
    agents: config.Config, request: Run, environ: Mapping[bytes, bytes]
) -> Invocation:
    """Check `request` against the agent that it names, and read its credentials.

    Raises:
        UnknownAgent, InvalidAgent, RepositoryRequired, RepositoryRefused, InvalidInvocation,
        CredentialUnavailable: the first thing that is wrong, in this order.
    """
    agent = agents.agent(request.agent)
    if problems := config.agent_problems(agent):
        raise InvalidAgent("; ".join(str(problem) for problem in problems))
    if request.timeout is not None:
        agent = msgspec.structs.replace(agent, timeout=request.timeout)
    repo_url = request.repo_url if request.repo_url is not None else agent.repo
    if repo_url is None:
        raise RepositoryRequired(
            f"agent '{agent.name}' requires a repo argument or configured agent repo"
        )
    if fault := repository.url_fault(repo_url):
        raise RepositoryRefused(fault)
    if len(repo_url.encode(errors="surrogatepass")) >= MAX_ENTRY_BYTES:
        raise RepositoryRefused("repo_url must be below 128 KiB, as one argument of a program")
    token = read_repo_token(agent, repo_url, environ)
    _check_intent(request)
    credentials = read_credentials(agent, environ)
    _check_size(agent, request.work_unit or "", credentials)
    return Invocation(
        agent=agent,
        repo_url=repo_url,
        credentials=credentials,
        repo_token=token,
        work_unit=request.work_unit,
        input=request.input,
        trigger=request.trigger,
        shutdown_grace=agents.daemon.shutdown_grace,
    )


def _check_intent(request: Run) -> None:
    if request.work_unit is not None and request.input is not None:
        raise InvalidInvocation(
            "a run takes at most one of work_unit and input: name queued work or give new input"
        )
    unit = request.work_unit
    if unit is not None and (not unit.strip() or "\0" in unit or unit.startswith("-")):
        raise InvalidInvocation("work_unit must not be blank, begin with '-' or hold a NUL byte")
    if unit is not None and not _is_utf8(unit.encode(errors="surrogateescape")):
        raise InvalidInvocation(f"work_unit must be UTF-8: {unit!r}")
    if unit is not None and _entry_bytes("AGENTD_WORK_UNIT", unit.encode()) > MAX_ENTRY_BYTES:
        raise InvalidInvocation("work_unit must be below 128 KiB, as one entry of the environment")


def _check_size(agent: config.Agent, unit: str, credentials: tuple[Variable, ...]) -> None:
    """Refuse what together no exec takes: each by itself may be fine."""
    words = [word.encode() for word in agent.command.argv]
    entries = [(name, value.encode()) for name, value in agent.environment.items()]
    entries += [(variable.name, variable.value) for variable in credentials]
    sizes = [len(word) for word in (*words, unit.encode(), unit.encode())]
    sizes += [_entry_bytes(*entry) for entry in entries]
    total = sum(size + 1 + _POINTER_BYTES for size in sizes)
    if total > MAX_EXEC_BYTES:
        raise InvalidInvocation(
            f"agent '{agent.name}': command, variables, credentials and work unit come to {total}"
            f" bytes, and one program can be started with {MAX_EXEC_BYTES}: mount a file instead"
        )


def _entry_bytes(name: str, value: bytes) -> int:
    """The size of an entry of the environment, less its NUL."""
    return len(name) + len("=") + len(value)


def read_repo_token(
    agent: config.Agent, repo_url: str, environ: Mapping[bytes, bytes]
) -> RepoToken | None:
    """The clone token; a variable that is unset or empty means cloning without one.

    Raises:
        RepositoryRefused: no token may go to `repo_url`, or this one is bound to nothing.
        CredentialUnavailable: it is no token.
    """
    value = environ.get((agent.repo_token_source or "").encode(), b"")
    if not value:
        return None
    declared = agent.repo_token
    origin = repository.token_origin(agent.repo, declared.origin)
    if origin is None:
        raise RepositoryRefused(
            f"agent '{agent.name}' has a clone token that is bound to no origin:"
            " give it a repo or repo_token.origin"
        )
    if fault := repository.token_fault(repo_url, origin):
        raise RepositoryRefused(fault)
    if set(value) & _LINE_ENDS or len(value) > MAX_ENTRY_BYTES:
        raise CredentialUnavailable(
            f"agent '{agent.name}': the clone token in '{agent.repo_token_source}'"
            " must be one line, without a NUL byte, and below 128 KiB"
        )
    return RepoToken(value, declared.scheme, declared.username, origin)


def read_credentials(agent: config.Agent, environ: Mapping[bytes, bytes]) -> tuple[Variable, ...]:
    """All credentials of an agent. Raises `CredentialUnavailable` for the first that cannot be."""
    variables = tuple(read_credential(agent, declared, environ) for declared in agent.credentials)
    total = sum(len(variable.value) for variable in variables)
    if total > MAX_CREDENTIALS_BYTES:
        raise CredentialUnavailable(
            f"agent '{agent.name}': its credentials come to {total} bytes,"
            f" and {MAX_CREDENTIALS_BYTES} is the limit for all together"
        )
    return variables


def read_credential(
    agent: config.Agent, declared: config.Credential, environ: Mapping[bytes, bytes]
) -> Variable:
    """One credential. Raises `CredentialUnavailable` when there is none that can be injected."""
    whose = f"agent '{agent.name}' credential '{declared.name}'"
    value = environ.get(declared.source.encode())
    if value is None or not _is_utf8(value):
        state = "" if value is None else " to be UTF-8"
        raise CredentialUnavailable(
            f"{whose} requires daemon environment variable '{declared.source}'{state}"
        )
    if b"\0" in value:
        raise CredentialUnavailable(f"{whose} holds a NUL byte, which no environment entry can")
    if _entry_bytes(declared.name, value) > MAX_ENTRY_BYTES:
        raise CredentialUnavailable(
            f"{whose} is {len(value)} bytes long, which no environment entry can hold (128 KiB)"
        )
    return Variable(declared.name, value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
