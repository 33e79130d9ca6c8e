"""What a function waits for, and the answers that it is given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from .step_error import Fail


class Suspend(BaseException):
    """Ends the function for now: it waits for something durable, and is called again. Not an ``Exception``, so that ``except Exception``
    lets it pass; ``finally`` and ``with`` do what they always do."""

    def __init__(self, waits: dict[str, dict[str, Any]]) -> None:
        super().__init__("the function waits")
        self.waits = waits


class TimedOut:
    """The answer of a wait that ended without one; see :data:`TIMED_OUT`."""

    def __repr__(self) -> str:
        return "TIMED_OUT"

    def __bool__(self) -> bool:
        return False


#: No signal came in time.
TIMED_OUT = TimedOut()


@dataclass(frozen=True)
class Decision:
    """What was chosen, by whom and when; ``by`` is ``expiry`` when nobody chose in time."""

    choice: str
    by: str | None
    at: datetime
    data: Any = None


@dataclass(frozen=True)
class Ask:
    """A question that somebody must answer."""

    question: str
    choices: Sequence[str] = ("approve", "reject")
    #: Only these may answer.
    by: Sequence[str] | None = None
    #: Shown to whoever decides.
    value: Any = None
    #: ``default`` is taken when nobody has answered after this time.
    expires: timedelta | float | None = None
    default: str | None = None
    #: ``run``, or ``step``: the other steps go on meanwhile.
    pauses: str = "run"

    def checked(self) -> Ask:
        """Fails when nobody could ever answer it."""
        problem = None
        if not self.choices:
            problem = "it has no choices"
        elif self.by is not None and not self.by:
            problem = "nobody may answer it"
        elif self.default is not None and self.default not in self.choices:
            problem = f"{self.default!r}, which is chosen when nobody answers in time, is not among its choices"
        if problem:
            raise Fail(f"the question {self.question!r} cannot be answered: {problem}")
        return self


def read_time(text: str) -> datetime:
    """A time as any of the clients writes it: with up to nine digits behind the second."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", text.replace("Z", "+00:00"))
    text = re.sub(r"\.(\d{1,5})(?=[+-])", lambda match: "." + match.group(1).ljust(6, "0"), text)
    return datetime.fromisoformat(text)


def check_topic(topic: str, key: str | None = None) -> None:
    if not 1 <= len(topic) <= 200 or len(key or "") > 500 or "\0" in topic + (key or ""):
        raise Fail("nobody could send that signal: a topic has 1 to 200 characters, and a key at most 500; neither holds \\u0000")


class Places:
    """Numbers the operations of a branch; the function itself is the branch without a prefix."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.next = 0

    def take(self) -> str:
        """The place of the next operation."""
        self.next += 1
        return f"{self.prefix}{self.next - 1}"


def read_decision(value: dict[str, Any]) -> Decision:
    return Decision(value["choice"], value.get("by"), read_time(value["at"]), value.get("data"))
