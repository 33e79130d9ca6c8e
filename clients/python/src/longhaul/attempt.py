"""One attempt at a step: the handler, its timeout, its mistakes, its cancellation."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from .blocking import BlockingContext, on_a_thread
from .context import Context
from .errors import InvalidInput
from .handlers import Handler
from .payload import encoded
from .protocol import Ended, Key
from .step_error import ContinueAsNew, Dispatched, Fail, Retry, described, ended
from .waiting import Suspend, check_topic


@dataclass(frozen=True)
class Completed:
    """The step is done."""

    key: Key
    output: str


@dataclass(frozen=True)
class Suspended:
    """It waits, and holds no slot meanwhile."""

    key: Key
    waits: str


Outcome = Completed | Suspended | Ended


class Broken(Exception):
    """Something that would have ended the process."""


async def execute(key: Key, context: Context, handler: Handler, input: Any, timeout_ms: int | None, most: int) -> Outcome:
    """Calls the handler. When this is cancelled there is no outcome: whoever cancels knows what is to become of the step."""
    call = asyncio.ensure_future(_called(context, handler, input))
    try:
        done, _ = await asyncio.wait({call}, timeout=None if timeout_ms is None else timeout_ms / 1000)
    finally:
        context._state.cancelled = True
        if not call.done():
            call.cancel()
            call.add_done_callback(_forget)
    if not done:
        error = Retry(f"the attempt took longer than {timeout_ms} ms")
        return Ended(key, "timed_out", described(error))
    if call.cancelled():
        return Ended(key, "failed", described(Retry("the handler was cancelled by itself")))
    caught = call.exception()
    if caught is not None:
        return _failed(key, caught, most)
    try:
        context._history.check_end()
    except Fail as error:
        return ended(key, error)
    if context._state.completed_in:
        # If the transaction was committed, this is refused because the step is completed.
        return ended(key, Retry("the transaction that was to complete the step was not committed"))
    try:
        return Completed(key, encoded(call.result(), most, "the output"))
    except InvalidInput as error:
        return ended(key, Fail(str(error)))


def _forget(call: asyncio.Future[Any]) -> None:
    with suppress(BaseException):
        call.exception()


async def _called(context: Context, handler: Handler, input: Any) -> Any:
    try:
        if handler.is_async:
            return await handler.function(context, input)
        blocking = BlockingContext(context, asyncio.get_running_loop())
        copied = contextvars.copy_context()
        return await on_a_thread(lambda: copied.run(handler.function, blocking, input))
    except (KeyboardInterrupt, SystemExit, GeneratorExit) as error:
        # A handler may not end the worker.
        raise Broken(f"the handler raised {type(error).__name__}: {error}") from error


def _failed(key: Key, error: BaseException, most: int) -> Outcome:
    if isinstance(error, Broken):
        return Ended(key, "panicked", described(error))
    waits: list[dict[str, Any]]
    if isinstance(error, Suspend):
        waits = [error.waits[path] for path in sorted(error.waits)]
    elif isinstance(error, Dispatched):
        wait: dict[str, Any] = {"kind": "external", "path": "external", "topic": error.topic, "key": error.key}
        if error.within_ms is not None:
            wait["wait_ms"] = error.within_ms
        waits = [wait]
    elif isinstance(error, ContinueAsNew):
        waits = [{"kind": "new", "input": error.input}]
    else:
        return ended(key, error)
    try:
        if isinstance(error, Dispatched):
            check_topic(error.topic, error.key)
        return Suspended(key, encoded(waits, len(waits) * (most + 4096), "what the step waits for"))
    except (Fail, InvalidInput) as wrong:
        return ended(key, Fail(str(wrong)))
