"""What a worker knows of the queues that it serves, and of which it asks to be told."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import protocol
from .link import Link
from .protocol import Claimed


@dataclass
class Queue:
    """A queue, its slots and what runs in them."""

    name: str
    slots: int
    running: int = 0
    #: Claimed, and waiting for a slot: after a lost answer there may be more steps than slots.
    waiting: deque[Claimed] = field(default_factory=deque)
    #: Whether a claim could find something.
    look: bool = True
    #: Whether the database tells us of new work.
    listening: bool = False
    #: The last claim did not fill the slots.
    exhausted: bool = False
    #: Claims in a row that filled them.
    full_claims: int = 0

    @property
    def free(self) -> int:
        """How many steps a claim may ask for."""
        return max(0, self.slots - self.running - len(self.waiting))

    def claimed(self, asked: int, got: int) -> None:
        """A claim has come back."""
        self.exhausted = got < asked
        self.full_claims = 0 if self.exhausted else self.full_claims + 1


@dataclass
class Unfinished:
    """Transactions that may have made steps ready without telling this worker: it looks again and again until they have ended."""

    before: int
    wait: float = 0.002

    @staticmethod
    def found(before: int | None, known: Unfinished | None) -> Unfinished | None:
        """What a claim has found out, after what was known before it."""
        if before is None:
            return None
        if known is not None and known.before == before:
            known.wait *= 2
            return known
        return Unfinished(before)


class Listening:
    """The requests to be told of new work."""

    def __init__(self, link: Link, worker: int) -> None:
        self._link = link
        self._worker = worker
        #: Whether the connection that listens is there.
        self.connected = False
        self.unfinished: Unfinished | None = None

    async def prepare(self, queues: Sequence[Queue]) -> None:
        """Before a claim: asks to be told of queues that ran dry, and no more of those that fill all slots, where others can act on it."""
        start = [queue for queue in queues if self.connected and queue.exhausted and not queue.listening]
        stop = [queue for queue in queues if queue.listening and queue.full_claims > 1]
        if start:
            await self._link.run(protocol.listen_for(self._worker, [queue.name for queue in start]))
            self.unfinished = Unfinished.found(await self._link.run(protocol.unfinished_before(None)), self.unfinished)
        elif self.unfinished is not None:
            before = await self._link.run(protocol.unfinished_before(self.unfinished.before))
            self.unfinished = Unfinished.found(before, self.unfinished)
        if stop:
            await self._link.run(protocol.stop_listening(self._worker, [queue.name for queue in stop]))
        for queue in start:
            queue.listening = self.connected
        for queue in stop:
            queue.listening = False
