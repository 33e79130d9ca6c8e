"""What can go wrong with a call, told apart by its SQLSTATE."""

from __future__ import annotations

import psycopg


class LonghaulError(Exception):
    """An error of the database or of a call."""


class InvalidInput(LonghaulError):
    """The call is wrong (LH001); the message names the place."""


class NotFound(LonghaulError):
    """There is no such run, flow or worker (LH002)."""


class Refused(LonghaulError):
    """The present state does not allow it (LH003)."""


class Conflict(LonghaulError):
    """It contradicts what is stored (LH004), as another input under an id that is taken."""


class WorkerLost(LonghaulError):
    """The worker is not registered any more (LH005)."""


class Unreachable(LonghaulError):
    """The database could not be asked, or something passed that will pass: the same call may succeed later."""


class RunFailed(LonghaulError):
    """A run that was waited for has failed or was stopped."""


_OURS: dict[str, type[LonghaulError]] = {
    "LH001": InvalidInput,
    "LH002": NotFound,
    "LH003": Refused,
    "LH004": Conflict,
    "LH005": WorkerLost,
}

#: Classes of SQLSTATE that pass by themselves: connection, rollback, resources, operator's intervention, system error.
_PASSING = ("08", "40", "53", "57", "58")

#: Classes of SQLSTATE that are about a value: then one item of the call is to blame.
_ABOUT_VALUES = ("21", "22", "23", "27", "44", "P0", "54")


class DatabaseError(LonghaulError):
    """Any other error of the database."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def translated(error: BaseException) -> LonghaulError:
    """The error of a call in our words."""
    if isinstance(error, LonghaulError):
        return error
    if isinstance(error, psycopg.Error):
        state = error.sqlstate
        message = (error.diag.message_primary or str(error)).strip()
        if state is None:
            # Not from the server: the connection, or a value that the driver cannot send.
            if isinstance(error, psycopg.DataError | psycopg.ProgrammingError | psycopg.NotSupportedError):
                return InvalidInput(message)
            return Unreachable(message or type(error).__name__)
        if state in _OURS:
            return _OURS[state](message)
        if state[:2] in _PASSING or state == "55P03":
            return Unreachable(f"{message} [{state}]")
        return DatabaseError(f"{message} [{state}]", state)
    if isinstance(error, OSError | TimeoutError):
        return Unreachable(str(error) or type(error).__name__)
    return LonghaulError(str(error))


def is_about_an_item(error: LonghaulError) -> bool:
    """Whether an item of the call is to blame, and not the connection or the installation."""
    if isinstance(error, DatabaseError):
        return error.sqlstate[:2] in _ABOUT_VALUES
    return isinstance(error, InvalidInput | NotFound | Refused | Conflict)
