"""The chores, when nobody else does them: expired leases, due timers, ended sleeps. A fleet without a scheduler goes on all the same; only
schedules (cron) need one."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from . import protocol
from .errors import LonghaulError
from .link import Backoff, Link
from .own_thread import OwnThread

log = logging.getLogger("longhaul")

#: So long chores may be late before a worker takes them on, in milliseconds.
_LATE_MS = 1000

#: How long it does them before it looks whether somebody else does.
_TURN = 60.0


class Chores(OwnThread):
    """Watches, and does them while nobody else does."""

    def __init__(self, link: Callable[[float], Link]) -> None:
        super().__init__("longhaul-chores")
        self._make_link = link

    async def work(self) -> None:
        """Looks every two seconds or so; more rarely in a big fleet."""
        link = self._make_link(60.0)
        backoff = Backoff(1.0, 60.0)
        pause = 0.25
        while True:
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            try:
                late_ms, workers = await link.run(protocol.neglected_chores())
                pause = min(2.0 * max(1, workers / 4), 60.0)
                if late_ms > _LATE_MS:
                    log.info("nobody does the chores: this worker does them")
                    await self._take_a_turn(link)
                    pause = 0.25
                backoff.reset()
            except LonghaulError as error:
                log.debug("the chores cannot be done: %s", error)
                await backoff.wait()

    async def _take_a_turn(self, link: Link) -> None:
        clock = asyncio.get_running_loop().time
        end = clock() + _TURN
        while clock() < end:
            due_in_ms = await link.run(protocol.run_chore())
            await asyncio.sleep(min(max(due_in_ms, 0), 200) / 1000)
