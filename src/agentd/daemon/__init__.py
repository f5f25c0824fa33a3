"""The daemon: one process that owns a socket, a PID file and every session."""
