"""The handlers that a worker knows: a registry that is passed in, and never global."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9}")


@dataclass(frozen=True)
class Handler:
    """A function that does steps."""

    name: str
    function: Callable[[Any, Any], Awaitable[Any] | Any]
    is_async: bool


class Handlers:
    """Handlers by name. A handler is a function of a context and an input: async ones share the worker's event loop, others get a thread
    each.

    >>> handlers = Handlers()
    >>> @handlers.handler("warehouse.pack")
    ... async def pack(context, order):
    ...     return {"parcel": order["id"]}
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def handler(self, name: str) -> Callable[[F], F]:
        """Registers the function that follows."""

        def register(function: F) -> F:
            self.add(name, function)
            return function

        return register

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """Registers a function."""
        if not _NAME.fullmatch(name) or len(name) > 200:
            raise InvalidInput(f"{name!r} is no handler name: up to ten parts of letters, digits, _ and -, joined by dots")
        if name in self._handlers:
            raise InvalidInput(f"handler {name} is registered twice")
        self._handlers[name] = Handler(name, function, inspect.iscoroutinefunction(function))

    def only(self, names: Iterable[str]) -> Handlers:
        """Those of an allow-list."""
        chosen = Handlers()
        for name in names:
            if name not in self._handlers:
                raise InvalidInput(f"there is no handler {name}")
            chosen._handlers[name] = self._handlers[name]
        return chosen

    def get(self, name: str) -> Handler | None:
        """The handler with a name."""
        return self._handlers.get(name)

    def names(self) -> list[str]:
        """All names."""
        return sorted(self._handlers)
