"""What the tests of all clients share: a database, the kit, and how each worker is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "conformance"))

from longhaul_conformance.world import Place, World, folder, prepare  # noqa: E402

PYTHON = [sys.executable, str(ROOT / "python/tests/kit_worker.py")]
NODE = ["node", str(ROOT / "typescript/test/kit-worker.mjs")]


@pytest.fixture(scope="session")
def database() -> str:
    if "DATABASE_URL" not in os.environ:
        pytest.skip("DATABASE_URL is not set: clients/test starts a server and sets it")
    prepare(os.environ["DATABASE_URL"])
    return os.environ["DATABASE_URL"]


class Worlds:
    """Worlds of several languages."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._made: list[World] = []

    def of(self, command: list[str]) -> World:
        world = World(Place(self._database, command, folder(), self._database))
        self._made.append(world)
        return world

    def close(self) -> None:
        for world in self._made:
            world.close()


@pytest.fixture
def worlds(database: str) -> Iterator[Worlds]:
    made = Worlds(database)
    yield made
    made.close()


def built() -> bool:
    """Whether the TypeScript client is there: clients/test builds it, where there is Node."""
    return (ROOT / "typescript/dist/index.js").exists()


needs_node = pytest.mark.skipif(not built(), reason="the TypeScript client is not built: no Node 20 is there")
