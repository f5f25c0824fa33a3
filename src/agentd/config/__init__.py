"""The configuration: what an operator declares, read from TOML and held to its rules.

`schema` has the values, `quantities` durations and sizes, `decode` the reading of a document,
`rules` what values may be, `problems` how a fault is told, `loading` the one door to a file,
`changes` what differs between two.
"""

from ..quantities import parse_duration, parse_size
from .changes import Changes, changes
from .loading import (
    load,
    load_audit_root,
    load_daemon,
    parse,
    resolve_audit_root,
    with_runtime_paths,
)
from .problems import Problem
from .rules import agent_problems
from .schema import (
    Agent,
    Command,
    Config,
    Credential,
    Daemon,
    Isolation,
    Limits,
    Mount,
    RepoToken,
)

__all__ = [
    "Agent",
    "Changes",
    "Command",
    "Config",
    "Credential",
    "Daemon",
    "Isolation",
    "Limits",
    "Mount",
    "Problem",
    "RepoToken",
    "agent_problems",
    "changes",
    "load",
    "load_audit_root",
    "load_daemon",
    "parse",
    "parse_duration",
    "parse_size",
    "resolve_audit_root",
    "with_runtime_paths",
]
