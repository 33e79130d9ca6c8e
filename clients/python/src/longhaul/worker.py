"""A worker: registers, claims, calls handlers, and stores what came of it, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time

from . import protocol
from ._version import VERSION
from .errors import LonghaulError, Unreachable
from .handlers import Handlers
from .lease_clock import LeaseClock, moment
from .link import Backoff
from .protocol import Registration
from .session import End, Session
from .settings import Settings

log = logging.getLogger("longhaul")

#: A signal that comes so soon after the first one is the same, sent to the process and to its group.
_SAME = 0.5

#: So many sessions may break down in a row.
_BREAKS = 5


class Worker:
    """Does the steps of the handlers that it is given.

    >>> handlers = Handlers()
    >>> @handlers.handler("hello.greet")
    ... async def greet(context, input):
    ...     return f"Hello, {input['name']}!"
    >>> Worker(handlers, Settings("postgresql://localhost/app")).run()  # doctest: +SKIP
    """

    def __init__(self, handlers: Handlers, settings: Settings) -> None:
        self._handlers = handlers
        self._settings = settings

    def run(self) -> None:
        """Works until SIGTERM or SIGINT. Steps that run may finish within the grace; the rest goes back with no attempt consumed. A second
        signal ends the process at once, with exit code 130."""
        asyncio.run(self._until_a_signal())

    async def _until_a_signal(self) -> None:
        stop = asyncio.Event()
        first: list[float] = []

        def signalled() -> None:
            if not first:
                first.append(time.monotonic())
                log.info("stopping; a second signal ends at once")
                stop.set()
            elif time.monotonic() - first[0] >= _SAME:
                os._exit(130)

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signalled)
        await self.serve(stop)

    async def serve(self, stop: asyncio.Event) -> None:
        """Works until the event is set, or an operator has drained the worker."""
        breaks = 0
        backoff = Backoff()
        while not stop.is_set():
            try:
                session = await self._registered(stop)
                if session is None:
                    return
                began = time.monotonic()
                if await session.run(stop) is not End.LOST:
                    return
                breaks = 0
            except LonghaulError as error:
                log.error("the worker broke down: %s", error)
                breaks = breaks + 1 if time.monotonic() - began < 60 else 1
                if breaks >= _BREAKS:
                    raise
                await backoff.wait()

    async def _registered(self, stop: asyncio.Event) -> Session | None:
        """Registers, waiting for the database as long as it takes."""
        settings = self._settings
        worker = Registration(
            tenant=settings.tenant,
            name=settings.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=f"python-{VERSION}",
            queues=list(settings.queues),
            handlers=self._handlers.names(),
            slots=sum(settings.queues.values()),
            lease_ms=round(settings.lease * 1000),
        )
        backoff = Backoff()
        link = settings.link()
        try:
            while not stop.is_set():
                try:
                    limits = await link.run(protocol.limits())
                    sent = moment()
                    registered = await link.run(protocol.register(worker))
                    log.info("registered as worker %s", registered[0])
                    return Session(settings, self._handlers, registered, LeaseClock(settings.lease, sent), limits)
                except Unreachable as error:
                    log.warning("waiting for the database: %s", error)
                    await backoff.wait()
            return None
        finally:
            await link.close()
