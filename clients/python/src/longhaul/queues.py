"""What a worker knows of a queue that it serves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

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
