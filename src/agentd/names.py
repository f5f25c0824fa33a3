"""Names that agentd gives to things, and the rules for names it is given. No I/O.

One session id names everything that belongs to a session; one instance id tells the containers
and secrets of one daemon from those of another. Both are part of every Podman name, so that what
a crashed daemon left behind can be found from the name alone.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

from .errors import UnknownSession

AGENT_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""An agent's name is also its Unix user's name in the container, hence 32 characters at most."""

RESERVED_AGENT_NAMES: Final = ("root", "nobody", "daemon", "bin", "sys", "man", "mail")

VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

RESERVED_VARIABLES: Final = frozenset(
    {
        *("AGENT_NAME", "HOME", "UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS"),
        *("BASH_VERSINFO", "GROUPS", "OPTIND"),
        *("_", "SHLVL", "RANDOM", "SRANDOM", "SECONDS", "EPOCHSECONDS", "EPOCHREALTIME", "LINENO"),
        *("BASHPID", "BASH_SUBSHELL", "BASH_COMMAND", "BASH_ARGC", "BASH_ARGV", "BASH_LINENO"),
        *("BASH_SOURCE", "BASH_ALIASES", "BASH_CMDS", "FUNCNAME", "DIRSTACK", "HISTCMD"),
    }
)
"""Variables that agentd or the shell sets itself: `HOME` is gosu's; the rest are read-only or
computed in bash, where assigning one ends the setup script or does nothing."""

RESERVED_VARIABLE_PREFIX: Final = "AGENTD_"

_SESSION_ID: Final = re.compile(r"[0-9a-f]{16}")
_INSTANCE_ID: Final = re.compile(r"[0-9a-f]{8}")
_CONTAINER: Final = re.compile(
    rf"agentd-(?P<instance>{_INSTANCE_ID.pattern})"
    rf"-(?P<agent>{AGENT_NAME.pattern})-(?P<session>{_SESSION_ID.pattern})"
)
_SECRET: Final = re.compile(
    rf"agentd-(?P<instance>{_INSTANCE_ID.pattern})"
    rf"-(?P<session>{_SESSION_ID.pattern})-(?:[0-9]+|repo-token)"
)


class Label:
    """Labels on every session container: all that is needed to take a session up again."""

    INSTANCE: Final = "agentd.instance"
    SESSION: Final = "agentd.session"
    AGENT: Final = "agentd.agent"
    RECORD: Final = "agentd.record"
    STARTED: Final = "agentd.started"
    DEADLINE: Final = "agentd.deadline"


class ContainerName(NamedTuple):
    """The parts of a session container's name."""

    instance: str
    agent: str
    session: str


class Identity(NamedTuple):
    """Whose a Podman resource is: the daemon's instance and the session."""

    instance: str
    session: str


def agent_name_fault(name: str) -> str | None:
    """Why `name` cannot name an agent, as a clause, or None when it can."""
    if not AGENT_NAME.fullmatch(name):
        return (
            "an agent name must already be a unix username: a lowercase letter, then lowercase"
            " letters, digits, '_' or '-', 32 characters at most"
        )
    if name in RESERVED_AGENT_NAMES:
        return f"these names are reserved: {', '.join(RESERVED_AGENT_NAMES)}"
    return None


def variable_name_fault(name: str) -> str | None:
    """Why `name` cannot name a variable of the session, as a clause, or None when it can."""
    if not VARIABLE_NAME.fullmatch(name):
        return "use letters, digits and '_', not beginning with a digit"
    if name in RESERVED_VARIABLES or name.startswith(RESERVED_VARIABLE_PREFIX):
        return (
            f"{', '.join(sorted(RESERVED_VARIABLES))} and {RESERVED_VARIABLE_PREFIX}* are reserved"
        )
    return None


def new_session_id() -> str:
    """A fresh session id: 8 random bytes as 16 lowercase hex digits."""
    return secrets.token_hex(8)


def is_session_id(text: str) -> bool:
    """Whether `text` is a whole session id."""
    return _SESSION_ID.fullmatch(text) is not None


def chosen_session(wanted: str, ids: Iterable[str]) -> str:
    """The one of the session ids that is `wanted` or begins with it.

    Raises:
        UnknownSession: there is none, or more than one.
    """
    found = sorted(known for known in ids if wanted and known.startswith(wanted))
    if not found:
        raise UnknownSession(f"there is no session '{wanted}'; 'agentd ps' lists the live ones")
    if len(found) > 1:
        raise UnknownSession(f"'{wanted}' fits {len(found)} sessions: {', '.join(found[:5])}, …")
    return found[0]


def is_instance_id(text: str) -> bool:
    """Whether `text` is a daemon instance id."""
    return _INSTANCE_ID.fullmatch(text) is not None


def lexically_normal(path: str) -> str:
    """`path` without `.`, `..` and doubled slashes, by its text alone."""
    normal = posixpath.normpath(path)
    return "/" + normal.lstrip("/") if path.startswith("/") else normal


def instance_id(socket_path: str, pid_file: str, audit_root: str) -> str:
    """The 8 hex digits that mark the Podman resources of one daemon.

    The audit root takes part because it is the one path that a containerized daemon shares with
    its host: two daemon containers with the same inner socket path still differ.

    Raises:
        ValueError: a path is not absolute; the message names the key.
    """
    paths = {"socket_path": socket_path, "pid_file": pid_file, "audit_root": audit_root}
    for key, path in paths.items():
        if not path.startswith("/"):
            raise ValueError(
                f"field 'daemon.{key}' must be absolute before deriving daemon instance id: {path}"
            )
    text = "".join(
        f"{word}={lexically_normal(path)}\n"
        for word, path in zip(("socket", "pid", "audit"), paths.values(), strict=True)
    )
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def instance_prefix(instance: str) -> str:
    """How the names of all that a daemon makes in Podman begin."""
    return f"agentd-{instance}-"


def container_name(whose: Identity, agent: str) -> str:
    """The name of a session's container."""
    return f"agentd-{whose.instance}-{agent}-{whose.session}"


def parse_container_name(name: str) -> ContainerName | None:
    """The parts of a container name of ours, or None for any other name."""
    match = _CONTAINER.fullmatch(name)
    return ContainerName(**match.groupdict()) if match else None


def secret_prefix(whose: Identity) -> str:
    """How the names of all secrets of a session begin."""
    return f"agentd-{whose.instance}-{whose.session}-"


def secret_name(whose: Identity, index: int) -> str:
    """The name of the secret that carries the credential at position `index`."""
    return f"{secret_prefix(whose)}{index}"


def repo_token_secret_name(whose: Identity) -> str:
    """The name of the secret that carries the clone token."""
    return f"{secret_prefix(whose)}repo-token"


def parse_secret_name(name: str) -> Identity | None:
    """Whose secret this is, or None for any name that is not exactly one of ours."""
    match = _SECRET.fullmatch(name)
    return Identity(**match.groupdict()) if match else None
