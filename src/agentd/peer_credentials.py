"""Who is at the other end of a Unix socket: SO_PEERCRED, unix(7)."""

from __future__ import annotations

import socket
import struct

import trio

_UCRED = struct.Struct("3i")


def peer_uid(connected: trio.socket.SocketType) -> int:
    """The uid of the process that connected, or, at a client's end, of the one that listens."""
    return peer_process(connected)[1]


def peer_process(connected: trio.socket.SocketType) -> tuple[int, int]:
    """That process's id, 0 when it is of a namespace that cannot be seen from here, and its uid."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _gid = _UCRED.unpack(raw)
    return int(pid), int(uid)
