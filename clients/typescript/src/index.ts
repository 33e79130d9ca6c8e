/**
 * Longhaul: durable jobs and workflows on PostgreSQL.
 *
 * Clients start and steer runs ({@link Client}); workers do their steps ({@link Handlers}, {@link Worker}). A handler is given a {@link Context}
 * and says by a {@link StepError} that it did not complete.
 */
export type { Call, Queryable } from "./call.js";
export { Client, type ClientOptions } from "./client.js";
export { type Ask, type Branch, type Context, type Decision, TIMED_OUT } from "./context.js";
export {
  Conflict,
  DatabaseError,
  InvalidInput,
  LonghaulError,
  NotFound,
  Refused,
  RunFailed,
  TimedOut,
  Unreachable,
  WorkerLost,
} from "./errors.js";
export { type Handler, Handlers } from "./handlers.js";
export { newRunId } from "./ids.js";
export { type Logger, setLogger } from "./log.js";
export type { Json } from "./payload.js";
export {
  type Completion,
  FOREVER,
  type NewRun,
  type Question,
  type Run,
  type SignalOptions,
  type StartOptions,
  type Started,
  type Steering,
  type Step,
} from "./requests.js";
export { type DrizzleSql, fromDrizzle, fromKnex } from "./recipes.js";
export type { Settings } from "./settings.js";
export { ContinueAsNew, Defer, Dispatched, type ErrorOptions, Fail, Retry, Snooze, StepError } from "./step-error.js";
export { VERSION } from "./version.js";
export { Worker } from "./worker.js";
