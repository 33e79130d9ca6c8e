"""Notifications. They only save waiting: a worker polls as well."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from .link import Backoff

log = logging.getLogger("longhaul")


async def listen(database: str, channel: str, connected: Callable[[bool], None], told: Callable[[str], None]) -> None:
    """Listens for ever, and connects again when the connection breaks."""
    backoff = Backoff()
    while True:
        connection: psycopg.AsyncConnection[Any] | None = None
        try:
            connection = await psycopg.AsyncConnection.connect(
                database,
                autocommit=True,
                prepare_threshold=None,
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
            )
            await connection.execute(SQL("listen {}").format(Identifier(channel)))
            backoff.reset()
            # What was sent before we listened is lost, and the server may have forgotten that we want to be told.
            connected(True)
            async for message in connection.notifies():
                told(message.payload)
        except (psycopg.Error, OSError) as error:
            log.debug("no notifications for now: %s", error)
        finally:
            connected(False)
            if connection is not None:
                with suppress(psycopg.Error):
                    await connection.close()
        await backoff.wait()
