"""The calls of a client: starting, reading and steering runs, signals, decisions. Each is written once; :class:`~longhaul.Client` and
:class:`~longhaul.AsyncClient` make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from typing_extensions import TypedDict

from .call import Call, Rows, nothing, value
from .ids import new_run_id
from .payload import jsonb, jsonb_or_null

#: The states in which a run has ended.
ENDED = ("completed", "failed", "cancelled")

#: A window that lasts for ever.
FOREVER = timedelta(days=36500)


class StartOptions(TypedDict, total=False):
    """What a start may say besides the flow and the input."""

    #: A version of the flow; the latest when absent.
    version: int
    #: The run's id, a UUIDv7: starting twice under one id starts once.
    id: UUID
    #: A name for people, at most 200 characters.
    name: str
    #: -1000 to 1000; lower goes first.
    priority: int
    #: Not before this time.
    start_at: datetime
    #: Not before so long from now.
    delay: timedelta
    #: An object to find the run by.
    metadata: Mapping[str, Any]
    #: The run fails unless it has ended so long after its start.
    deadline: timedelta
    #: While a run with this key lives, or for ``window``, a start gives that run.
    key: str
    #: How long the key counts; :data:`FOREVER` makes it an idempotency key.
    window: timedelta
    #: Only create it: it is pending until somebody starts it.
    create_only: bool


class NewRun(StartOptions, total=False):
    """One of many runs that are started by one call."""

    #: The run's input.
    input: Any


@dataclass(frozen=True)
class Started:
    """What became of one of many starts."""

    #: The run: the new one, or the one that has its id or key. ``None`` when it was refused.
    run_id: UUID | None
    #: Whether it was there already.
    existing: bool
    #: Why it was not started.
    refusal: str | None


@dataclass(frozen=True)
class Run:
    """A run as it is now."""

    id: UUID
    flow: str
    version: int
    name: str | None
    #: pending, running, paused, completed, failed or cancelled.
    state: str
    created_at: datetime
    ended_at: datetime | None
    steps: int
    open_steps: int
    revision: int
    input: Any
    error: Any
    metadata: Any

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


@dataclass(frozen=True)
class Step:
    """A step as it is now."""

    seq: int
    name: str
    state: str
    handler: str | None
    attempt: int | None
    failures: int | None
    output: Any
    error: Any


@dataclass(frozen=True)
class Question:
    """An open question."""

    run_id: UUID
    step: str
    question: str
    choices: list[str]
    may_answer: list[str] | None
    value: Any
    since: datetime
    expires_at: datetime | None


def deploy(tenant: str, flow: Mapping[str, Any]) -> Call[int]:
    return Call("select flow_version from {s}.deploy(%s, %s)", (tenant, jsonb(flow)), value)


def start(tenant: str, flow: str, input: Any, options: StartOptions) -> Call[UUID]:
    run_id = options.get("id") or new_run_id()
    given = {
        "p_version": options.get("version"),
        "p_name": options.get("name"),
        "p_priority": options.get("priority"),
        "p_start_at": options.get("start_at"),
        "p_delay": options.get("delay"),
        "p_metadata": jsonb_or_null(options.get("metadata")),
        "p_deadline": options.get("deadline"),
        "p_key": options.get("key"),
        "p_window": options.get("window"),
        "p_create_only": options.get("create_only"),
    }
    named = {name: one for name, one in given.items() if one is not None}
    more = "".join(f", {name} => %s" for name in named)
    sql = "select {s}.start_run(%s, %s, p_tenant => %s, p_id => %s" + more + ")"
    return Call(sql, (flow, jsonb(input), tenant, run_id, *named.values()), value)


def start_many(tenant: str, flow: str, version: int | None, runs: Sequence[NewRun]) -> Call[list[Started]]:
    ids = [run.get("id") or new_run_id() for run in runs]

    def read(rows: Rows) -> list[Started]:
        # Only what was not created comes back; the same id may have been named twice.
        told: dict[UUID, list[Started]] = {}
        for id, existing, refusal, run_id, _ in rows:
            told.setdefault(id, []).append(Started(run_id if refusal is None else None, existing, refusal))
        return [told[id].pop() if told.get(id) else Started(id, False, None) for id in ids]

    def column(name: str) -> list[Any] | None:
        values = [run.get(name) for run in runs]
        return values if any(one is not None for one in values) else None

    def milliseconds(name: str) -> list[int | None] | None:
        values = column(name)
        return values and [None if one is None else round(one / timedelta(milliseconds=1)) for one in values]

    metadata = column("metadata")
    sql = (
        "select id, existing, refusal, run_id, conflict from {s}.start_runs(%s, %s, %s, %s::uuid[], %s::jsonb[], %s::text[], %s::integer[],"
        " %s::timestamptz[], %s::bigint[], %s::jsonb[], null, %s::bigint[], %s::text[], %s::bigint[], %s::boolean[])"
    )
    values = (
        tenant,
        flow,
        version,
        ids,
        [jsonb(run.get("input")) for run in runs],
        column("name"),
        column("priority"),
        column("start_at"),
        milliseconds("delay"),
        metadata and [jsonb_or_null(one) for one in metadata],
        milliseconds("deadline"),
        column("key"),
        milliseconds("window"),
        column("create_only"),
    )
    return Call(sql, values, read)


def get(tenant: str, run_id: UUID) -> Call[Run | None]:
    sql = (
        "select id, flow, version, name, state::text, created_at, ended_at, steps, open_steps, revision, input, error, metadata"
        " from {s}.runs where tenant = %s and id = %s"
    )
    return Call(sql, (tenant, run_id), lambda rows: Run(*rows[0]) if rows else None)


def state(tenant: str, run_id: UUID) -> Call[str | None]:
    sql = "select state::text from {s}.runs where tenant = %s and id = %s"
    return Call(sql, (tenant, run_id), lambda rows: rows[0][0] if rows else None)


def output(run_id: UUID) -> Call[Any]:
    return Call("select {s}.run_output(%s)", (run_id,), value)


def steps(run_id: UUID) -> Call[list[Step]]:
    sql = "select seq, name, state::text, handler, attempt, failures, output, error from {s}.steps where run_id = %s order by seq"
    return Call(sql, (run_id,), lambda rows: [Step(*row) for row in rows])


def steer(verb: str, tenant: str, run_id: UUID, by: str | None, expected_revision: int | None) -> Call[int]:
    """``pause``, ``stop``, ``retry`` and what else needs nothing more."""
    sql = "select {s}." + verb + "(%s, %s, p_by => %s, p_expected_revision => %s)"
    return Call(sql, (tenant, run_id, by, expected_revision), value, repeatable=False)


def resume(tenant: str, run_id: UUID, data: Any, by: str | None) -> Call[int]:
    sql = "select {s}.resume_run(%s, %s, %s, p_by => %s)"
    return Call(sql, (tenant, run_id, jsonb(data), by), value, repeatable=False)


def signal(tenant: str, run_id: UUID, topic: str, payload: Any, key: str | None, keep: timedelta | None) -> Call[int]:
    sql = "select {s}.signal_run(%s, %s, %s, %s, p_idempotency_key => %s, p_keep => %s)"
    return Call(sql, (tenant, run_id, topic, jsonb(payload), key, keep), value, repeatable=key is not None)


def send_signal(tenant: str, topic: str, to: str, payload: Any, key: str | None, keep: timedelta | None) -> Call[int]:
    sql = "select {s}.send_signal(%s, %s, %s, %s, p_idempotency_key => %s, p_keep => %s)"
    return Call(sql, (tenant, topic, to, jsonb(payload), key, keep), value, repeatable=key is not None)


def complete_external(tenant: str, topic: str, to: str, payload: Any, failed: bool, key: str | None) -> Call[int]:
    sql = "select {s}.complete_external(%s, %s, %s, %s, p_failed => %s, p_idempotency_key => %s)"
    return Call(sql, (tenant, topic, to, jsonb(payload), failed, key), value, repeatable=not failed or key is not None)


def broadcast(tenant: str, topic: str, payload: Any, flow: str | None, key: str | None) -> Call[int]:
    sql = "select {s}.broadcast_signal(%s, %s, %s, %s, p_idempotency_key => %s)"
    return Call(sql, (tenant, topic, jsonb(payload), flow, key), value, repeatable=key is not None)


def decide(tenant: str, run_id: UUID, step: str, choice: str, data: Any, by: str | None) -> Call[bool]:
    sql = "select {s}.decide(%s, %s, %s, %s, %s, %s)"
    return Call(sql, (tenant, run_id, step, choice, jsonb_or_null(data), by), value)


def questions(tenant: str, run_id: UUID | None) -> Call[list[Question]]:
    sql = (
        "select run_id, step, question, choices, may_answer, value, since, expires_at from {s}.questions"
        " where tenant = %s and (%s::uuid is null or run_id = %s) order by since, run_id, step"
    )
    return Call(sql, (tenant, run_id, run_id), lambda rows: [Question(*row) for row in rows])


def why(run_id: UUID, step: str) -> Call[str]:
    return Call("select {s}.why(%s, %s)", (run_id, step), value)


def run_chore() -> Call[None]:
    return Call("select {s}.run_chore()", (), nothing)
