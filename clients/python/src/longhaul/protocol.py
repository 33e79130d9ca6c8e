"""The calls of a worker: docs/protocol.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from .call import Call, Rows, nothing, value
from .payload import Encoded, encoded


class Key(NamedTuple):
    """An attempt at a step; its number is the fencing token."""

    run_id: UUID
    seq: int
    attempt: int


@dataclass(frozen=True)
class Refusal:
    """An item that a call refused."""

    key: Key
    reason: str

    @property
    def is_busy(self) -> bool:
        """Somebody else holds the run; the lease is still ours."""
        return self.reason == "busy"

    @property
    def was_done(self) -> bool:
        """A call of this worker has ended this very attempt before."""
        return self.reason.startswith("already_")


@dataclass(frozen=True)
class Entry:
    """An entry of the history of a step."""

    path: str
    kind: str
    name: str
    #: ok, error or timeout; ``None`` while it is waited for.
    answer: str | None
    value: Any


@dataclass(frozen=True)
class Claimed:
    """A step that this worker now owns."""

    key: Key
    failures: int
    queue: str
    input: Any
    flow: str
    flow_version: int
    step: str
    handler: str
    parameters: Any
    timeout_ms: int | None
    max_attempts: int
    checkpoints: bool
    idempotency_key: str
    #: ``None``: too long to come with the claim.
    history: list[Entry] | None


@dataclass(frozen=True)
class Registration:
    """What a worker says of itself."""

    tenant: str
    name: str
    host: str
    pid: int
    version: str
    queues: Sequence[str]
    handlers: Sequence[str]
    slots: int
    lease_ms: int


@dataclass(frozen=True)
class Ended:
    """An attempt that ended without completing its step."""

    key: Key
    #: failed, timed_out, panicked, released, snoozed or deferred.
    outcome: str
    error: str | None
    retryable: bool = True
    delay_ms: int | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A value to be saved under a place."""

    key: Key
    path: str
    kind: str
    name: str
    value: str


_CLAIMED = (
    "failures",
    "queue",
    "input",
    "flow",
    "flow_version",
    "step",
    "handler",
    "parameters",
    "timeout_ms",
    "max_attempts",
    "checkpoints",
    "idempotency_key",
)


def columns(keys: Sequence[Key]) -> tuple[list[UUID], list[int], list[int]]:
    return [key.run_id for key in keys], [key.seq for key in keys], [key.attempt for key in keys]


def refusals(rows: Rows) -> list[Refusal]:
    return [Refusal(Key(*row[:3]), row[3]) for row in rows]


def register(worker: Registration) -> Call[tuple[int, str]]:
    sql = "select worker_id, channel from {s}.register_worker(%s, %s, %s, %s, %s, %s::text[], %s::text[], %s, %s)"
    values = (
        worker.tenant,
        worker.name,
        worker.host,
        worker.pid,
        worker.version,
        list(worker.queues),
        list(worker.handlers),
        worker.slots,
        worker.lease_ms,
    )
    return Call(sql, values, lambda rows: (rows[0][0], rows[0][1]))


def limits() -> Call[tuple[int, int]]:
    """Largest payload in bytes, longest history in entries."""
    sql = "select {s}.setting_value('max_payload_bytes'), {s}.setting_value('max_history')"
    return Call(sql, (), lambda rows: (int(rows[0][0]), int(rows[0][1])))


def claim(worker: int, wanted: Sequence[tuple[str, int]], number: int, known: Sequence[Key] | None = None) -> Call[list[Claimed]]:
    """Claims; or, with what the worker knows of, asks what it holds beside that."""
    run_ids, seqs = (None, None) if known is None else columns(known)[:2]
    sql = (
        "select run_id, seq, attempt, failures, queue, input, flow, flow_version, step, handler, parameters, timeout_ms, max_attempts,"
        " checkpoints, idempotency_key, history from {s}.claim_steps(%s, %s::text[], %s::integer[], %s, %s::uuid[], %s::integer[])"
    )

    def read_one(row: tuple[Any, ...]) -> Claimed:
        entries = row[15]
        history = None if entries is None else [Entry(**entry) for entry in entries]
        return Claimed(key=Key(*row[:3]), history=history, **dict(zip(_CLAIMED, row[3:15], strict=True)))

    def read(rows: Rows) -> list[Claimed]:
        return [read_one(row) for row in rows]

    values = (worker, [name for name, _ in wanted], [most for _, most in wanted], number, run_ids, seqs)
    return Call(sql, values, read, repeatable=False)


def listen_for(worker: int, queues: Sequence[str]) -> Call[None]:
    return Call("select {s}.listen_for(%s, %s::text[])", (worker, list(queues)), nothing)


def stop_listening(worker: int, queues: Sequence[str]) -> Call[None]:
    return Call("select {s}.stop_listening(%s, %s::text[])", (worker, list(queues)), nothing)


def unfinished_before(id: int | None) -> Call[int | None]:
    return Call("select {s}.unfinished_before(%s)", (id,), value)


def renew(worker: int, owned: Sequence[Key]) -> Call[tuple[bool, list[Refusal]]]:
    """Whether the worker is to claim no more, and what it has lost."""

    def read(rows: Rows) -> tuple[bool, list[Refusal]]:
        lost = [Refusal(Key(*row[1:4]), row[4]) for row in rows if row[1] is not None]
        return rows[0][0] == "draining", lost

    sql = "select worker_state, run_id, seq, attempt, refusal from {s}.renew_leases(%s, %s::uuid[], %s::integer[], %s::integer[])"
    return Call(sql, (worker, *columns(owned)), read)


def what_became_of(worker: int, keys: Sequence[Key]) -> Call[list[Refusal]]:
    sql = "select run_id, seq, attempt, refusal from {s}.what_became_of(%s, %s::uuid[], %s::integer[], %s::integer[])"
    return Call(sql, (worker, *columns(keys)), refusals)


def complete(worker: int, keys: Sequence[Key], outputs: Sequence[str], skip_busy: bool = True) -> Call[list[Refusal]]:
    sql = "select run_id, seq, attempt, refusal from {s}.complete(%s, %s::uuid[], %s::integer[], %s::integer[], %s::jsonb[], %s)"
    return Call(sql, (worker, *columns(keys), [Encoded(one) for one in outputs], skip_busy), refusals)


def suspend(worker: int, keys: Sequence[Key], waits: Sequence[str]) -> Call[list[Refusal]]:
    sql = "select run_id, seq, attempt, refusal from {s}.suspend(%s, %s::uuid[], %s::integer[], %s::integer[], %s::jsonb[], true)"
    return Call(sql, (worker, *columns(keys), [Encoded(one) for one in waits]), refusals)


def end_attempts(worker: int, ended: Sequence[Ended]) -> Call[list[Refusal]]:
    sql = (
        "select run_id, seq, attempt, refusal from {s}.end_attempts(%s, %s::uuid[], %s::integer[], %s::integer[],"
        " %s::{s}.attempt_outcome[], %s::jsonb[], %s::boolean[], %s::bigint[], true)"
    )
    values = (
        worker,
        *columns([one.key for one in ended]),
        [one.outcome for one in ended],
        [None if one.error is None else Encoded(one.error) for one in ended],
        [one.retryable for one in ended],
        [one.delay_ms for one in ended],
    )
    return Call(sql, values, refusals)


def let_go(worker: int, key: Key) -> Call[None]:
    return Call("select {s}.let_go(%s, %s::uuid[], %s::integer[], %s::integer[])", (worker, *columns([key])), nothing)


def save_checkpoints(worker: int, saved: Sequence[Checkpoint]) -> Call[list[Refusal]]:
    sql = (
        "select run_id, seq, attempt, refusal from {s}.save_checkpoints(%s, %s::uuid[], %s::integer[], %s::integer[], %s::text[],"
        " %s::text[], %s::text[], %s::jsonb[], true)"
    )
    values = (
        worker,
        *columns([one.key for one in saved]),
        [one.path for one in saved],
        [one.kind for one in saved],
        [one.name for one in saved],
        [Encoded(one.value) for one in saved],
    )
    return Call(sql, values, refusals)


def history(key: Key) -> Call[list[Entry]]:
    sql = "select path, kind, name, answer::text, value from {s}.history(%s, %s)"
    return Call(sql, (key.run_id, key.seq), lambda rows: [Entry(*row) for row in rows])


def start_detached(worker: int, key: Key, path: str, flow: str, input: str) -> Call[UUID | None]:
    """``None``: somebody else holds the run; ask again."""
    sql = "select {s}.save_detached_child(%s, %s, %s, %s, %s, %s, null, %s, true)"
    return Call(sql, (worker, *key, path, flow, Encoded(input)), value)


def report_progress(worker: int, items: Sequence[tuple[Key, str, str]], number: int) -> Call[list[Refusal]]:
    sql = (
        "select run_id, seq, attempt, refusal from {s}.report_progress(%s, %s::uuid[], %s::integer[], %s::integer[], %s::text[],"
        " %s::jsonb[], %s)"
    )
    values = (worker, *columns([key for key, _, _ in items]), [name for _, name, _ in items])
    return Call(sql, (*values, [Encoded(one) for _, _, one in items], number), refusals)


def output_of(run_id: UUID, step: str) -> Call[tuple[str | None, Any] | None]:
    """How a step of the run ended, and its output; ``None`` when there is no such step."""
    return Call(
        "select outcome, output from {s}.output_of(%s, %s)",
        (run_id, step),
        lambda rows: tuple(rows[0]) if rows else None,
    )


def drain(worker: int) -> Call[None]:
    return Call("select {s}.drain_worker(%s)", (worker,), nothing)


def deregister(worker: int) -> Call[int]:
    return Call("select {s}.deregister_worker(%s)", (worker,), value)


def neglected_chores() -> Call[tuple[int, int]]:
    """By how many milliseconds the most overdue chore is late, and how many workers live."""
    return Call("select late_ms, workers from {s}.neglected_chores()", (), lambda rows: (rows[0][0], rows[0][1]))


def run_chore() -> Call[int]:
    """Does a chore that is due; in how many milliseconds the next one is."""
    return Call("select due_in_ms from {s}.run_chore()", (), lambda rows: rows[0][0] or 0)


def now() -> Call[Any]:
    return Call("select {s}.clock()", (), value)


def as_text(value: Any) -> str:
    """JSON that is surely stored: for errors, which must not fail themselves."""
    return encoded(value)
