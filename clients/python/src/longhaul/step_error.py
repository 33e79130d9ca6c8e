"""How a handler says that it did not complete. Any other exception is a failed attempt, which is tried again by the step's policy."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .payload import encoded
from .protocol import Ended, Key

#: Longest message that is kept, in characters.
_MOST = 10_000

#: Longest wait, in milliseconds: 10,000 days.
_LONGEST = 864_000_000_000


def milliseconds(wait: timedelta | float) -> int:
    """Whole milliseconds of a duration; a number is one of seconds."""
    seconds = wait.total_seconds() if isinstance(wait, timedelta) else wait
    return max(0, min(_LONGEST, round(seconds * 1000)))


class StepError(Exception):
    """An attempt that ended without completing its step; see the kinds below. ``code`` is what a flow's ``never_on`` looks at, ``detail``
    stays with the attempt, for operators."""

    outcome = "failed"
    retryable = True

    def __init__(self, message: str, *, code: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.delay_ms: int | None = None


class Retry(StepError):
    """The attempt failed; another may succeed, by the step's policy or ``after`` this time."""

    def __init__(
        self,
        message: str,
        *,
        after: timedelta | float | None = None,
        code: str | None = None,
        detail: str | None = None,
    ) -> None:
        super().__init__(message, code=code, detail=detail)
        self.delay_ms = None if after is None else milliseconds(after)


class Fail(StepError):
    """The step cannot succeed: there is no further attempt."""

    retryable = False


class Snooze(StepError):
    """Not now: call again after this time. Consumes no attempt."""

    outcome = "snoozed"

    def __init__(self, wait: timedelta | float) -> None:
        super().__init__("snoozed")
        self.delay_ms = milliseconds(wait)


class Defer(StepError):
    """The provider is busy or down: call again after this time, or after a wait that grows each time. Consumes no attempt."""

    outcome = "deferred"

    def __init__(self, reason: str, *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        self.delay_ms = None if after is None else milliseconds(after)


class Dispatched(StepError):
    """The work was handed to an outside provider: the step waits, without a slot, until ``complete_external`` reports it for this topic and
    key, and its output is what that says. When that fails, or does not come in time, the attempt has failed."""

    def __init__(self, topic: str, key: str, *, within: timedelta | float | None = None) -> None:
        super().__init__("dispatched")
        self.topic = topic
        self.key = key
        self.within_ms = None if within is None else milliseconds(within)


class ContinueAsNew(StepError):
    """Begins the durable function anew, with this input and an empty history."""

    def __init__(self, input: Any) -> None:
        super().__init__("continues as new")
        self.input = input


def storable(text: str) -> str:
    """A text that the database takes."""
    return text[:_MOST].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def described(error: BaseException) -> str:
    """An exception as it is stored with the attempt."""
    message = str(error) or type(error).__name__
    kept: dict[str, Any] = {"message": storable(message)}
    causes: list[str] = []
    cause = error.__cause__
    while cause is not None and len(causes) < 20:
        causes.append(storable(f"{type(cause).__name__}: {cause}"))
        cause = cause.__cause__
    if causes:
        kept["causes"] = causes
    if isinstance(error, StepError):
        if error.code is not None:
            kept["code"] = storable(error.code)
        if error.detail is not None:
            kept["detail"] = storable(error.detail)
    else:
        kept["type"] = type(error).__name__
    return encoded(kept)


def ended(key: Key, error: BaseException) -> Ended:
    """What an exception of a handler comes to."""
    if isinstance(error, StepError):
        return Ended(key, error.outcome, described(error), error.retryable, error.delay_ms)
    return Ended(key, "failed", described(error))
