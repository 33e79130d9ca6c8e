"""What a handler knows about its step, and the durable calls: what stands in the history is answered from there, and what a function waits
for suspends it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import psycopg

from . import protocol
from .call import run_async
from .errors import InvalidInput, LonghaulError, Refused, Unreachable
from .history import History, described
from .link import Backoff
from .payload import encoded
from .protocol import Checkpoint, Claimed, Entry
from .step_error import Fail, Retry, milliseconds
from .waiting import TIMED_OUT, Ask, Decision, Places, Suspend, check_topic, read_decision, read_time

if TYPE_CHECKING:
    from .session import Services

#: The checkpoint in whose function the code is.
_closure: contextvars.ContextVar[str | None] = contextvars.ContextVar("longhaul_checkpoint", default=None)


class Context:
    """Given to an async handler with its input."""

    def __init__(self, claimed: Claimed, services: Services, history: History, places: Places | None = None) -> None:
        self._claimed = claimed
        self._services = services
        self._history = history
        self._places = places or Places()
        self._shared = _Shared() if places is None else None

    # The step -------------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> UUID:
        """The run."""
        return self._claimed.key.run_id

    @property
    def flow(self) -> str:
        """Name of the flow."""
        return self._claimed.flow

    @property
    def flow_version(self) -> int:
        """Version of the flow."""
        return self._claimed.flow_version

    @property
    def step(self) -> str:
        """Name of the step."""
        return self._claimed.step

    @property
    def worker(self) -> int:
        """Id of the worker's registration."""
        return self._services.worker

    @property
    def attempt(self) -> int:
        """Which try this is, from 1. Attempts that were handed back or snoozed are not counted."""
        return self._claimed.failures + 1

    @property
    def max_attempts(self) -> int:
        """How many tries the step has."""
        return self._claimed.max_attempts

    @property
    def fencing_token(self) -> int:
        """A number that grows with every claim of this step: a store that has seen a higher one must refuse this one."""
        return self._claimed.key.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for all attempts of this step, and for no other step."""
        return self._claimed.idempotency_key

    @property
    def parameters(self) -> Any:
        """The step's constant settings (``with`` in its definition)."""
        return self._claimed.parameters

    @property
    def is_cancelled(self) -> bool:
        """Whether the attempt is to stop: its lease was lost, its time is over, or the worker shuts down."""
        return self._state.cancelled

    @property
    def _state(self) -> _Shared:
        assert self._shared is not None
        return self._shared

    async def output(self, step: str) -> Any:
        """The output of another step of the run, which must have completed: name it in ``after``."""
        found = await self._asked(protocol.output_of(self.run_id, step))
        if found is None:
            raise Fail(f"the run has no step {step}")
        outcome, output = found
        if outcome is None:
            raise Fail(f"step {step} has not ended; step {self.step} must name it in `after`")
        if outcome != "completed":
            raise Fail(f"step {step} has no output: it is {outcome}")
        return output

    async def progress(self, done: int, of: int, message: str = "") -> None:
        """Says how far the step is, as often as one likes: the last value is stored within half a second."""
        await self.report("", {"done": done, "of": of, "message": message})

    async def report(self, key: str, value: Any) -> None:
        """Sets a value of the step's own under a key, for people who look on."""
        if "\0" in key or len(key) > 500:
            raise Fail("the key of a progress has at most 500 characters, and no \\u0000")
        self._services.report(self._claimed.key, key, self._encoded(value, "the progress"))

    async def complete_in(self, connection: psycopg.AsyncConnection[Any], output: Any = None) -> None:
        """Completes the step in the open transaction of a connection to the same database: what the handler wrote there and the
        completion exist both or not at all. The handler commits, and then returns. Fails when the lease was lost: roll back then."""
        self._state.completed_in = True
        refused = await run_async(connection, self._completion(output), self._services.schema)
        _check_completed(refused)

    def _completion(self, output: Any) -> Any:
        return protocol.complete(self.worker, [self._claimed.key], [self._encoded(output, "the output")], skip_busy=False)

    # Durable calls --------------------------------------------------------------------------------------------------

    async def checkpoint(self, name: str, work: Callable[[], Awaitable[Any] | Any]) -> Any:
        """Computes a value once: what ``work`` gave is saved, and given again in every later attempt without calling it. An error is not
        saved. Nothing durable can be called in it."""
        path, answer = self._place("step", name)
        if answer is not None:
            return answer.value
        token = _closure.set(name)
        try:
            value = work()
            if inspect.isawaitable(value):
                value = await value
        finally:
            _closure.reset(token)
        if self._claimed.checkpoints:
            await self._save(path, "step", name, value)
        return value

    async def now(self) -> datetime:
        """The present time of this process, the same in every attempt."""
        path, answer = self._place("now", "")
        if answer is not None:
            return read_time(answer.value)
        now = datetime.now(timezone.utc)
        await self._save(path, "now", "", now.isoformat().replace("+00:00", "Z"))
        return now

    async def uuid(self) -> UUID:
        """A UUID that is the same in every attempt, and in no other run or step."""
        return self._derived(self._place("uuid", "")[0])

    async def random(self) -> float:
        """A number from 0 up to 1 that is the same in every attempt. Not for secrets."""
        path, _ = self._place("random", "")
        return (self._derived(path).int & ((1 << 53) - 1)) / (1 << 53)

    async def patched(self, id: str) -> bool:
        """Whether this code is to do what a change of it brought: true in runs that come here after the change, false in those whose
        history goes on without it."""
        self._check_durable(f'patched "{id}"')
        path = f"patch {id}"
        if self._history.has(path):
            return True
        if self._history.goes_on_at(self._places.prefix, self._places.next):
            return False
        await self._save(path, "patch", id, None)
        return True

    async def sleep(self, name: str, length: timedelta | float) -> None:
        """Sleeps for milliseconds or months, by the database's clock, without holding a slot. A number is one of seconds."""
        await self._wait("sleep", name, {"wait_ms": milliseconds(length)})

    async def signal(self, topic: str, *, within: timedelta | float | None = None) -> Any:
        """Waits for a signal to this run and gives its payload; :data:`TIMED_OUT` when none came in time."""
        check_topic(topic)
        return await self._signalled({"topic": topic}, within)

    async def topic_signal(self, topic: str, key: str, *, within: timedelta | float | None = None) -> Any:
        """Waits for a signal to a topic and key, or for the completion of outside work."""
        check_topic(topic, key)
        return await self._signalled({"topic": topic, "key": key}, within)

    async def _signalled(self, wait: dict[str, Any], within: timedelta | float | None) -> Any:
        if within is not None:
            wait["wait_ms"] = milliseconds(within)
        entry = await self._wait("signal", wait["topic"], wait)
        return TIMED_OUT if entry.answer == "timeout" else entry.value

    async def child(self, flow: str, input: Any = None) -> Any:
        """Starts a child run and waits for its output. When it fails, that is an error here. When this run ends before, the child is
        stopped."""
        self._encoded(input, "the input")
        return (await self._wait("child", flow, {"flow": flow, "input": input})).value

    async def start_child(self, flow: str, input: Any = None) -> UUID:
        """Starts a run that nobody waits for and that outlives this run. Returns its id."""
        path, answer = self._place("detached", flow)
        if answer is not None:
            return UUID(answer.value)
        self._history.grow()
        text = self._encoded(input, "the input")
        backoff = Backoff(0.01, 1.0)
        while True:
            call = protocol.start_detached(self.worker, self._claimed.key, path, flow, text)
            started: UUID | None = await self._asked(call)
            if started is not None:
                return started
            # Somebody holds the run.
            await backoff.wait()

    async def ask(self, question: Ask) -> Decision:
        """Asks a question and waits for the decision; the run is paused meanwhile."""
        question.checked()
        prompt = {
            "question": question.question,
            "choices": list(question.choices),
            "by": question.by and list(question.by),
            "value": question.value,
            "default": question.default,
            "pauses": question.pauses,
        }
        wait: dict[str, Any] = {"prompt": {name: one for name, one in prompt.items() if one is not None}}
        if question.expires is not None:
            wait["wait_ms"] = milliseconds(question.expires)
        return read_decision((await self._wait("decision", "", wait)).value)

    async def interrupt(self, reason: str, value: Any = None, metadata: Mapping[str, Any] | None = None) -> Any:
        """Pauses the run with a reason and a value to show, and gives the data with which somebody resumes it. ``metadata`` is set in the
        run's."""
        wait: dict[str, Any] = {"prompt": {"question": reason, "value": value}}
        if metadata is not None:
            wait["metadata"] = dict(metadata)
        return (await self._wait("interrupt", "", wait)).value

    async def decision(self) -> Decision | None:
        """The decision that let this step begin: of its approval, of its budget or of a policy."""
        entry = self._history.decision()
        return None if entry is None else read_decision(entry.value)

    async def all(self, *branches: Callable[[Context], Awaitable[Any]]) -> list[Any]:
        """Runs branches at the same time and gives all their values; fails with the first error. A branch is given a context of its own
        and must use that one."""
        path, _ = self._place("all", "")
        tasks = self._begin(path, branches)
        try:
            waits: dict[str, dict[str, Any]] = {}
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in (task for task in tasks if task in done):
                    error = task.exception()
                    if isinstance(error, Suspend):
                        waits |= error.waits
                    elif error is not None:
                        raise error
            if waits:
                raise Suspend(waits)
            return [task.result() for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def race(self, *branches: Callable[[Context], Awaitable[Any]]) -> Any:
        """Runs branches at the same time and gives the value or the error of the first that ends. The others are dropped. Which one won is
        recorded."""
        path, answer = self._place("race", "")
        if answer is not None:
            if answer.value >= len(branches):
                message = f"the code no longer matches its history: branch {answer.value} won the race at {path}, of {len(branches)}"
                raise Fail(message, code="history_mismatch")
            return await branches[answer.value](self._branch(path, answer.value))
        if not branches:
            raise Fail("a race without branches has no winner")
        tasks = self._begin(path, branches)
        try:
            waits: dict[str, dict[str, Any]] = {}
            pending = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for number, task in enumerate(tasks):
                    if task not in done:
                        continue
                    error = task.exception()
                    if isinstance(error, Suspend):
                        waits |= error.waits
                        continue
                    await self._save(path, "race", "", number)
                    return task.result()
            raise Suspend(waits)
        finally:
            for task in tasks:
                task.cancel()

    def _begin(self, path: str, branches: Sequence[Callable[[Context], Awaitable[Any]]]) -> list[asyncio.Task[Any]]:
        async def run(number: int, branch: Callable[[Context], Awaitable[Any]]) -> Any:
            return await branch(self._branch(path, number))

        return [asyncio.ensure_future(run(number, branch)) for number, branch in enumerate(branches)]

    def _branch(self, path: str, number: int) -> Context:
        branch = Context(self._claimed, self._services, self._history, Places(f"{path}.{number}."))
        branch._shared = self._shared
        return branch

    # What they share ------------------------------------------------------------------------------------------------

    def _check_durable(self, call: str) -> None:
        name = _closure.get()
        if name is not None:
            message = (
                f'{call} cannot be called in the function of checkpoint "{name}": that is not called again once its value is stored.'
                " Call it before or after the checkpoint"
            )
            raise Fail(message, code="misplaced_call")

    def _place(self, kind: str, name: str) -> tuple[str, Entry | None]:
        self._check_durable(described(kind, name))
        path = self._places.take()
        return path, self._history.visit(path, kind, name)

    def _derived(self, path: str) -> UUID:
        return uuid5(self.run_id, f"{self._claimed.key.seq}/{path}")

    def _encoded(self, value: Any, what: str) -> str:
        try:
            return encoded(value, self._services.max_payload, what)
        except InvalidInput as error:
            raise Fail(str(error)) from None

    async def _asked(self, call: Any) -> Any:
        """Makes a repeatable call, however long the database is away."""
        try:
            return await self._services.link.persistently(call)
        except LonghaulError as error:
            raise Fail(str(error)) from error

    async def _save(self, path: str, kind: str, name: str, value: Any) -> None:
        text = self._encoded(value, f"checkpoint {name}" if kind == "step" else described(kind, name))
        self._history.grow()
        try:
            await self._services.save(Checkpoint(self._claimed.key, path, kind, name, text))
        except Refused:
            raise Retry("the lease was lost before the checkpoint was saved") from None
        except Unreachable:
            raise
        except LonghaulError as error:
            raise Fail(f"{described(kind, name)} cannot be stored: {error}") from None

    async def _wait(self, kind: str, name: str, wait: dict[str, Any]) -> Entry:
        """Waits for something durable: the answer from the history, or suspension."""
        path, answer = self._place(kind, name)
        if answer is None:
            self._history.grow()
            raise Suspend({path: {"kind": kind, "path": path, "name": name, **wait}})
        if answer.answer == "error":
            error = answer.value if isinstance(answer.value, dict) else {"message": str(answer.value)}
            raise Fail(str(error.get("message", error)), code=error.get("code") or "failed")
        return answer


class _Shared:
    """What all branches of an attempt share."""

    def __init__(self) -> None:
        self.cancelled = False
        self.completed_in = False


def _check_completed(refused: Sequence[protocol.Refusal]) -> None:
    if not refused:
        return
    reason = refused[0].reason
    if reason.startswith("invalid: "):
        raise Fail(f"the output cannot be stored: {reason}")
    raise Retry(f"the step is no longer this worker's: {reason}")
