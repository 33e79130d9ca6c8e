/** The calls of a worker: docs/protocol.md. */
import { type Call, type Rows, call, nothing, value } from "./call.js";

/** An attempt at a step; its number is the fencing token. */
export interface Key {
  readonly runId: string;
  readonly seq: number;
  readonly attempt: number;
}

/** The key as a text, for maps. */
export function named(key: Key): string {
  return `${key.runId}/${key.seq}/${key.attempt}`;
}

/** An item that a call refused. */
export interface Refusal {
  readonly key: Key;
  readonly reason: string;
}

/** An entry of the history of a step. */
export interface Entry {
  readonly path: string;
  readonly kind: string;
  readonly name: string;
  /** ok, error or timeout; null while it is waited for. */
  readonly answer: string | null;
  readonly value: any;
}

/** A step that this worker now owns. */
export interface Claimed {
  readonly key: Key;
  readonly failures: number;
  readonly queue: string;
  readonly input: unknown;
  readonly flow: string;
  readonly flowVersion: number;
  readonly step: string;
  readonly handler: string;
  readonly parameters: any;
  readonly timeoutMs: number | null;
  readonly maxAttempts: number;
  readonly checkpoints: boolean;
  readonly idempotencyKey: string;
  /** null: too long to come with the claim. */
  readonly history: Entry[] | null;
}

/** What a worker says of itself. */
export interface Registration {
  readonly tenant: string;
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly queues: string[];
  readonly handlers: string[];
  readonly slots: number;
  readonly leaseMs: number;
}

/** The step is done. */
export interface Completed {
  readonly kind: "completed";
  readonly key: Key;
  readonly output: string;
}

/** It waits, and holds no slot meanwhile. */
export interface Suspended {
  readonly kind: "suspended";
  readonly key: Key;
  readonly waits: string;
}

/** An attempt that ended without completing its step. */
export interface Ended {
  readonly kind: "ended";
  readonly key: Key;
  /** failed, timed_out, panicked, released, snoozed or deferred. */
  readonly outcome: string;
  readonly error: string | null;
  readonly retryable: boolean;
  readonly delayMs: number | null;
}

/** How an attempt ended. */
export type Outcome = Completed | Suspended | Ended;

/** A value to be saved under a place. */
export interface Checkpoint {
  readonly key: Key;
  readonly path: string;
  readonly kind: string;
  readonly name: string;
  readonly value: string;
}

function columns(keys: readonly Key[]): [string[], number[], number[]] {
  return [keys.map((key) => key.runId), keys.map((key) => key.seq), keys.map((key) => key.attempt)];
}

function key(row: readonly any[]): Key {
  return { runId: row[0], seq: row[1], attempt: row[2] };
}

function refusals(rows: Rows): Refusal[] {
  return rows.map((row) => ({ key: key(row), reason: row[3] }));
}

const KEYS = "$2::uuid[], $3::integer[], $4::integer[]";

export function register(worker: Registration): Call<{ worker: string; channel: string }> {
  return call(
    "select worker_id, channel from {s}.register_worker($1, $2, $3, $4, $5, $6::text[], $7::text[], $8, $9)",
    [worker.tenant, worker.name, worker.host, worker.pid, worker.version, worker.queues, worker.handlers, worker.slots, worker.leaseMs],
    (rows) => ({ worker: rows[0]?.[0], channel: rows[0]?.[1] }),
  );
}

/** Largest payload in bytes, longest history in entries. */
export function limits(): Call<{ maxPayload: number; maxHistory: number }> {
  const sql = "select {s}.setting_value('max_payload_bytes'), {s}.setting_value('max_history')";
  return call(sql, [], (rows) => ({ maxPayload: Number(rows[0]?.[0]), maxHistory: Number(rows[0]?.[1]) }));
}

/** Claims; or, with what the worker knows of, asks what it holds beside that. */
export function claim(worker: string, wanted: readonly [string, number][], number: number, known?: readonly Key[]): Call<Claimed[]> {
  const [runIds, seqs] = known ? columns(known) : [null, null];
  const sql =
    "select run_id, seq, attempt, failures, queue, input, flow, flow_version, step, handler, parameters, timeout_ms, max_attempts, checkpoints," +
    " idempotency_key, history from {s}.claim_steps($1, $2::text[], $3::integer[], $4, $5::uuid[], $6::integer[])";
  const read = (rows: Rows): Claimed[] =>
    rows.map((row) => ({
      key: key(row),
      failures: row[3],
      queue: row[4],
      input: row[5],
      flow: row[6],
      flowVersion: row[7],
      step: row[8],
      handler: row[9],
      parameters: row[10],
      timeoutMs: row[11] === null ? null : Number(row[11]),
      maxAttempts: row[12],
      checkpoints: row[13],
      idempotencyKey: row[14],
      history: row[15],
    }));
  const values = [worker, wanted.map(([name]) => name), wanted.map(([, most]) => most), number, runIds, seqs];
  return call(sql, values, read, false);
}

export function listenFor(worker: string, queues: string[]): Call<void> {
  return call("select {s}.listen_for($1, $2::text[])", [worker, queues], nothing);
}

export function stopListening(worker: string, queues: string[]): Call<void> {
  return call("select {s}.stop_listening($1, $2::text[])", [worker, queues], nothing);
}

export function unfinishedBefore(id: string | null): Call<string | null> {
  return call("select {s}.unfinished_before($1)", [id], value);
}

/** Whether the worker is to claim no more, and what it has lost. */
export function renew(worker: string, owned: readonly Key[]): Call<{ draining: boolean; lost: Refusal[] }> {
  const sql = `select worker_state, run_id, seq, attempt, refusal from {s}.renew_leases($1, ${KEYS})`;
  const read = (rows: Rows) => ({
    draining: rows[0]?.[0] === "draining",
    lost: refusals(rows.filter((row) => row[1] !== null).map((row) => row.slice(1))),
  });
  return call(sql, [worker, ...columns(owned)], read);
}

export function complete(worker: string, keys: readonly Key[], outputs: readonly string[], skipBusy = true): Call<Refusal[]> {
  const sql = `select run_id, seq, attempt, refusal from {s}.complete($1, ${KEYS}, $5::jsonb[], $6)`;
  return call(sql, [worker, ...columns(keys), outputs, skipBusy], refusals);
}

export function suspend(worker: string, keys: readonly Key[], waits: readonly string[]): Call<Refusal[]> {
  const sql = `select run_id, seq, attempt, refusal from {s}.suspend($1, ${KEYS}, $5::jsonb[], true)`;
  return call(sql, [worker, ...columns(keys), waits], refusals);
}

export function endAttempts(worker: string, ended: readonly Ended[]): Call<Refusal[]> {
  const sql =
    `select run_id, seq, attempt, refusal from {s}.end_attempts($1, ${KEYS}, $5::{s}.attempt_outcome[], $6::jsonb[], $7::boolean[],` +
    " $8::bigint[], true)";
  const values = [
    worker,
    ...columns(ended.map((one) => one.key)),
    ended.map((one) => one.outcome),
    ended.map((one) => one.error),
    ended.map((one) => one.retryable),
    ended.map((one) => one.delayMs),
  ];
  return call(sql, values, refusals);
}

export function letGo(worker: string, key: Key): Call<void> {
  return call(`select {s}.let_go($1, ${KEYS})`, [worker, ...columns([key])], nothing);
}

export function saveCheckpoints(worker: string, saved: readonly Checkpoint[]): Call<Refusal[]> {
  const sql =
    `select run_id, seq, attempt, refusal from {s}.save_checkpoints($1, ${KEYS}, $5::text[], $6::text[], $7::text[], $8::jsonb[], true)`;
  const values = [
    worker,
    ...columns(saved.map((one) => one.key)),
    saved.map((one) => one.path),
    saved.map((one) => one.kind),
    saved.map((one) => one.name),
    saved.map((one) => one.value),
  ];
  return call(sql, values, refusals);
}

export function history(key: Key): Call<Entry[]> {
  const read = (rows: Rows): Entry[] => rows.map(([path, kind, name, answer, value]) => ({ path, kind, name, answer, value }));
  return call("select path, kind, name, answer::text, value from {s}.history($1, $2)", [key.runId, key.seq], read);
}

/** null: somebody else holds the run; ask again. */
export function startDetached(worker: string, key: Key, path: string, flow: string, input: string): Call<string | null> {
  const sql = "select {s}.save_detached_child($1, $2, $3, $4, $5, $6, null, $7::jsonb, true)";
  return call(sql, [worker, key.runId, key.seq, key.attempt, path, flow, input], value);
}

/** A value that a handler reported. */
export interface Reported {
  readonly key: Key;
  readonly name: string;
  readonly value: string;
}

export function reportProgress(worker: string, items: readonly Reported[], number: number): Call<Refusal[]> {
  const sql = `select run_id, seq, attempt, refusal from {s}.report_progress($1, ${KEYS}, $5::text[], $6::jsonb[], $7)`;
  const keys = columns(items.map((one) => one.key));
  return call(sql, [worker, ...keys, items.map((one) => one.name), items.map((one) => one.value), number], refusals);
}

/** How a step of the run ended, and its output; undefined when there is no such step. */
export function outputOf(runId: string, step: string): Call<{ outcome: string | null; output: any } | undefined> {
  const read = (rows: Rows) => (rows[0] ? { outcome: rows[0][0] as string | null, output: rows[0][1] } : undefined);
  return call("select outcome, output from {s}.output_of($1, $2)", [runId, step], read);
}

export function drain(worker: string): Call<void> {
  return call("select {s}.drain_worker($1)", [worker], nothing);
}

export function deregister(worker: string): Call<void> {
  return call("select {s}.deregister_worker($1)", [worker], nothing);
}

/** By how many milliseconds the most overdue chore is late, and how many workers live. */
export function neglectedChores(): Call<{ lateMs: number; workers: number }> {
  const read = (rows: Rows) => ({ lateMs: Number(rows[0]?.[0]), workers: Number(rows[0]?.[1]) });
  return call("select late_ms, workers from {s}.neglected_chores()", [], read);
}

/** Does a chore that is due; in how many milliseconds the next one is. */
export function runChore(): Call<number> {
  return call("select due_in_ms from {s}.run_chore()", [], (rows) => Number(rows[0]?.[0] ?? 0));
}

export function now(): Call<unknown> {
  return call("select {s}.clock()", [], value);
}
