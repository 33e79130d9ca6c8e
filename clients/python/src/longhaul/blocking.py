"""The context of a handler that is no coroutine: it runs on a thread of its own, and its calls wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from .call import run
from .context import Context, _check_completed, _closure
from .transaction import raw_connection
from .waiting import Ask, Decision

T = TypeVar("T")


class BlockingContext:
    """Given to a handler that is an ordinary function, with its input. See :class:`Context` for what the calls do."""

    def __init__(self, context: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self.run_id: UUID = context.run_id
        self.flow: str = context.flow
        self.flow_version: int = context.flow_version
        self.step: str = context.step
        self.worker: int = context.worker
        self.attempt: int = context.attempt
        self.max_attempts: int = context.max_attempts
        self.fencing_token: int = context.fencing_token
        self.idempotency_key: str = context.idempotency_key
        self.parameters: Any = context.parameters

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to stop. A thread cannot be stopped from outside: long work asks now and then."""
        return self._context.is_cancelled

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def output(self, step: str) -> Any:
        """The output of another step of the run."""
        return self._run(self._context.output(step))

    def progress(self, done: int, of: int, message: str = "") -> None:
        """Says how far the step is."""
        self._run(self._context.progress(done, of, message))

    def report(self, key: str, value: Any) -> None:
        """Sets a value of the step's own under a key, for people who look on."""
        self._run(self._context.report(key, value))

    def complete_in(self, connection: Any, output: Any = None) -> None:
        """Completes the step in the open transaction of a connection of psycopg, SQLAlchemy (a session too) or Django."""
        self._context._state.completed_in = True
        call = self._context._completion(output)
        _check_completed(run(raw_connection(connection), call, self._context._services.schema))

    def checkpoint(self, name: str, work: Callable[[], Any]) -> Any:
        """Computes a value once."""

        async def place() -> Any:
            return self._context._place("step", name)

        path, answer = self._run(place())
        if answer is not None:
            return answer.value
        token = _closure.set(name)
        try:
            value = work()
        finally:
            _closure.reset(token)
        if self._context._claimed.checkpoints:
            self._run(self._context._save(path, "step", name, value))
        return value

    def now(self) -> datetime:
        """The present time, the same in every attempt."""
        return self._run(self._context.now())

    def uuid(self) -> UUID:
        """A UUID that is the same in every attempt."""
        return self._run(self._context.uuid())

    def random(self) -> float:
        """A number that is the same in every attempt."""
        return self._run(self._context.random())

    def patched(self, id: str) -> bool:
        """Whether to do what a change of the code brought."""
        return self._run(self._context.patched(id))

    def sleep(self, name: str, length: timedelta | float) -> None:
        """Sleeps durably."""
        self._run(self._context.sleep(name, length))

    def signal(self, topic: str, *, within: timedelta | float | None = None) -> Any:
        """Waits for a signal to this run."""
        return self._run(self._context.signal(topic, within=within))

    def topic_signal(self, topic: str, key: str, *, within: timedelta | float | None = None) -> Any:
        """Waits for a signal to a topic and key."""
        return self._run(self._context.topic_signal(topic, key, within=within))

    def child(self, flow: str, input: Any = None) -> Any:
        """Starts a child run and waits for its output."""
        return self._run(self._context.child(flow, input))

    def start_child(self, flow: str, input: Any = None) -> UUID:
        """Starts a run that nobody waits for."""
        return self._run(self._context.start_child(flow, input))

    def ask(self, question: Ask) -> Decision:
        """Asks a question and waits for the decision."""
        return self._run(self._context.ask(question))

    def interrupt(self, reason: str, value: Any = None, metadata: Mapping[str, Any] | None = None) -> Any:
        """Pauses the run until somebody resumes it with data."""
        return self._run(self._context.interrupt(reason, value, metadata))

    def decision(self) -> Decision | None:
        """The decision that let this step begin."""
        return self._run(self._context.decision())


def on_a_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Runs work on a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("the handler raised StopIteration"))
        else:
            future.set_exception(error)

    def body() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as caught:
            error = caught
        # When the loop has ended, nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=body, name="longhaul-handler", daemon=True).start()
    return future
