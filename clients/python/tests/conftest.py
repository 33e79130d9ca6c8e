"""What the tests share: the database that DATABASE_URL names, with Longhaul installed and its chores done."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import pytest

from longhaul import Client, Handlers, Settings, Worker


@pytest.fixture(scope="session")
def database() -> str:
    if "DATABASE_URL" not in os.environ:
        pytest.skip("DATABASE_URL is not set: clients/test starts a server and sets it")
    return os.environ["DATABASE_URL"]


@pytest.fixture
def client(database: str) -> Iterator[Client]:
    with Client(database) as client:
        yield client


@dataclass
class Shop:
    """A flow of one step in a queue of its own, and a worker for it."""

    database: str
    name: str = field(default_factory=lambda: "test-" + uuid4().hex[:12])
    handlers: Handlers = field(default_factory=Handlers)

    def deploy(self, client: Client, **step: object) -> str:
        client.deploy({"name": self.name, "version": 1, "steps": [{"name": "one", "handler": "test.one", "queue": self.name, **step}]})
        return self.name

    @contextmanager
    def open(self, **more: object) -> Iterator[None]:
        """Works meanwhile, on a thread of its own."""
        ready: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        begun = threading.Event()

        async def work() -> None:
            stop = asyncio.Event()
            ready.append((asyncio.get_running_loop(), stop))
            begun.set()
            settings = Settings(self.database, queues={self.name: 10}, heartbeat=2, poll=0.5, **more)  # type: ignore[arg-type]
            await Worker(self.handlers, settings).serve(stop)

        thread = threading.Thread(target=lambda: asyncio.run(work()))
        thread.start()
        begun.wait()
        loop, stop = ready[0]
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            assert not thread.is_alive(), "the worker has not ended"


@pytest.fixture
def shop(database: str) -> Shop:
    return Shop(database)
