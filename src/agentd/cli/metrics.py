"""`agentd metrics`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import trio

from .. import wire
from ..client import connect
from ..errors import InfrastructureError, UsageError
from .daemon_socket import USUAL, DaemonSocket

READABLE = 0o644


def metrics(
    *,
    format: wire.MetricsFormat = "openmetrics",
    output: Path | None = None,
    daemon: DaemonSocket = USUAL,
) -> int:
    """Print what the daemon has counted and measured since its start, for Prometheus.

    For example:

        agentd metrics
        agentd metrics --format prometheus --output /var/lib/node_exporter/agentd/agentd.prom

    Args:
        format: openmetrics, or prometheus: the text format that node exporter's textfile collector
            reads, which does not read OpenMetrics.
        output: Write it to this file, which readers see whole, the old one or the new one; anyone
            may read it. A file that is called .prom is node exporter's, and takes only prometheus.
    """
    if output is not None and output.suffix == ".prom" and format != "prometheus":
        raise UsageError(
            f"--output: node exporter reads {output.name}, and no OpenMetrics:"
            " add --format prometheus"
        )
    text = trio.run(_metrics, daemon.path(), format)
    if output is None:
        sys.stdout.write(text)
    else:
        replace(output, text)
    return 0


async def _metrics(socket_path: Path, form: wire.MetricsFormat) -> str:
    async with connect(socket_path) as client:
        return await client.metrics(form)


def replace(path: Path, text: str) -> None:
    """Put a file with this text in the place of whatever is at `path`, in one step.

    Raises:
        InfrastructureError: it cannot be written.
    """
    try:
        # Its name hides it from node exporter, which reads whatever ends with .prom.
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                file.write(text)
                file.flush()
                os.fchmod(file.fileno(), READABLE)
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink()
                raise
    except OSError as error:
        raise InfrastructureError(f"cannot write {path}: {error.strerror or error}") from error
