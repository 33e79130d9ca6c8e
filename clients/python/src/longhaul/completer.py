"""Stores outcomes and checkpoints: what the senders send to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from . import protocol
from .attempt import Completed, Outcome, Suspended
from .errors import LonghaulError, Refused, Unreachable
from .link import Backoff, Link
from .protocol import Checkpoint, Ended, Key, Refusal
from .step_error import Fail, Retry, described, ended

log = logging.getLogger("longhaul")
T = TypeVar("T")

#: Most bytes in one call; a larger item goes alone.
_MOST_BYTES = 8 * 1024 * 1024


def _in_calls(items: Iterable[T], size: Callable[[T], int]) -> list[list[T]]:
    calls: list[list[T]] = []
    room = 0
    for item in items:
        bytes = size(item)
        if not calls or room < bytes:
            calls.append([])
            room = _MOST_BYTES
        room -= bytes
        calls[-1].append(item)
    return calls


@dataclass(frozen=True)
class Parcel:
    """An outcome on its way."""

    outcome: Outcome
    #: It stands for one that could not be stored.
    substitute: bool = False


class Completer:
    """Where outcomes go."""

    def __init__(self, link: Link, worker: int, settled: Callable[[Key, str], None]) -> None:
        self._link = link
        self._worker = worker
        self._settled = settled

    def calls(self, batch: list[Parcel]) -> list[list[Parcel]]:
        """Completions, suspensions and ends go by different functions."""
        split: list[list[Parcel]] = []
        for kind in (Ended, Suspended, Completed):
            split += _in_calls((parcel for parcel in batch if isinstance(parcel.outcome, kind)), _size)
        return split

    async def store(self, items: list[Parcel]) -> list[Parcel]:
        """Makes the call for outcomes of one kind."""
        completed = [one.outcome for one in items if isinstance(one.outcome, Completed)]
        suspended = [one.outcome for one in items if isinstance(one.outcome, Suspended)]
        if completed:
            call = protocol.complete(self._worker, [one.key for one in completed], [one.output for one in completed])
        elif suspended:
            call = protocol.suspend(self._worker, [one.key for one in suspended], [one.waits for one in suspended])
        else:
            call = protocol.end_attempts(self._worker, [one.outcome for one in items if isinstance(one.outcome, Ended)])
        refused = {refusal.key: refusal for refusal in await self._link.run(call)}
        busy = [one for one in items if one.outcome.key in refused and refused[one.outcome.key].is_busy]
        for one in items:
            refusal = refused.get(one.outcome.key)
            if refusal is None or not refusal.is_busy:
                self._tell(one.outcome, refusal)
        return busy

    def _tell(self, outcome: Outcome, refusal: Refusal | None) -> None:
        word = outcome.outcome if isinstance(outcome, Ended) else type(outcome).__name__.lower()
        if refusal is not None:
            word = refusal.reason.removeprefix("already_")
            if not refusal.was_done:
                log.warning("step %s/%s, attempt %s: the outcome was refused: %s", *outcome.key, refusal.reason)
        self._settled(outcome.key, word)

    async def refused(self, item: Parcel, error: LonghaulError) -> Parcel | None:
        """An outcome that cannot be stored is a failed attempt. When not even that can be stored, the lease is given up."""
        key = item.outcome.key
        if item.substitute:
            log.error("step %s/%s: attempt %s can be ended in no way; its lease is given up", *key)
            await self._let_go(key)
            self._settled(key, "lost")
            return None
        log.warning("step %s/%s: the outcome of attempt %s cannot be stored; the attempt has failed", *key)
        if isinstance(item.outcome, Ended):
            again = Retry(f"the end of the attempt cannot be stored: {error}")
            return Parcel(Ended(key, "failed", described(again), item.outcome.retryable), substitute=True)
        what = "the output cannot be stored" if isinstance(item.outcome, Completed) else "the step cannot wait for that"
        return Parcel(ended(key, Fail(f"{what}: {error}")), substitute=True)

    async def _let_go(self, key: Key) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._link.run(protocol.let_go(self._worker, key))
                return
            except Unreachable:
                await backoff.wait()
            except LonghaulError as error:
                log.error("the lease lives for as long as this worker: %s", error)
                return

    async def reachable(self) -> bool:
        """Whether the database answers."""
        return await _reachable(self._link)


@dataclass(frozen=True)
class Save:
    """A checkpoint on its way, and who waits for it."""

    checkpoint: Checkpoint
    saved: asyncio.Future[None]


class Saver:
    """Where checkpoints go."""

    def __init__(self, link: Link, worker: int) -> None:
        self._link = link
        self._worker = worker

    def calls(self, batch: list[Save]) -> list[list[Save]]:
        """By their size."""
        return _in_calls(batch, lambda save: len(save.checkpoint.value))

    async def store(self, items: list[Save]) -> list[Save]:
        """Whoever does not wait any more was cancelled."""
        wanted = [one for one in items if not one.saved.done()]
        if not wanted:
            return []
        refusals = await self._link.run(protocol.save_checkpoints(self._worker, [one.checkpoint for one in wanted]))
        refused = {refusal.key: refusal for refusal in refusals}
        busy = []
        for one in wanted:
            refusal = refused.get(one.checkpoint.key)
            if refusal is not None and refusal.is_busy:
                busy.append(one)
            elif not one.saved.done():
                if refusal is None:
                    one.saved.set_result(None)
                else:
                    one.saved.set_exception(Refused(refusal.reason))
        return busy

    async def refused(self, item: Save, error: LonghaulError) -> None:
        """A checkpoint that cannot be stored fails its own function only."""
        if not item.saved.done():
            item.saved.set_exception(error)

    async def reachable(self) -> bool:
        """Whether the database answers."""
        return await _reachable(self._link)


async def _reachable(link: Link) -> bool:
    try:
        await link.run(protocol.now())
    except LonghaulError:
        return False
    return True


def _size(parcel: Parcel) -> int:
    outcome = parcel.outcome
    if isinstance(outcome, Completed):
        return len(outcome.output)
    return len(outcome.waits) if isinstance(outcome, Suspended) else len(outcome.error or "")
