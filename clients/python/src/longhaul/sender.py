"""The sender: stores items in batches that form by themselves. While a call is in flight the next batch gathers, so that a single item
goes at once, and under load they go by the hundred, without a timer.

What can go wrong is answered here, once for all that a worker sends: the database is away (the batch waits), an item is bad (the batch is
halved until it stands alone), somebody else is at an item's run (it is sent later, apart from the others), nothing can be stored at all
(after half a minute the sender ends with that error)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from .errors import LonghaulError, Unreachable, WorkerLost, is_about_an_item
from .link import Backoff

T = TypeVar("T")
log = logging.getLogger("longhaul")

#: Most items in one call.
MOST = 1000

#: So often a batch meets passing trouble before the sender looks whether it is an item's.
_PATIENCE = 5

#: How long the sender goes on while nothing can be stored, for a reason that does not pass by itself.
_BROKEN_FOR = 30.0


class Destination(Protocol[T]):
    """Where items go."""

    def calls(self, batch: list[T]) -> list[list[T]]:
        """Splits a batch into calls."""

    async def store(self, items: list[T]) -> Sequence[T]:
        """Makes a call. Returns the items that somebody else is busy with."""

    async def refused(self, item: T, error: LonghaulError) -> T | None:
        """The database refuses this item, and nothing else is to blame. What is to be stored instead, if anything."""

    async def reachable(self) -> bool:
        """Whether the database answers at all."""


class Sender(Generic[T]):
    """Takes items and stores every one of them, however long the database is away."""

    def __init__(self, destination: Destination[T]) -> None:
        self._destination = destination
        self._inbox: asyncio.Queue[T | None] = asyncio.Queue()
        self._apart: set[asyncio.Task[None]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stored = 0.0

    def put(self, item: T) -> None:
        """Takes an item. Never waits: what is in flight is bounded by the worker's slots."""
        self._inbox.put_nowait(item)

    def close(self) -> None:
        """Nothing more comes."""
        self._inbox.put_nowait(None)

    async def run(self) -> None:
        """Until it is closed and all is stored."""
        work = asyncio.ensure_future(self._work())
        try:
            await asyncio.wait([work, self._broken], return_when=asyncio.FIRST_COMPLETED)
            if self._broken.done():
                self._broken.result()
            work.result()
        finally:
            work.cancel()
            for task in self._apart:
                task.cancel()

    async def _work(self) -> None:
        open = True
        while open:
            batch = [await self._inbox.get()]
            while len(batch) < MOST and not self._inbox.empty():
                batch.append(self._inbox.get_nowait())
            open = None not in batch
            await self._deliver([item for item in batch if item is not None])
        while self._apart:
            await asyncio.wait(self._apart)

    def _later(self, items: list[T], wait: float) -> None:
        async def again() -> None:
            await asyncio.sleep(wait)
            await self._deliver(items, min(wait * 2, 1.0))

        self._keep(asyncio.ensure_future(again()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._apart.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._apart.discard(task)
            if not task.cancelled() and task.exception() is not None and not self._broken.done():
                self._broken.set_exception(task.exception() or LonghaulError("the sender broke"))

        task.add_done_callback(ended)

    async def _deliver(self, batch: list[T], busy_wait: float = 0.01) -> None:
        parts = self._destination.calls(batch) if batch else []
        backoff, passing = Backoff(0.02, 2.0), 0
        while parts:
            part = parts.pop()
            try:
                busy = list(await self._destination.store(part))
                self._stored = asyncio.get_running_loop().time()
                backoff.reset()
                if busy:
                    self._later(busy, busy_wait)
                continue
            except WorkerLost:
                raise
            except Unreachable as error:
                log.debug("%d items wait for the database: %s", len(part), error)
                await backoff.wait()
                passing += 1
                # It answers others: then it is one of these that it cannot serve.
                if passing < _PATIENCE or not await self._destination.reachable():
                    parts.append(part)
                    continue
                trouble: LonghaulError = error
            except LonghaulError as error:
                trouble = error
            if len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            elif is_about_an_item(trouble):
                instead = await self._destination.refused(part[0], trouble)
                if instead is not None:
                    parts.append([instead])
            else:
                self._keep(asyncio.ensure_future(self._insist(part[0])))

    async def _insist(self, item: T) -> None:
        """Sends an item that fails alone, until it is clear whether the item is to blame."""
        clock = asyncio.get_running_loop().time
        since = clock()
        backoff = Backoff(0.1, 2.0)
        while True:
            await backoff.wait()
            try:
                busy = list(await self._destination.store([item]))
                if busy:
                    self._later(busy, 0.05)
                return
            except Unreachable:
                continue
            except LonghaulError as error:
                if is_about_an_item(error) or self._stored > since:
                    instead = await self._destination.refused(item, error)
                    if instead is None:
                        return
                    item = instead
                elif clock() - since > _BROKEN_FOR:
                    raise
