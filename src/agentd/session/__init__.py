"""One session: from an invocation that was checked to a sealed record."""
