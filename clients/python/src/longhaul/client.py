"""Clients: sync, async, and either within a transaction of the user's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from typing_extensions import Self, Unpack

from . import requests
from .call import Call, run, run_async
from .errors import NotFound, RunFailed, Unreachable, translated
from .requests import NewRun, Question, Run, Started, StartOptions, Step
from .transaction import raw_connection

T = TypeVar("T")

#: How often a repeatable call is sent anew after a lost connection.
_TRIES = 5

#: First and longest pause between two looks at a run.
_LOOKS = (0.02, 1.0)


def _pauses() -> Any:
    pause, longest = _LOOKS
    while True:
        yield pause
        pause = min(pause * 1.5, longest)


class Client:
    """Starts, reads and steers runs. One connection, opened when it is needed; threads may share a client, and take turns.

    >>> with Client("postgresql://localhost/app") as client:  # doctest: +SKIP
    ...     run_id = client.start("order", {"id": 7})
    ...     print(client.wait(run_id, timeout=60))
    """

    def __init__(self, database: str, *, tenant: str = "default", schema: str = "longhaul") -> None:
        self._database = database
        self._tenant = tenant
        self._schema = schema
        self._connection: psycopg.Connection[Any] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def on(self, connection: Any) -> Client:
        """A client whose calls belong to the open transaction of this connection: of psycopg, SQLAlchemy (a session too) or Django."""
        return _Within(raw_connection(connection), self._tenant, self._schema)

    def call(self, call: Call[T]) -> T:
        """Makes any call."""
        with self._lock:
            for left in reversed(range(_TRIES)):
                try:
                    if self._connection is None:
                        # Nothing is ever prepared: a pooler may give each transaction another server.
                        self._connection = psycopg.connect(self._database, autocommit=True, prepare_threshold=None)
                    return run(self._connection, call, self._schema)
                except (psycopg.Error, OSError) as error:
                    known = translated(error)
                    if self._connection is not None and self._connection.closed:
                        self._drop()
                    if not isinstance(known, Unreachable) or left == 0 or not call.repeatable:
                        raise known from error
                    time.sleep(0.05 * 2 ** (_TRIES - left))
        raise AssertionError("unreachable")

    def deploy(self, flow: Mapping[str, Any]) -> int:
        """Deploys a version of a flow and returns its number. The same definition again changes nothing."""
        return self.call(requests.deploy(self._tenant, flow))

    def start(self, flow: str, input: Any = None, **options: Unpack[StartOptions]) -> UUID:
        """Starts a run and returns its id; with a key, the id of the run that holds it."""
        return self.call(requests.start(self._tenant, flow, input, options))

    def start_many(self, flow: str, runs: Sequence[NewRun], *, version: int | None = None) -> list[Started]:
        """Starts many runs by one call. What is wrong with one concerns that one alone."""
        return self.call(requests.start_many(self._tenant, flow, version, runs))

    def get(self, run_id: UUID) -> Run:
        """A run as it is now."""
        return _found(self.call(requests.get(self._tenant, run_id)), run_id)

    def steps(self, run_id: UUID) -> list[Step]:
        """The steps of a run as they are now."""
        return self.call(requests.steps(run_id))

    def output(self, run_id: UUID) -> Any:
        """The output of a completed run."""
        return self.call(requests.output(run_id))

    def wait(self, run_id: UUID, timeout: float | None = None) -> Any:
        """Waits until a run has ended and returns its output. :class:`RunFailed` when it failed or was stopped, ``TimeoutError`` when it
        takes longer."""
        end = None if timeout is None else time.monotonic() + timeout
        for pause in _pauses():
            state = _found(self.call(requests.state(self._tenant, run_id)), run_id)
            if state in requests.ENDED:
                break
            if end is not None and time.monotonic() + pause > end:
                raise TimeoutError(f"run {run_id} is still {state}")
            time.sleep(pause)
        if state != "completed":
            raise _failed(self.get(run_id))
        return self.output(run_id)

    def stop(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """Stops a run. Returns its new revision."""
        return self.call(requests.steer("stop_run", self._tenant, run_id, by, expected_revision))

    def pause(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """Pauses a run: what runs goes on, nothing begins."""
        return self.call(requests.steer("pause_run", self._tenant, run_id, by, expected_revision))

    def resume(self, run_id: UUID, data: Any = None, *, by: str | None = None) -> int:
        """Resumes a paused run; the data answer an interrupt."""
        return self.call(requests.resume(self._tenant, run_id, data, by))

    def retry(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """Goes on with a failed or stopped run at the steps that did not complete."""
        return self.call(requests.steer("retry_run", self._tenant, run_id, by, expected_revision))

    def start_pending(self, run_id: UUID, *, by: str | None = None) -> int:
        """Starts a run that was only created, or whose start was put off."""
        return self.call(requests.steer("start_pending_run", self._tenant, run_id, by, None))

    def signal(self, run_id: UUID, topic: str, payload: Any = None, *, key: str | None = None, keep: timedelta | None = None) -> int:
        """Sends a signal to a run. Twice with one idempotency key is once."""
        return self.call(requests.signal(self._tenant, run_id, topic, payload, key, keep))

    def send_signal(self, topic: str, to: str, payload: Any = None, *, key: str | None = None, keep: timedelta | None = None) -> int:
        """Sends a signal to a topic and a key: whoever has waited longest gets it, now or later."""
        return self.call(requests.send_signal(self._tenant, topic, to, payload, key, keep))

    def complete_external(self, topic: str, to: str, payload: Any = None, *, failed: bool = False, key: str | None = None) -> int:
        """Reports that outside work is done, or has failed."""
        return self.call(requests.complete_external(self._tenant, topic, to, payload, failed, key))

    def broadcast(self, topic: str, payload: Any = None, *, flow: str | None = None, key: str | None = None) -> int:
        """Sends a signal to every live run, or to those of a flow. Returns to how many."""
        return self.call(requests.broadcast(self._tenant, topic, payload, flow, key))

    def decide(self, run_id: UUID, step: str, choice: str, data: Any = None, *, by: str | None = None) -> bool:
        """Answers the question of a step. False: the same choice had been made before."""
        return self.call(requests.decide(self._tenant, run_id, step, choice, data, by))

    def questions(self, run_id: UUID | None = None) -> list[Question]:
        """The open questions, of a run or of all."""
        return self.call(requests.questions(self._tenant, run_id))

    def why(self, run_id: UUID, step: str) -> str:
        """Why a step does not run, in one sentence."""
        return self.call(requests.why(run_id, step))


class _Within(Client):
    """A client within a transaction of the user's, who commits."""

    def __init__(self, connection: psycopg.Connection[Any], tenant: str, schema: str) -> None:
        super().__init__("", tenant=tenant, schema=schema)
        self._theirs = connection

    def call(self, call: Call[T]) -> T:
        try:
            return run(self._theirs, call, self._schema)
        except psycopg.Error as error:
            raise translated(error) from error


class AsyncClient:
    """As :class:`Client`, for asyncio. Tasks may share one; calls take turns.

    >>> async with AsyncClient("postgresql://localhost/app") as client:  # doctest: +SKIP
    ...     run_id = await client.start("order", {"id": 7})
    ...     print(await client.wait(run_id, timeout=60))
    """

    def __init__(self, database: str, *, tenant: str = "default", schema: str = "longhaul") -> None:
        self._database = database
        self._tenant = tenant
        self._schema = schema
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection."""
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def on(self, connection: psycopg.AsyncConnection[Any]) -> AsyncClient:
        """A client whose calls belong to the open transaction of this connection."""
        return _AsyncWithin(connection, self._tenant, self._schema)

    async def call(self, call: Call[T]) -> T:
        """Makes any call."""
        async with self._lock:
            for left in reversed(range(_TRIES)):
                try:
                    if self._connection is None:
                        self._connection = await psycopg.AsyncConnection.connect(self._database, autocommit=True, prepare_threshold=None)
                    return await run_async(self._connection, call, self._schema)
                except (psycopg.Error, OSError) as error:
                    known = translated(error)
                    if self._connection is not None and self._connection.closed:
                        await self._drop()
                    if not isinstance(known, Unreachable) or left == 0 or not call.repeatable:
                        raise known from error
                    await asyncio.sleep(0.05 * 2 ** (_TRIES - left))
        raise AssertionError("unreachable")

    async def deploy(self, flow: Mapping[str, Any]) -> int:
        """See :meth:`Client.deploy`."""
        return await self.call(requests.deploy(self._tenant, flow))

    async def start(self, flow: str, input: Any = None, **options: Unpack[StartOptions]) -> UUID:
        """See :meth:`Client.start`."""
        return await self.call(requests.start(self._tenant, flow, input, options))

    async def start_many(self, flow: str, runs: Sequence[NewRun], *, version: int | None = None) -> list[Started]:
        """See :meth:`Client.start_many`."""
        return await self.call(requests.start_many(self._tenant, flow, version, runs))

    async def get(self, run_id: UUID) -> Run:
        """See :meth:`Client.get`."""
        return _found(await self.call(requests.get(self._tenant, run_id)), run_id)

    async def steps(self, run_id: UUID) -> list[Step]:
        """See :meth:`Client.steps`."""
        return await self.call(requests.steps(run_id))

    async def output(self, run_id: UUID) -> Any:
        """See :meth:`Client.output`."""
        return await self.call(requests.output(run_id))

    async def wait(self, run_id: UUID, timeout: float | None = None) -> Any:
        """See :meth:`Client.wait`."""
        end = None if timeout is None else time.monotonic() + timeout
        for pause in _pauses():
            state = _found(await self.call(requests.state(self._tenant, run_id)), run_id)
            if state in requests.ENDED:
                break
            if end is not None and time.monotonic() + pause > end:
                raise TimeoutError(f"run {run_id} is still {state}")
            await asyncio.sleep(pause)
        if state != "completed":
            raise _failed(await self.get(run_id))
        return await self.output(run_id)

    async def stop(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """See :meth:`Client.stop`."""
        return await self.call(requests.steer("stop_run", self._tenant, run_id, by, expected_revision))

    async def pause(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """See :meth:`Client.pause`."""
        return await self.call(requests.steer("pause_run", self._tenant, run_id, by, expected_revision))

    async def resume(self, run_id: UUID, data: Any = None, *, by: str | None = None) -> int:
        """See :meth:`Client.resume`."""
        return await self.call(requests.resume(self._tenant, run_id, data, by))

    async def retry(self, run_id: UUID, *, by: str | None = None, expected_revision: int | None = None) -> int:
        """See :meth:`Client.retry`."""
        return await self.call(requests.steer("retry_run", self._tenant, run_id, by, expected_revision))

    async def start_pending(self, run_id: UUID, *, by: str | None = None) -> int:
        """See :meth:`Client.start_pending`."""
        return await self.call(requests.steer("start_pending_run", self._tenant, run_id, by, None))

    async def signal(self, run_id: UUID, topic: str, payload: Any = None, *, key: str | None = None, keep: timedelta | None = None) -> int:
        """See :meth:`Client.signal`."""
        return await self.call(requests.signal(self._tenant, run_id, topic, payload, key, keep))

    async def send_signal(self, topic: str, to: str, payload: Any = None, *, key: str | None = None, keep: timedelta | None = None) -> int:
        """See :meth:`Client.send_signal`."""
        return await self.call(requests.send_signal(self._tenant, topic, to, payload, key, keep))

    async def complete_external(self, topic: str, to: str, payload: Any = None, *, failed: bool = False, key: str | None = None) -> int:
        """See :meth:`Client.complete_external`."""
        return await self.call(requests.complete_external(self._tenant, topic, to, payload, failed, key))

    async def broadcast(self, topic: str, payload: Any = None, *, flow: str | None = None, key: str | None = None) -> int:
        """See :meth:`Client.broadcast`."""
        return await self.call(requests.broadcast(self._tenant, topic, payload, flow, key))

    async def decide(self, run_id: UUID, step: str, choice: str, data: Any = None, *, by: str | None = None) -> bool:
        """See :meth:`Client.decide`."""
        return await self.call(requests.decide(self._tenant, run_id, step, choice, data, by))

    async def questions(self, run_id: UUID | None = None) -> list[Question]:
        """See :meth:`Client.questions`."""
        return await self.call(requests.questions(self._tenant, run_id))

    async def why(self, run_id: UUID, step: str) -> str:
        """See :meth:`Client.why`."""
        return await self.call(requests.why(run_id, step))


class _AsyncWithin(AsyncClient):
    """As :class:`_Within`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], tenant: str, schema: str) -> None:
        super().__init__("", tenant=tenant, schema=schema)
        self._theirs = connection

    async def call(self, call: Call[T]) -> T:
        try:
            return await run_async(self._theirs, call, self._schema)
        except psycopg.Error as error:
            raise translated(error) from error


def _found(found: T | None, run_id: UUID) -> T:
    if found is None:
        raise NotFound(f"there is no run {run_id}")
    return found


def _failed(run: Run) -> RunFailed:
    message = run.error.get("message") if isinstance(run.error, dict) else None
    return RunFailed(f"run {run.id} is {run.state}" + (f": {message}" if message else ""))
