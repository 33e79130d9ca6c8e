"""A call of a database function: its text, its values, and how its answer is read. The same calls go over a connection of our own,
sync or async, or over one of the user's, within a transaction of theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import psycopg
from psycopg.sql import SQL, Identifier

T = TypeVar("T")
Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class Call(Generic[T]):
    """``{s}`` in the text stands for the schema."""

    sql: str
    values: Sequence[Any]
    read: Callable[[Rows], T]
    #: Whether it may be sent again when its answer was lost.
    repeatable: bool = True

    def text(self, schema: str) -> SQL | Any:
        """The statement for an installation in this schema."""
        return SQL(self.sql).format(s=Identifier(schema))


def run(connection: psycopg.Connection[Any], call: Call[T], schema: str) -> T:
    """Makes the call over a connection of psycopg. Nothing is prepared: poolers may have forgotten it by the next transaction."""
    with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        cursor.execute(call.text(schema), call.values, prepare=False)
        return call.read(cursor.fetchall() if cursor.description else [])


async def run_async(connection: psycopg.AsyncConnection[Any], call: Call[T], schema: str) -> T:
    """As :func:`run`."""
    async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(call.text(schema), call.values, prepare=False)
        return call.read(await cursor.fetchall() if cursor.description else [])


def nothing(_: Rows) -> None:
    """Reads an answer of which nothing is wanted."""


def value(rows: Rows) -> Any:
    """Reads the only value."""
    return rows[0][0]
