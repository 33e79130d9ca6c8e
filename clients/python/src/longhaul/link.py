"""A connection that is opened when it is needed, and again after it broke. One call at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from .call import Call, run_async
from .errors import LonghaulError, Unreachable, translated

T = TypeVar("T")


class Backoff:
    """Pauses that grow."""

    def __init__(self, first: float = 0.05, longest: float = 5.0) -> None:
        self._first = first
        self._next = first
        self._longest = longest

    def next(self) -> float:
        """How long to wait now."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause

    def reset(self) -> None:
        """All went well."""
        self._next = self._first

    async def wait(self) -> None:
        """Waits."""
        await asyncio.sleep(self.next())


class Link:
    """To a database."""

    def __init__(self, database: str, schema: str, call_timeout: float) -> None:
        self._database = database
        self._schema = schema
        self._timeout = call_timeout
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    async def run(self, call: Call[T]) -> T:
        """Makes a call once. :class:`~longhaul.Unreachable`: it may have been carried out, or not."""
        async with self._lock:
            try:
                return await asyncio.wait_for(self._run(call), self._timeout)
            except (asyncio.TimeoutError, TimeoutError):
                await self._drop()
                raise Unreachable(f"no answer came within {self._timeout:g} s") from None
            except LonghaulError:
                raise
            except (psycopg.Error, OSError) as error:
                if self._connection is not None and self._connection.closed:
                    await self._drop()
                raise translated(error) from error
            except BaseException:
                # Cancelled in the middle of a call: nobody knows where the connection is.
                await self._drop()
                raise

    async def persistently(self, call: Call[T]) -> T:
        """Makes a repeatable call until it is answered."""
        backoff = Backoff()
        while True:
            try:
                return await self.run(call)
            except Unreachable:
                await backoff.wait()

    async def close(self) -> None:
        """Closes the connection."""
        async with self._lock:
            await self._drop()

    async def _run(self, call: Call[T]) -> T:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._database, autocommit=True, prepare_threshold=None)
        return await run_async(self._connection, call, self._schema)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()
