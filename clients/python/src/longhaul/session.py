"""One registration of a worker: when it claims, what it owns, how it ends. Everything here belongs to the worker's event loop; the threads
beside it send messages."""

from __future__ import annotations

import asyncio
import enum
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from . import protocol
from .attempt import Outcome, execute
from .chores import Chores
from .completer import Completer, Parcel, Save, Saver
from .context import Context
from .errors import LonghaulError, Refused, Unreachable, WorkerLost
from .handlers import Handler, Handlers
from .heart import Heart, Told
from .history import History
from .lease_clock import LeaseClock
from .link import Backoff, Link
from .listener import listen
from .progress import Progress
from .protocol import Checkpoint, Claimed, Ended, Key, Refusal
from .queues import Listening, Queue
from .sender import Sender
from .settings import Settings
from .step_error import Retry, described

log = logging.getLogger("longhaul")

#: Polls of an idle worker before it takes longer, and how often the time doubles then.
_PATIENT_POLLS, _MOST_DOUBLINGS = 3, 3

#: Handing back begins a fifth of the grace before its end, and at most this long.
_HAND_BACK = 5.0

_STALE = "the worker was away for as long as its lease lives"


class End(enum.Enum):
    """Why a session ended."""

    STOPPED = "stopped"
    DRAINED = "drained"
    LOST = "lost"


class Services(Protocol):
    """What a context needs of the session."""

    worker: int
    schema: str
    max_payload: int
    link: Link

    async def save(self, checkpoint: Checkpoint) -> None:
        """Saves a checkpoint."""

    def report(self, key: Key, name: str, value: str) -> None:
        """Takes note of progress."""


@dataclass
class Owned:
    """A step that this worker owns, until its outcome is stored."""

    claimed: Claimed
    queue: Queue
    context: Context | None = None
    task: asyncio.Task[None] | None = None
    ended: bool = False


class Session:
    """From a registration to its end."""

    def __init__(
        self,
        settings: Settings,
        handlers: Handlers,
        registered: tuple[int, str],
        clock: LeaseClock,
        limits: tuple[int, int],
    ) -> None:
        self.worker, self._channel = registered
        self.schema = settings.schema
        self.max_payload, self._max_history = limits
        self._settings = settings
        self._handlers = handlers
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.link = settings.link()
        self._claims_link = settings.link()
        self._store_link = settings.link()
        self._queues = {name: Queue(name, slots) for name, slots in settings.queues.items()}
        self._owned: dict[Key, Owned] = {}
        self._owned_lock = threading.Lock()
        #: For the claims, and for the end.
        self._changed = asyncio.Event()
        self._done_changed = asyncio.Event()
        self._outcomes: Sender[Parcel] = Sender(Completer(self._store_link, self.worker, self._settled))
        self._saves: Sender[Save] = Sender(Saver(self._store_link, self.worker))
        self._progress = Progress(self.link, self.worker)
        self._number = 0
        self._recover = False
        self._listening = Listening(self._claims_link, self.worker)
        self._idle_polls = 0
        self._closing: End | None = None
        self._lost: asyncio.Future[str] = self._loop.create_future()
        told = Told(
            lost=lambda refusals: self._post(self._leases_lost, refusals),
            draining=lambda: self._post(self._close, End.DRAINED),
            overdue=lambda: self._post(self._hand_back, "the worker could not reach the database for longer than its lease"),
            given_up=lambda reason: self._post(self._give_up, reason),
        )
        self._heart = Heart(settings.link, self.worker, self._keys, clock, told)
        self._heart.interval, self._heart.lease = settings.heartbeat, settings.lease

    # The session ----------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> End:
        """Works until it is told to stop and nothing is in flight, or until the worker is given up."""
        chores = Chores(self._settings.link) if self._settings.chores else None
        tasks = [
            asyncio.ensure_future(work)
            for work in (
                self._claim_forever(),
                self._outcomes.run(),
                self._saves.run(),
                self._progress.run(),
                self._watch(stop),
            )
        ]
        if self._settings.listen_to is not None:
            tasks.append(asyncio.ensure_future(listen(self._settings.listen_to, self._channel, self._connected, self._told)))
        self._heart.start()
        if chores is not None:
            chores.start()
        try:
            over = asyncio.ensure_future(self._until_done())
            tasks.append(over)
            # Whichever of them breaks, ends the session; but for the claims, which end when it closes.
            watched: set[asyncio.Future[object]] = {self._lost, over, *tasks[1:4]}  # type: ignore[arg-type]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if self._lost.done() and self._closing is None:
                return End.LOST
            for broken in (task for task in tasks[1:4] if task.done()):
                broken.result()
            return self._closing or End.LOST
        finally:
            for owned in list(self._owned.values()):
                self._cancel(owned)
            for task in tasks:
                task.cancel()
            if not self._lost.done():
                await self._leave()
            self._heart.stop()
            if chores is not None:
                chores.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in (self.link, self._claims_link, self._store_link):
                with suppress(asyncio.TimeoutError, TimeoutError):
                    await asyncio.wait_for(link.close(), 1.0)

    async def _watch(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._close(End.STOPPED)
        # For operators to see, and against being woken; nothing depends on it.
        with suppress(LonghaulError):
            await self.link.run(protocol.drain(self.worker))

    async def _until_done(self) -> None:
        """Until it was told to stop, and what it had is stored or handed back."""
        while self._closing is None:
            await self._change(None)
        deadline = None
        if self._closing is End.STOPPED:
            deadline = self._loop.time() + self._settings.grace - min(self._settings.grace / 5, _HAND_BACK)
        handed_back = False
        while self._owned:
            if self._closing is End.STOPPED and deadline is None:
                deadline = self._loop.time() + self._settings.grace - min(self._settings.grace / 5, _HAND_BACK)
            left = None if deadline is None else max(0.0, deadline - self._loop.time())
            if left == 0.0:
                if handed_back:
                    log.warning("stopping although the database did not take back all steps")
                    return
                handed_back = True
                self._hand_back("the worker shut down before the step was done")
                deadline = self._loop.time() + _HAND_BACK
                continue
            await self._change(left)

    def _close(self, end: End) -> None:
        if self._closing is None or end is End.STOPPED:
            log.info("worker %s claims no more: %s", self.worker, end.value)
            self._closing = end
            self._release_waiting("the worker was shutting down")
        self._notify()

    async def _leave(self) -> None:
        try:
            await asyncio.wait_for(self._progress.flush(), 1.0)
            await asyncio.wait_for(self.link.run(protocol.deregister(self.worker)), 5.0)
        except (LonghaulError, asyncio.TimeoutError, TimeoutError) as error:
            log.warning("left without notice; the leases will expire: %s", error)

    def _post(self, callback: object, *values: object) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *values)  # type: ignore[arg-type]

    def _notify(self) -> None:
        self._changed.set()
        self._done_changed.set()

    async def _change(self, timeout: float | None) -> None:
        self._done_changed.clear()
        with suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(self._done_changed.wait(), timeout)

    # What the threads and the listener tell ---------------------------------------------------------------------------

    def _give_up(self, reason: str) -> None:
        log.warning("worker %s was given up; it starts anew: %s", self.worker, reason)
        if not self._lost.done():
            self._lost.set_result(reason)

    def _connected(self, now: bool) -> None:
        self._listening.connected = now
        for queue in self._queues.values():
            queue.listening = False
            queue.look = queue.look or now
        if now:
            self._heart.beat()
            self._notify()

    def _told(self, message: str) -> None:
        if message == "heartbeat":
            self._heart.beat()
        else:
            for queue in self._queues.values():
                queue.look = True
            self._notify()

    def _leases_lost(self, refusals: Sequence[Refusal]) -> None:
        for refusal in refusals:
            owned = self._owned.get(refusal.key)
            # One whose handler has ended is on its way through the completer, which will say what became of it.
            if owned is None or owned.ended or refusal.was_done:
                continue
            log.info("step %s/%s: attempt %s is stopped: %s", *refusal.key, refusal.reason)
            self._cancel(owned)
            self._forget(refusal.key)

    def _hand_back(self, reason: str) -> None:
        self._release_waiting(reason)
        for key, owned in list(self._owned.items()):
            if not owned.ended:
                self._cancel(owned)
                self._release(key, owned, reason)

    # Claiming -------------------------------------------------------------------------------------------------------

    async def _claim_forever(self) -> None:
        backoff = Backoff()
        while self._closing is None and not self._lost.done():
            wanted = [(queue.name, queue.free) for queue in self._queues.values() if queue.look and queue.free > 0]
            if not wanted and not self._recover:
                await self._until_due()
                continue
            try:
                await self._claim(wanted)
                backoff.reset()
            except WorkerLost as error:
                self._give_up(str(error))
                return
            except LonghaulError as error:
                log.log(
                    logging.DEBUG if isinstance(error, Unreachable | Refused) else logging.ERROR,
                    "claim failed: %s",
                    error,
                )
                if isinstance(error, Refused):
                    # Overdue, or drained: the next heartbeat tells, and comes now.
                    self._heart.beat()
                # It may have been made all the same: the database is asked what it took.
                self._recover = True
                await backoff.wait()

    async def _until_due(self) -> None:
        self._changed.clear()
        longest = self._settings.poll * 2**_MOST_DOUBLINGS
        if self._listening.unfinished is not None:
            pause = self._listening.unfinished.wait
        else:
            pause = self._settings.poll * 2 ** min(max(self._idle_polls - _PATIENT_POLLS, 0), _MOST_DOUBLINGS)
        if any(queue.look and queue.free > 0 for queue in self._queues.values()):
            return
        try:
            await asyncio.wait_for(self._changed.wait(), min(pause, longest))
        except (asyncio.TimeoutError, TimeoutError):
            for queue in self._queues.values():
                queue.look = True

    async def _claim(self, wanted: list[tuple[str, int]]) -> None:
        self._number += 1
        if self._recover:
            found = await self._claims_link.run(protocol.claim(self.worker, [], self._number, self._keys()))
            self._recover = False
            for queue in self._queues.values():
                queue.look = True
            self._take_in(found)
            return
        asked = dict(wanted)
        await self._listening.prepare([self._queues[name] for name in asked])
        for name in asked:
            self._queues[name].look = False
        claimed = await self._claims_link.run(protocol.claim(self.worker, wanted, self._number))
        for name, most in asked.items():
            queue = self._queues[name]
            queue.claimed(most, sum(one.queue == name for one in claimed))
            # One that ran dry is listened to, and looked at once more after that.
            queue.look |= not queue.exhausted or (self._listening.connected and not queue.listening)
        idle = not claimed and self._listening.unfinished is None and all(queue.listening for queue in self._queues.values())
        self._idle_polls = self._idle_polls + 1 if idle else 0
        self._take_in(claimed)

    # Steps in flight ------------------------------------------------------------------------------------------------

    def _keys(self) -> list[Key]:
        with self._owned_lock:
            return list(self._owned)

    def _take_in(self, claimed: list[Claimed]) -> None:
        for step in claimed:
            queue = self._queues.get(step.queue)
            handler = self._handlers.get(step.handler)
            owned = Owned(step, queue or Queue(step.queue, 0))
            with self._owned_lock:
                self._owned[step.key] = owned
            if queue is None or handler is None:
                log.error("step %s/%s: this worker does not know handler %s", step.key.run_id, step.key.seq, step.handler)
                self._release(step.key, owned, "the worker does not know the step's handler")
            elif self._closing is not None:
                self._release(step.key, owned, "the worker was shutting down")
            elif not self._clock.holds():
                # An answer that lay about while the process was frozen.
                self._release(step.key, owned, _STALE)
            else:
                queue.waiting.append(step)
        self._fill_slots()

    def _fill_slots(self) -> None:
        if not self._clock.holds():
            self._release_waiting(_STALE)
        for queue in self._queues.values():
            while queue.waiting and queue.running < queue.slots:
                step = queue.waiting.popleft()
                owned = self._owned.get(step.key)
                handler = self._handlers.get(step.handler)
                if owned is not None and handler is not None and not owned.ended:
                    queue.running += 1
                    owned.task = asyncio.ensure_future(self._attempt(owned, handler))

    def _release_waiting(self, reason: str) -> None:
        for queue in self._queues.values():
            while queue.waiting:
                key = queue.waiting.popleft().key
                if key in self._owned and not self._owned[key].ended:
                    self._release(key, self._owned[key], reason)

    def _release(self, key: Key, owned: Owned, reason: str) -> None:
        owned.ended = True
        self._outcomes.put(Parcel(Ended(key, "released", described(Retry(reason)), True, 0)))

    def _cancel(self, owned: Owned) -> None:
        if owned.context is not None:
            owned.context._state.cancelled = True
        if owned.task is not None:
            owned.task.cancel()

    async def _attempt(self, owned: Owned, handler: Handler) -> None:
        step = owned.claimed
        try:
            outcome = await self._outcome(owned, handler)
            if not owned.ended:
                owned.ended = True
                self._outcomes.put(Parcel(outcome))
        finally:
            owned.queue.running -= 1
            if owned.queue.waiting:
                self._fill_slots()
            self._changed.set()
            if owned.task is not None and owned.task.cancelled():
                self._forget(step.key)

    async def _outcome(self, owned: Owned, handler: Handler) -> Outcome:
        step = owned.claimed
        entries = step.history
        if entries is None:
            entries = await self.link.persistently(protocol.history(step.key))
        if not self._clock.holds():
            return Ended(step.key, "released", described(Retry(_STALE)), True, 0)
        owned.context = Context(step, self, History(entries, self._max_history))
        return await execute(step.key, owned.context, handler, step.input, step.timeout_ms, self.max_payload)

    def _settled(self, key: Key, _: str) -> None:
        self._forget(key)

    def _forget(self, key: Key) -> None:
        with self._owned_lock:
            self._owned.pop(key, None)
        self._notify()

    # What contexts ask for --------------------------------------------------------------------------------------------

    async def save(self, checkpoint: Checkpoint) -> None:
        """Saves a checkpoint; the lease must still be this worker's."""
        saved: asyncio.Future[None] = self._loop.create_future()
        self._saves.put(Save(checkpoint, saved))
        await saved

    def report(self, key: Key, name: str, value: str) -> None:
        """Takes note of progress; the last value is stored."""
        self._progress.put(key, name, value)
