"""What a step has computed and begun so far, and whether the code still fits it."""

from __future__ import annotations

from collections.abc import Iterable

from .protocol import Entry
from .step_error import Fail


def described(kind: str, name: str) -> str:
    """An operation, for people."""
    return f'{kind} "{name}"' if name else kind


def _mismatch(path: str, recorded: str, code: str) -> Fail:
    message = f"the code no longer matches its history: at {path} the history has {recorded}, but the code has {code}"
    return Fail(message, code="history_mismatch")


class History:
    """The history of one attempt."""

    def __init__(self, entries: Iterable[Entry], most: int) -> None:
        self._known = {entry.path: entry for entry in entries}
        self._visited: set[str] = set()
        self._saved = 0
        self._most = most

    def visit(self, path: str, kind: str, name: str) -> Entry | None:
        """Takes note that the code is at a place; gives what is recorded there, if it is answered. Fails when that is something else."""
        self._visited.add(path)
        entry = self._known.get(path)
        if entry is not None and (entry.kind, entry.name) != (kind, name):
            raise _mismatch(path, described(entry.kind, entry.name), described(kind, name))
        return entry if entry is not None and entry.answer is not None else None

    def decision(self) -> Entry | None:
        """The decision that let the step begin."""
        for path in ("approval", "budget", "policy"):
            entry = self._known.get(path)
            if entry is not None and entry.answer is not None:
                return entry
        return None

    def has(self, path: str) -> bool:
        """Whether anything is recorded at a place."""
        return path in self._known

    def goes_on_at(self, prefix: str, next: int) -> bool:
        """Whether anything is recorded at a place or after it, in the same branch."""
        for path in self._known:
            number = path[len(prefix) :].split(".")[0] if path.startswith(prefix) else ""
            if number.isdigit() and int(number) >= next:
                return True
        return False

    def grow(self) -> None:
        """Takes note of one more entry."""
        self._saved += 1
        if len(self._known) + self._saved > self._most:
            message = f"the history has more than {self._most} entries (setting max_history): let the function continue as new"
            raise Fail(message, code="history_too_long")

    def check_end(self) -> None:
        """Fails when the history knows of places that the code, which has come to its end, has not been at."""
        # Branches that lost a race are not followed again.
        races = tuple(f"{entry.path}." for entry in self._known.values() if entry.kind == "race")
        for path, entry in self._known.items():
            if path[:1].isdigit() and path not in self._visited and not path.startswith(races):
                raise _mismatch(path, described(entry.kind, entry.name), "the end of the function")
