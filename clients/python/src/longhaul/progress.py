"""What handlers report for people who look on: the last value of each key, stored twice a second."""

from __future__ import annotations

import asyncio
import logging

from . import protocol
from .errors import LonghaulError
from .link import Link
from .protocol import Key

log = logging.getLogger("longhaul")

#: How often it is stored, in seconds.
_FLUSH = 0.5

#: Most values in one call.
_MOST = 500


class Progress:
    """The values that are not stored yet."""

    def __init__(self, link: Link, worker: int) -> None:
        self._link = link
        self._worker = worker
        self._values: dict[tuple[Key, str], str] = {}
        self._calls = 0

    def put(self, key: Key, name: str, value: str) -> None:
        """Takes note of a value; it replaces the one before."""
        self._values[(key, name)] = value

    async def run(self) -> None:
        """Stores what gathers, for ever. A value that cannot be stored is lost: the next one follows."""
        while True:
            await asyncio.sleep(_FLUSH)
            try:
                await self.flush()
            except LonghaulError as error:
                log.debug("progress could not be stored: %s", error)

    async def flush(self) -> None:
        """Stores what has gathered."""
        taken, self._values = self._values, {}
        items = [(key, name, value) for (key, name), value in taken.items()]
        self._calls += 1
        for first in range(0, len(items), _MOST):
            await self._link.run(protocol.report_progress(self._worker, items[first : first + _MOST], self._calls))
