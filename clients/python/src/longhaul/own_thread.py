"""Threads with an event loop and a connection of their own: a handler that blocks the worker's loop must cost nobody a lease."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

log = logging.getLogger("longhaul")


class OwnThread:
    """Runs a coroutine on a thread of its own until that ends or the thread is stopped."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._body, name=name, daemon=True)

    async def work(self) -> None:
        """What the thread does."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()
        self._begun.wait()

    def call_soon(self, callback: Any, *values: Any) -> None:
        """Calls something on the thread."""
        if self._loop is not None:
            # When the thread has ended, nobody is there to be called.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback, *values)

    def stop(self) -> None:
        """Ends the thread, and does not wait for that."""
        if self._task is not None:
            self.call_soon(self._task.cancel)

    def _body(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.ensure_future(self._guarded(self.work()))
            self._begun.set()
            await asyncio.wait([self._task])

        try:
            asyncio.run(main())
        finally:
            self._begun.set()

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("thread %s has ended", self._name)
