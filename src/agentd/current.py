"""The configuration that counts now: one holder, whose readers all see a change at once."""

from __future__ import annotations

from trio_util import AsyncValue

from .config import Config


class Current:
    """Whoever needs the configuration holds this, and reads it when it is needed."""

    def __init__(self, config: Config) -> None:
        self._value = AsyncValue(config)

    @property
    def config(self) -> Config:
        """As it is now, a whole that does not change: keep it for what must fit together."""
        config: Config = self._value.value
        return config

    def replace(self, config: Config) -> None:
        """Let another one count from now on."""
        self._value.value = config

    async def other_than(self, seen: Config) -> Config:
        """Wait until another one counts than `seen`; at once when that is so already."""
        config: Config = await self._value.wait_value(lambda config: config is not seen)
        return config
