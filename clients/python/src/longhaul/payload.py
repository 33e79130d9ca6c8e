"""JSON on its way into the database."""

from __future__ import annotations

import json
from typing import Any

from psycopg.types.json import Jsonb

from .errors import InvalidInput


def encoded(value: Any, most: int | None = None, what: str = "the value") -> str:
    """The JSON text of a value that PostgreSQL can store; an :class:`InvalidInput` that says why when there is none."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} cannot be stored as JSON: {error}") from None
    if "\\u0000" in text and "\\u0000" in text.replace("\\\\", ""):
        raise InvalidInput(f"{what} cannot be stored: PostgreSQL holds no \\u0000")
    if most is not None and size > most:
        raise InvalidInput(f"{what} has {size} bytes, more than the limit of {most} (setting max_payload_bytes)")
    return text


class Encoded(Jsonb):
    """JSON that was encoded before."""

    def __init__(self, text: str) -> None:
        super().__init__(text, dumps=str)


def jsonb(value: Any) -> Encoded:
    """A parameter of type jsonb."""
    return Encoded(encoded(value))


def jsonb_or_null(value: Any) -> Encoded | None:
    """A parameter of type jsonb; SQL's null for ``None``."""
    return None if value is None else jsonb(value)
