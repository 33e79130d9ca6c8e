/** One attempt at a step: the handler, its timeout, its mistakes, its cancellation. */
import { type Attempt, Context, checkTopic } from "./context.js";
import type { Handler } from "./handlers.js";
import { encoded } from "./payload.js";
import type { Ended, Key, Outcome } from "./protocol.js";
import { ContinueAsNew, Dispatched, Fail, Retry, described, ended } from "./step-error.js";
import { Strand, type Wait } from "./waiting.js";

/** The longest that a timer of Node can wait. */
const LONGEST_TIMER = 2 ** 31 - 1;

type Ending = { value: unknown } | { thrown: unknown } | { waits: Wait[] } | "late" | "cancelled";

/** Calls the handler. There is no outcome when it was cancelled: whoever cancels knows what is to become of the step. */
export async function execute(attempt: Attempt, handler: Handler): Promise<Outcome | undefined> {
  const { key, timeoutMs, input } = attempt.claimed;
  const how = await ending(attempt, handler, input, timeoutMs);
  if (how === "cancelled") return undefined;
  attempt.controller.abort();
  if (how === "late") {
    const error = new Retry(`the attempt took longer than ${timeoutMs} ms`);
    return { kind: "ended", key, outcome: "timed_out", error: described(error), retryable: true, delayMs: null };
  }
  const most = attempt.services.maxPayload;
  if ("waits" in how) return suspended(key, how.waits, most);
  if ("thrown" in how) return failed(key, how.thrown, most);
  try {
    attempt.history.checkEnd();
  } catch (error) {
    return ended(key, error);
  }
  // If the transaction was committed, this is refused because the step is completed.
  if (attempt.completedIn) return ended(key, new Retry("the transaction that was to complete the step was not committed"));
  try {
    return { kind: "completed", key, output: encoded(how.value, most, "the output") };
  } catch (error) {
    return ended(key, new Fail(error instanceof Error ? error.message : String(error)));
  }
}

async function ending(attempt: Attempt, handler: Handler, input: unknown, timeoutMs: number | null): Promise<Ending> {
  let timer: NodeJS.Timeout | undefined;
  const { signal } = attempt.controller;
  const cancelled = new Promise<Ending>((resolve) => {
    if (signal.aborted) resolve("cancelled");
    signal.addEventListener("abort", () => resolve("cancelled"), { once: true });
  });
  const late = new Promise<Ending>((resolve) => {
    if (timeoutMs !== null && timeoutMs <= LONGEST_TIMER) timer = setTimeout(() => resolve("late"), timeoutMs);
  });
  const strand = new Strand("", attempt.waiting);
  const called = (async (): Promise<Ending> => {
    try {
      return { value: await handler(new Context(attempt, strand), input) };
    } catch (thrown) {
      return { thrown };
    }
  })();
  try {
    return await Promise.race([called, cancelled, late, attempt.waiting.suspended.then((waits): Ending => ({ waits }))]);
  } finally {
    clearTimeout(timer);
  }
}

function suspended(key: Key, waits: unknown[], most: number): Outcome | Ended {
  try {
    return { kind: "suspended", key, waits: encoded(waits, waits.length * (most + 4096), "what the step waits for") };
  } catch (error) {
    return ended(key, new Fail(error instanceof Error ? error.message : String(error)));
  }
}

function failed(key: Key, thrown: unknown, most: number): Outcome {
  if (thrown instanceof ContinueAsNew) return suspended(key, [{ kind: "new", input: thrown.input ?? null }], most);
  if (!(thrown instanceof Dispatched)) return ended(key, thrown);
  try {
    checkTopic(thrown.topic, thrown.key);
  } catch (wrong) {
    return ended(key, wrong);
  }
  const limit = thrown.within === undefined ? {} : { wait_ms: Math.max(0, Math.round(thrown.within)) };
  return suspended(key, [{ kind: "external", path: "external", topic: thrown.topic, key: thrown.key, ...limit }], most);
}
