/** How a handler says that it did not complete. Anything else that it throws is a failed attempt, which is tried again by the step's policy. */
import { encoded } from "./payload.js";
import type { Ended, Key } from "./protocol.js";

/** Longest message that is kept, in characters. */
const MOST = 10_000;

/** Longest wait: 10,000 days. */
const LONGEST = 864_000_000_000;

/** Whole milliseconds of a wait. */
export function milliseconds(wait: number): number {
  return Math.max(0, Math.min(LONGEST, Math.round(wait)));
}

/** What an error may say besides its message. */
export interface ErrorOptions {
  /** What a flow's `never_on` looks at. */
  code?: string;
  /** Stays with the attempt, for operators. */
  detail?: string;
  /** What caused it. */
  cause?: unknown;
}

/** An attempt that ended without completing its step; see the kinds below. */
export class StepError extends Error {
  readonly code: string | undefined;
  readonly detail: string | undefined;
  readonly outcome: string = "failed";
  readonly retryable: boolean = true;
  readonly delayMs: number | null = null;

  constructor(message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = options.code;
    this.detail = options.detail;
  }
}

/** The attempt failed; another may succeed, by the step's policy or `after` so many milliseconds. */
export class Retry extends StepError {
  override readonly delayMs: number | null;

  constructor(message: string, options: ErrorOptions & { after?: number } = {}) {
    super(message, options);
    this.delayMs = options.after === undefined ? null : milliseconds(options.after);
  }
}

/** The step cannot succeed: there is no further attempt. */
export class Fail extends StepError {
  override readonly retryable = false;
}

/** Not now: call again after so many milliseconds. Consumes no attempt. */
export class Snooze extends StepError {
  override readonly outcome = "snoozed";
  override readonly delayMs: number;

  constructor(wait: number) {
    super("snoozed");
    this.delayMs = milliseconds(wait);
  }
}

/** The provider is busy or down: call again after so many milliseconds, or after a wait that grows each time. Consumes no attempt. */
export class Defer extends StepError {
  override readonly outcome = "deferred";
  override readonly delayMs: number | null;

  constructor(reason: string, options: { after?: number } = {}) {
    super(reason);
    this.delayMs = options.after === undefined ? null : milliseconds(options.after);
  }
}

/**
 * The work was handed to an outside provider: the step waits, without a slot, until `completeExternal` reports it for this topic and key, and
 * its output is what that says. When that fails, or does not come in time, the attempt has failed.
 */
export class Dispatched extends StepError {
  readonly within: number | undefined;

  constructor(
    readonly topic: string,
    readonly key: string,
    options: { within?: number } = {},
  ) {
    super("dispatched");
    this.within = options.within;
  }
}

/** Begins the durable function anew, with this input and an empty history. */
export class ContinueAsNew extends StepError {
  constructor(readonly input: unknown) {
    super("continues as new");
  }
}

/** A text that the database takes. */
export function storable(text: string): string {
  return text.slice(0, MOST).replaceAll("\0", "\ufffd").toWellFormed();
}

/** What was thrown, as it is stored with the attempt. */
export function described(error: unknown): string {
  const kept: Record<string, unknown> = { message: storable(message(error)) };
  const causes: string[] = [];
  for (let cause = inner(error); cause !== undefined && causes.length < 20; cause = inner(cause)) causes.push(storable(message(cause)));
  if (causes.length > 0) kept["causes"] = causes;
  if (error instanceof StepError) {
    if (error.code !== undefined) kept["code"] = storable(error.code);
    if (error.detail !== undefined) kept["detail"] = storable(error.detail);
  } else if (error instanceof Error) {
    kept["type"] = storable(error.name);
  }
  return encoded(kept);
}

function message(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}

function inner(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}

/** What a thrown value of a handler comes to. */
export function ended(key: Key, error: unknown): Ended {
  if (error instanceof StepError) {
    return { kind: "ended", key, outcome: error.outcome, error: described(error), retryable: error.retryable, delayMs: error.delayMs };
  }
  return { kind: "ended", key, outcome: "failed", error: described(error), retryable: true, delayMs: null };
}
