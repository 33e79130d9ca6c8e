/** The calls of a client: starting, reading and steering runs, signals, decisions. */
import { type Call, type Rows, call, value } from "./call.js";
import { newRunId } from "./ids.js";
import { encoded } from "./payload.js";

/** The states in which a run has ended. */
export const ENDED: readonly string[] = ["completed", "failed", "cancelled"];

/** A window that lasts for ever, in milliseconds: a hundred years. */
export const FOREVER = 36_500 * 86_400_000;

/** What a start may say besides the flow and the input. Times are in milliseconds. */
export interface StartOptions {
  /** A version of the flow; the latest when absent. */
  version?: number;
  /** The run's id, a UUIDv7: starting twice under one id starts once. */
  id?: string;
  /** A name for people, at most 200 characters. */
  name?: string;
  /** -1000 to 1000; lower goes first. */
  priority?: number;
  /** Not before this time. */
  startAt?: Date;
  /** Not before so long from now. */
  delay?: number;
  /** An object to find the run by. */
  metadata?: Record<string, unknown>;
  /** The run fails unless it has ended so long after its start. */
  deadline?: number;
  /** While a run with this key lives, or for `window`, a start gives that run. */
  key?: string;
  /** How long the key counts; {@link FOREVER} makes it an idempotency key. */
  window?: number;
  /** Only create it: it is pending until somebody starts it. */
  createOnly?: boolean;
}

/** One of many runs that are started by one call. */
export type NewRun = Omit<StartOptions, "version"> & { input?: unknown };

/** What became of one of many starts. */
export interface Started {
  /** The run: the new one, or the one that has its id or key. Absent when it was refused. */
  runId: string | undefined;
  /** Whether it was there already. */
  existing: boolean;
  /** Why it was not started. */
  refusal: string | undefined;
}

/** A run as it is now. */
export interface Run {
  id: string;
  flow: string;
  version: number;
  name: string | null;
  /** pending, running, paused, completed, failed or cancelled. */
  state: string;
  createdAt: Date;
  endedAt: Date | null;
  steps: number;
  openSteps: number;
  revision: number;
  input: any;
  error: any;
  metadata: any;
}

/** A step as it is now. */
export interface Step {
  seq: number;
  name: string;
  state: string;
  handler: string | null;
  attempt: number | null;
  failures: number | null;
  output: any;
  error: any;
}

/** An open question. */
export interface Question {
  runId: string;
  step: string;
  question: string;
  choices: string[];
  mayAnswer: string[] | null;
  value: any;
  since: Date;
  expiresAt: Date | null;
}

/** Who steers, and what the run must be like. */
export interface Steering {
  by?: string;
  expectedRevision?: number;
}

/** What a signal may say besides its payload. */
export interface SignalOptions {
  /** An idempotency key: twice is once. */
  key?: string;
  /** How long it is kept while nobody consumes it, in milliseconds. */
  keep?: number;
}

/** Reads rows as objects. */
function objects<T>(...names: (keyof T)[]): (rows: Rows) => T[] {
  return (rows) => rows.map((row) => Object.fromEntries(names.map((name, number) => [name, row[number]])) as T);
}

export function deploy(tenant: string, flow: unknown): Call<number> {
  return call("select flow_version from {s}.deploy($1, $2::jsonb)", [tenant, encoded(flow)], value);
}

const MS = (place: string): string => `${place}::float8 * interval '1 millisecond'`;

export function start(tenant: string, flow: string, input: unknown, options: StartOptions): Call<string> {
  const given: [string, unknown, (place: string) => string][] = [
    ["p_version", options.version, String],
    ["p_name", options.name, String],
    ["p_priority", options.priority, String],
    ["p_start_at", options.startAt, String],
    ["p_delay", options.delay, MS],
    ["p_metadata", options.metadata && encoded(options.metadata), (place) => `${place}::jsonb`],
    ["p_deadline", options.deadline, MS],
    ["p_key", options.key, String],
    ["p_window", options.window, MS],
    ["p_create_only", options.createOnly, String],
  ];
  const values: unknown[] = [flow, encoded(input), tenant, options.id ?? newRunId()];
  const more = given
    .filter(([, one]) => one !== undefined)
    .map(([name, one, written]) => {
      values.push(one);
      return `, ${name} => ${written(`$${values.length}`)}`;
    });
  return call(`select {s}.start_run($1, $2::jsonb, p_tenant => $3, p_id => $4${more.join("")})`, values, value);
}

export function startMany(tenant: string, flow: string, version: number | undefined, runs: readonly NewRun[]): Call<Started[]> {
  const ids = runs.map((run) => run.id ?? newRunId());
  const read = (rows: Rows): Started[] => {
    // Only what was not created comes back; the same id may have been named twice.
    const told = new Map<string, Started[]>();
    for (const [id, existing, refusal, runId] of rows) {
      const one = { runId: refusal === null ? runId : undefined, existing, refusal: refusal ?? undefined };
      told.set(id, [...(told.get(id) ?? []), one]);
    }
    return ids.map((id) => told.get(id)?.pop() ?? { runId: id, existing: false, refusal: undefined });
  };
  const column = (of: (run: NewRun) => unknown): unknown[] | null => {
    const values = runs.map((run) => of(run) ?? null);
    return values.some((one) => one !== null) ? values : null;
  };
  const whole = (one: number | undefined): number | undefined => (one === undefined ? undefined : Math.round(one));
  const sql =
    "select id, existing, refusal, run_id from {s}.start_runs($1, $2, $3, $4::uuid[], $5::jsonb[], $6::text[], $7::integer[]," +
    " $8::timestamptz[], $9::bigint[], $10::jsonb[], null, $11::bigint[], $12::text[], $13::bigint[], $14::boolean[])";
  const values = [
    tenant,
    flow,
    version ?? null,
    ids,
    runs.map((run) => encoded(run.input)),
    column((run) => run.name),
    column((run) => run.priority),
    column((run) => run.startAt?.toISOString()),
    column((run) => whole(run.delay)),
    column((run) => run.metadata && encoded(run.metadata)),
    column((run) => whole(run.deadline)),
    column((run) => run.key),
    column((run) => whole(run.window)),
    column((run) => run.createOnly),
  ];
  return call(sql, values, read);
}

export function get(tenant: string, runId: string): Call<Run | undefined> {
  const sql =
    "select id, flow, version, name, state::text, created_at, ended_at, steps, open_steps, revision, input, error, metadata" +
    " from {s}.runs where tenant = $1 and id = $2";
  const read = objects<Run>(
    "id", "flow", "version", "name", "state", "createdAt", "endedAt", "steps", "openSteps", "revision", "input", "error", "metadata",
  );
  return call(sql, [tenant, runId], (rows) => read(rows)[0]);
}

export function state(tenant: string, runId: string): Call<string | undefined> {
  return call("select state::text from {s}.runs where tenant = $1 and id = $2", [tenant, runId], value);
}

export function output(runId: string): Call<any> {
  return call("select {s}.run_output($1)", [runId], value);
}

export function steps(runId: string): Call<Step[]> {
  const sql = "select seq, name, state::text, handler, attempt, failures, output, error from {s}.steps where run_id = $1 order by seq";
  return call(sql, [runId], objects<Step>("seq", "name", "state", "handler", "attempt", "failures", "output", "error"));
}

/** `pause_run`, `stop_run`, `retry_run` and what else needs nothing more. */
export function steer(verb: string, tenant: string, runId: string, { by, expectedRevision }: Steering): Call<number> {
  const sql = `select {s}.${verb}($1, $2, p_by => $3, p_expected_revision => $4)`;
  return call(sql, [tenant, runId, by ?? null, expectedRevision ?? null], value, false);
}

export function resume(tenant: string, runId: string, data: unknown, by: string | undefined): Call<number> {
  return call("select {s}.resume_run($1, $2, $3::jsonb, p_by => $4)", [tenant, runId, encoded(data), by ?? null], value, false);
}

const SENT = `p_idempotency_key => $5, p_keep => ${MS("$6")}`;

export function signal(tenant: string, runId: string, topic: string, payload: unknown, { key, keep }: SignalOptions): Call<string> {
  const sql = `select {s}.signal_run($1, $2, $3, $4::jsonb, ${SENT})`;
  return call(sql, [tenant, runId, topic, encoded(payload), key ?? null, keep ?? null], value, key !== undefined);
}

export function sendSignal(tenant: string, topic: string, to: string, payload: unknown, { key, keep }: SignalOptions): Call<string> {
  const sql = `select {s}.send_signal($1, $2, $3, $4::jsonb, ${SENT})`;
  return call(sql, [tenant, topic, to, encoded(payload), key ?? null, keep ?? null], value, key !== undefined);
}

/** How outside work came out. */
export interface Completion {
  /** It has failed. */
  failed?: boolean;
  /** An idempotency key of the report. */
  key?: string;
}

export function completeExternal(tenant: string, topic: string, to: string, payload: unknown, { failed = false, key }: Completion): Call<string> {
  const sql = "select {s}.complete_external($1, $2, $3, $4::jsonb, p_failed => $5, p_idempotency_key => $6)";
  return call(sql, [tenant, topic, to, encoded(payload), failed, key ?? null], value, !failed || key !== undefined);
}

export function broadcast(tenant: string, topic: string, payload: unknown, options: { flow?: string; key?: string }): Call<number> {
  const sql = "select {s}.broadcast_signal($1, $2, $3::jsonb, $4, p_idempotency_key => $5)";
  const values = [tenant, topic, encoded(payload), options.flow ?? null, options.key ?? null];
  return call(sql, values, (rows) => Number(rows[0]?.[0]), options.key !== undefined);
}

export function decide(tenant: string, runId: string, step: string, choice: string, data: unknown, by: string | undefined): Call<boolean> {
  const values = [tenant, runId, step, choice, data === undefined ? null : encoded(data), by ?? null];
  return call("select {s}.decide($1, $2, $3, $4, $5::jsonb, $6)", values, value);
}

export function questions(tenant: string, runId: string | undefined): Call<Question[]> {
  const sql =
    "select run_id, step, question, choices, may_answer, value, since, expires_at from {s}.questions" +
    " where tenant = $1 and ($2::uuid is null or run_id = $2) order by since, run_id, step";
  const read = objects<Question>("runId", "step", "question", "choices", "mayAnswer", "value", "since", "expiresAt");
  return call(sql, [tenant, runId ?? null], read);
}

export function why(runId: string, step: string): Call<string> {
  return call("select {s}.why($1, $2)", [runId, step], value);
}
