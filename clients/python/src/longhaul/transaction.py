"""The connection of psycopg beneath what the user has: their transaction is ours for a call."""

from __future__ import annotations

from typing import Any

import psycopg

from .errors import InvalidInput


def raw_connection(connection: Any) -> psycopg.Connection[Any]:
    """Of a psycopg connection, a SQLAlchemy connection or session, or a Django connection (``django.db.connection``)."""
    if isinstance(connection, psycopg.Connection):
        return connection
    if hasattr(connection, "get_bind") and callable(getattr(connection, "connection", None)):
        # A session of SQLAlchemy.
        return raw_connection(connection.connection())
    if hasattr(connection, "ensure_connection"):
        # Django opens its connection when it is needed.
        connection.ensure_connection()
        return _checked(connection.connection)
    inner = getattr(connection, "connection", None)
    return _checked(getattr(inner, "driver_connection", None))


def _checked(connection: Any) -> psycopg.Connection[Any]:
    if not isinstance(connection, psycopg.Connection):
        raise InvalidInput(f"no connection of psycopg 3 was found: {type(connection).__name__}")
    return connection
