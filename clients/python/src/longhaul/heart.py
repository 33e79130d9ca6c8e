"""Renews the leases of a worker, all by one update, and learns which of them were lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import protocol
from .errors import LonghaulError, WorkerLost
from .lease_clock import LeaseClock, moment
from .link import Link
from .own_thread import OwnThread
from .protocol import Key, Refusal

log = logging.getLogger("longhaul")


@dataclass(frozen=True)
class Told:
    """Whom the heart tells, from its own thread."""

    lost: Callable[[Sequence[Refusal]], None]
    draining: Callable[[], None]
    overdue: Callable[[], None]
    given_up: Callable[[str], None]


class Heart(OwnThread):
    """Beats until it is stopped or the worker is given up."""

    def __init__(self, link: Callable[[float], Link], worker: int, owned: Callable[[], list[Key]], clock: LeaseClock, told: Told) -> None:
        super().__init__("longhaul-heart")
        self._make_link = link
        self._worker = worker
        self._owned = owned
        self._clock = clock
        self._told = told
        self.interval = 30.0
        self.lease = 90.0
        self._at_once: asyncio.Event | None = None

    def beat(self) -> None:
        """Asks for a heartbeat now; from any thread."""
        if self._at_once is not None:
            self.call_soon(self._at_once.set)

    async def work(self) -> None:
        """Beats."""
        self._at_once = asyncio.Event()
        # An answer that does not come within a third of a lease leaves time for another try.
        link = self._make_link(max(self.lease / 3, 0.1))
        # Over a slow network a connection takes longer than a beat. When there is none yet, the first beat says so.
        with contextlib.suppress(LonghaulError):
            await link.run(protocol.now())
        wait, overdue = self.interval, False
        while True:
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), wait)
            self._at_once.clear()
            # Counted from before the call: the database may have renewed at any time during it.
            sent = moment()
            try:
                draining, lost = await link.run(protocol.renew(self._worker, self._owned()))
            except WorkerLost as error:
                self._told.given_up(str(error))
                return
            except LonghaulError as error:
                log.warning("heartbeat failed: %s", error)
                wait = min(max(self.interval / 10, 0.01), 1.0)
                if not self._clock.holds() and not overdue:
                    # By now others may have the steps.
                    overdue = True
                    self._told.overdue()
                continue
            self._clock.renewed(sent)
            wait, overdue = self.interval, False
            if draining:
                self._told.draining()
            if lost:
                self._told.lost(lost)
