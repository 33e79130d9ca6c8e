"""How a worker works."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from .errors import InvalidInput
from .link import Link


@dataclass(frozen=True)
class Settings:
    """Of a worker. Times are in seconds."""

    #: Connection string or URL.
    database: str
    #: Queues that it serves, and how many steps of each it does at a time.
    queues: Mapping[str, int] = field(default_factory=lambda: {"default": 10})
    tenant: str = "default"
    schema: str = "longhaul"
    #: A name for people; the host's when absent.
    name: str = field(default_factory=socket.gethostname)
    #: Where it listens for notifications: the database itself when absent. Behind a pooler in transaction mode, a URL that goes
    #: around it, or ``""``: then it polls.
    listen: str | None = None
    #: How often it renews its leases.
    heartbeat: float = 30.0
    #: How long they live after that; three heartbeats when absent.
    lease_time: float | None = None
    #: How often it looks without being told.
    poll: float = 2.0
    #: How long steps may go on after it was told to stop.
    grace: float = 30.0
    #: How long it waits for the answer of a call.
    call_timeout: float = 60.0
    #: Whether it does the chores when nobody else does.
    chores: bool = True

    def __post_init__(self) -> None:
        for name, slots in self.queues.items():
            if slots < 1:
                raise InvalidInput(f"queue {name} needs at least one slot, not {slots}")
        if not self.queues:
            raise InvalidInput("a worker needs a queue")
        if not 0.01 <= self.heartbeat <= self.lease / 2:
            raise InvalidInput(
                f"a heartbeat every {self.heartbeat:g} s does not fit a lease of {self.lease:g} s: at least two belong into it"
            )

    @property
    def lease(self) -> float:
        """How long leases live after a heartbeat."""
        return self.heartbeat * 3 if self.lease_time is None else self.lease_time

    @property
    def listen_to(self) -> str | None:
        """Where to listen, if anywhere."""
        return self.database if self.listen is None else self.listen or None

    def link(self, call_timeout: float | None = None) -> Link:
        """A connection."""
        return Link(self.database, self.schema, min(self.call_timeout, call_timeout or self.call_timeout))

    @staticmethod
    def from_environment(**settings: object) -> Settings:
        """With the database that ``DATABASE_URL`` names."""
        database = os.environ.get("DATABASE_URL")
        if not database:
            raise InvalidInput("DATABASE_URL is not set")
        return Settings(database, **settings)  # type: ignore[arg-type]
