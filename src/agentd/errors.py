"""Every error that agentd raises on purpose, each with a stable code and an exit code.

The code is what programs match on: it crosses the wire, stands in the record and in the log, and
never changes. The message is for people and says what is wrong, where, and what to do. The exit
code is what the `agentd` command ends with; it follows the table of session outcomes (2 usage,
6 infrastructure), so that a caller needs one table only.
"""

from __future__ import annotations

from typing import ClassVar, Final

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INFRASTRUCTURE: Final = 6
EXIT_INTERRUPTED: Final = 130
"""128 and SIGINT, as shells put it."""
EXIT_BROKEN_PIPE: Final = 141
"""128 and SIGPIPE."""


class AgentdError(Exception):
    """Base of all errors below; anything else that escapes is a bug."""

    code: ClassVar[str] = "internal_error"
    exit_code: ClassVar[int] = EXIT_FAILURE
    remedy: str = ""
    """What to do, where the sentence ends with it and it is not told by the daemon."""

    def __init__(self, fault: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{fault}; {remedy}" if remedy else fault)
        self.remedy = remedy

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self)

    @property
    def fault(self) -> str:
        """The sentence without the remedy."""
        return self.message.removesuffix(f"; {self.remedy}")


class UsageError(AgentdError):
    """The caller asked for something that cannot be asked for."""

    code = "usage_error"
    exit_code = EXIT_USAGE


class InfrastructureError(AgentdError):
    """The host, Podman or the configuration of the daemon does not allow what was asked."""

    code = "infrastructure_error"
    exit_code = EXIT_INFRASTRUCTURE


# --- the daemon as a process ---------------------------------------------------------------------


class ConfigError(AgentdError):
    """The configuration file cannot be used; `problems` holds one line for each fault."""

    code = "config_invalid"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RestartNeeded(AgentdError):
    """The configuration has changed where a running daemon cannot follow."""

    code = "restart_needed"


class RuntimePathError(AgentdError):
    """Socket or PID file cannot be resolved, or cannot be claimed safely."""

    code = "runtime_path_unusable"


class AlreadyRunning(AgentdError):
    """Another daemon holds the PID file or serves the socket."""

    code = "already_running"


class ShutdownForced(AgentdError):
    """A second signal ended the daemon before its sessions had ended."""

    code = "shutdown_forced"


class IntakeFailed(InfrastructureError):
    """The daemon's socket stopped working, so the daemon drained."""

    code = "intake_failed"


class ReconciliationFailed(InfrastructureError):
    """What an earlier daemon left behind cannot be listed or removed."""

    code = "reconciliation_failed"


# --- the socket's two ends -----------------------------------------------------------------------


class DaemonUnreachable(InfrastructureError):
    """Nobody answers at the daemon's socket, or not within the bound."""

    code = "daemon_not_running"


class ConnectionLost(InfrastructureError):
    """The daemon went away before it had answered, killed perhaps; its sessions may go on."""

    code = "connection_lost"


class WireError(AgentdError):
    """The peer sent something that is not our protocol, or went away in the middle of it."""

    code = "protocol_error"


class ProtocolMismatch(WireError):
    """Client and daemon speak different versions of the protocol."""

    code = "protocol_mismatch"
    exit_code = EXIT_INFRASTRUCTURE


class TooManyConnections(InfrastructureError):
    """The daemon has as many connections as it can have, and this one had to give way."""

    code = "too_many_connections"


class ShuttingDown(InfrastructureError):
    """The daemon drains and takes no new session."""

    code = "shutting_down"

    def __init__(self, message: str = "agentd is shutting down") -> None:
        super().__init__(message)


# --- what a run may be refused for, before anything exists ---------------------------------------


class UnknownAgent(UsageError):
    """No agent of that name is declared."""

    code = "unknown_agent"


class NoSchedule(UsageError):
    """The agent is not run by a schedule."""

    code = "no_schedule"


class RepositoryRequired(UsageError):
    """Neither the invocation nor the agent names a repository."""

    code = "repository_required"


class RepositoryRefused(UsageError):
    """The repository URL breaks a rule, or lies outside the origin of the token."""

    code = "repository_refused"


class InvalidInvocation(UsageError):
    """Parameters of a request contradict each other or are malformed."""

    code = "invalid_invocation"


class InputRefused(UsageError):
    """The input does not fit the agent's methodology."""

    code = "input_refused"


class InvalidAgent(UsageError):
    """An agent handed in by a program breaks a rule that a configuration file is held to."""

    code = "invalid_agent"


class CredentialUnavailable(InfrastructureError):
    """A credential's variable is missing in the daemon's environment, or cannot be injected."""

    code = "credential_unavailable"


class MethodologyUnusable(InfrastructureError):
    """The methodology directory has no manifest that can be read."""

    code = "methodology_unusable"


class MountUnusable(InfrastructureError):
    """A mount's source does not exist or cannot be resolved."""

    code = "mount_unusable"


class HostUnsupported(InfrastructureError):
    """This host or this Podman cannot give what agentd or the operator requires."""

    code = "host_unsupported"


class OverlapSkipped(InfrastructureError):
    """A scheduled run is left out, because of another session of its agent."""

    code = "overlap_skipped"


# --- sessions that a client names ----------------------------------------------------------------


class UnknownSession(UsageError):
    """No session, or more than one, has an id that begins so."""

    code = "unknown_session"


# --- a session that ended without an outcome -----------------------------------------------------


class AuditError(InfrastructureError):
    """The audit root or a record cannot be written, checked or sealed."""

    code = "audit_failed"


class DiskTimeout(InfrastructureError):
    """A file system that a session needs does not answer."""

    code = "disk_timeout"


class ImageUnfit(InfrastructureError):
    """The session image lacks what every session needs."""

    code = "image_unfit"


class ImageUnavailable(InfrastructureError):
    """The session image is not there and cannot be pulled."""

    code = "image_unavailable"


class ExitCodeLost(InfrastructureError):
    """The container ended and Podman lost its exit code."""

    code = "exit_code_lost"


class HostRebooted(InfrastructureError):
    """The container was started and the host went down under it."""

    code = "host_rebooted"


class ContainerVanished(InfrastructureError):
    """Somebody removed the container while its session ran."""

    code = "container_vanished"


class NeverStarted(InfrastructureError):
    """The daemon that made the session was gone before the session's container was started."""

    code = "never_started"


class ForcedShutdown(InfrastructureError):
    """The daemon was forced down and killed the session."""

    code = "forced_shutdown"


class HandedOver(InfrastructureError):
    """The daemon ended and left the session running; the next one takes it up."""

    code = "handed_over"


class StoppedBeforeStart(AgentdError):
    """The session was asked to stop before its container was started; no agent ran."""

    code = "stopped_before_start"
    exit_code = EXIT_INTERRUPTED


class TeardownFailed(InfrastructureError):
    """A container or a secret could not be removed; the record stays incomplete."""

    code = "teardown_failed"


# --- Podman --------------------------------------------------------------------------------------


class PodmanError(InfrastructureError):
    """Podman answered with an error: `status` is HTTP's, `cause` is Podman's stable part of it."""

    code = "podman_error"

    def __init__(self, fault: str, *, status: int = 0, cause: str = "", remedy: str = "") -> None:
        super().__init__(fault, remedy=remedy)
        self.status = status
        self.cause = cause


class PodmanUnreachable(PodmanError):
    """No service answers at Podman's socket, or the connection broke."""

    code = "podman_unreachable"


class PodmanTimeout(PodmanError):
    """Podman did not answer within the bound of the call; the call may still take effect."""

    code = "podman_timeout"


def _all_subclasses(cls: type[AgentdError]) -> list[type[AgentdError]]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in _all_subclasses(sub))]


def from_code(code: str, message: str) -> AgentdError:
    """Rebuild an error that crossed the wire; an unknown code gives a plain `AgentdError`."""
    for cls in _all_subclasses(AgentdError):
        if cls.code == code:
            error = cls.__new__(cls)
            Exception.__init__(error, message)
            return error
    return AgentdError(message)


def leaves(error: BaseException) -> list[BaseException]:
    """The plain exceptions inside a group, in order; an exception that is no group is its own."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
