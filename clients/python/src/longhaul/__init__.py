"""Longhaul: durable jobs and workflows on PostgreSQL.

Clients start and steer runs (:class:`Client`, :class:`AsyncClient`); workers do their steps (:class:`Handlers`, :class:`Settings`,
:class:`Worker`). A handler is given a :class:`Context`, or a :class:`BlockingContext` when it is no coroutine, and says by a
:class:`StepError` that it did not complete."""

from ._version import VERSION as __version__
from .blocking import BlockingContext
from .client import AsyncClient, Client
from .context import Context
from .errors import (
    Conflict,
    DatabaseError,
    InvalidInput,
    LonghaulError,
    NotFound,
    Refused,
    RunFailed,
    Unreachable,
    WorkerLost,
)
from .handlers import Handlers
from .ids import new_run_id
from .requests import FOREVER, NewRun, Question, Run, Started, StartOptions, Step
from .settings import Settings
from .step_error import ContinueAsNew, Defer, Dispatched, Fail, Retry, Snooze, StepError
from .waiting import TIMED_OUT, Ask, Decision, Suspend
from .worker import Worker

__all__ = [
    "FOREVER",
    "TIMED_OUT",
    "Ask",
    "AsyncClient",
    "BlockingContext",
    "Client",
    "Conflict",
    "Context",
    "ContinueAsNew",
    "DatabaseError",
    "Decision",
    "Defer",
    "Dispatched",
    "Fail",
    "Handlers",
    "InvalidInput",
    "LonghaulError",
    "NewRun",
    "NotFound",
    "Question",
    "Refused",
    "Retry",
    "Run",
    "RunFailed",
    "Settings",
    "Snooze",
    "StartOptions",
    "Started",
    "Step",
    "StepError",
    "Suspend",
    "Unreachable",
    "Worker",
    "WorkerLost",
    "__version__",
    "new_run_id",
]
