/** What a handler knows about its step, and the durable calls: what stands in the history is answered from there, and what a function waits for
 * suspends it. */
import { AsyncLocalStorage } from "node:async_hooks";
import { type Call, type Queryable, run } from "./call.js";
import { InvalidInput, Refused, Unreachable } from "./errors.js";
import { type History, operation } from "./history.js";
import { Backoff, type Link } from "./link.js";
import { encoded } from "./payload.js";
import * as protocol from "./protocol.js";
import type { Checkpoint, Claimed, Entry, Key } from "./protocol.js";
import { Fail, Retry, milliseconds } from "./step-error.js";
import { fraction5, uuid5 } from "./uuid5.js";
import { Strand, Waiting, never } from "./waiting.js";

/** The checkpoint in whose function the code is. */
const closure = new AsyncLocalStorage<string>();

/** No signal came in time. */
export const TIMED_OUT: unique symbol = Symbol("timed out");

/** What was chosen, by whom and when; `by` is `expiry` when nobody chose in time. */
export interface Decision {
  choice: string;
  by?: string;
  at: string;
  data?: any;
}

/** A question that somebody must answer. */
export interface Ask {
  question: string;
  /** approve and reject when absent. */
  choices?: string[];
  /** Only these may answer. */
  by?: string[];
  /** Shown to whoever decides. */
  value?: unknown;
  /** `default` is taken when nobody has answered after so many milliseconds. */
  expires?: number;
  default?: string;
  /** `step`: the other steps of the run go on meanwhile. */
  pauses?: "run" | "step";
}

/** What a context needs of the worker. */
export interface Services {
  readonly worker: string;
  readonly schema: string;
  readonly maxPayload: number;
  readonly link: Link;
  save(checkpoint: Checkpoint): Promise<void>;
  report(key: Key, name: string, value: string): void;
}

/** What all branches of an attempt share. */
export class Attempt {
  readonly waiting = new Waiting();
  readonly controller = new AbortController();
  completedIn = false;

  constructor(
    readonly claimed: Claimed,
    readonly services: Services,
    readonly history: History,
  ) {}
}

/** A branch of {@link Context.all} or {@link Context.race}: it is given a context of its own and must use that one. */
export type Branch<T> = (context: Context) => Promise<T>;

/** Given to a handler with its input. */
export class Context {
  readonly #attempt: Attempt;
  readonly #strand: Strand;

  /** @internal */
  constructor(attempt: Attempt, strand: Strand) {
    this.#attempt = attempt;
    this.#strand = strand;
  }

  get #claimed(): Claimed {
    return this.#attempt.claimed;
  }

  get #services(): Services {
    return this.#attempt.services;
  }

  // The step -------------------------------------------------------------------------------------------------------

  /** The run. */
  get runId(): string {
    return this.#claimed.key.runId;
  }
  /** Name of the flow. */
  get flow(): string {
    return this.#claimed.flow;
  }
  /** Version of the flow. */
  get flowVersion(): number {
    return this.#claimed.flowVersion;
  }
  /** Name of the step. */
  get step(): string {
    return this.#claimed.step;
  }
  /** Id of the worker's registration. */
  get worker(): string {
    return this.#services.worker;
  }
  /** Which try this is, from 1. Attempts that were handed back or snoozed are not counted. */
  get attempt(): number {
    return this.#claimed.failures + 1;
  }
  /** How many tries the step has. */
  get maxAttempts(): number {
    return this.#claimed.maxAttempts;
  }
  /** A number that grows with every claim of this step: a store that has seen a higher one must refuse this one. */
  get fencingToken(): number {
    return this.#claimed.key.attempt;
  }
  /** The same for all attempts of this step, and for no other step. */
  get idempotencyKey(): string {
    return this.#claimed.idempotencyKey;
  }
  /** The step's constant settings (`with` in its definition). */
  get parameters(): any {
    return this.#claimed.parameters;
  }
  /** Aborted when the attempt is to stop: its lease was lost, its time is over, or the worker shuts down. Hand it to whatever takes one. */
  get signalled(): AbortSignal {
    return this.#attempt.controller.signal;
  }

  /** The output of another step of the run, which must have completed: name it in `after`. */
  async output(step: string): Promise<any> {
    const found = await this.#busy(() => this.#asked(protocol.outputOf(this.runId, step)));
    if (!found) throw new Fail(`the run has no step ${step}`);
    if (found.outcome === null) throw new Fail(`step ${step} has not ended; step ${this.step} must name it in \`after\``);
    if (found.outcome !== "completed") throw new Fail(`step ${step} has no output: it is ${found.outcome}`);
    return found.output;
  }

  /** Says how far the step is, as often as one likes: the last value is stored within half a second. */
  progress(done: number, of: number, message = ""): void {
    this.report("", { done, of, message });
  }

  /** Sets a value of the step's own under a key, for people who look on. */
  report(key: string, value: unknown): void {
    if (key.includes("\0") || key.length > 500) throw new Fail("the key of a progress has at most 500 characters, and no \\u0000");
    this.#services.report(this.#claimed.key, key, this.#encoded(value, "the progress"));
  }

  /**
   * Completes the step in the open transaction of a connection to the same database: what the handler wrote there and the completion exist both
   * or not at all. The handler commits, and then returns. Fails when the lease was lost: roll back then.
   */
  async completeIn(connection: Queryable, output: unknown = null): Promise<void> {
    this.#attempt.completedIn = true;
    const made = protocol.complete(this.worker, [this.#claimed.key], [this.#encoded(output, "the output")], false);
    const [refused] = await this.#busy(() => run(connection, made, this.#services.schema));
    if (!refused) return;
    if (refused.reason.startsWith("invalid: ")) throw new Fail(`the output cannot be stored: ${refused.reason}`);
    throw new Retry(`the step is no longer this worker's: ${refused.reason}`);
  }

  // Durable calls --------------------------------------------------------------------------------------------------

  /**
   * Computes a value once: what `work` gave is saved, and given again in every later attempt without calling it. An error is not saved. Nothing
   * durable can be called in it.
   */
  async checkpoint<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const { path, answer } = await this.#place("step", name);
    if (answer) return answer.value;
    return await this.#busy(async () => {
      const text = this.#encoded(await closure.run(name, async () => await work()), `checkpoint ${name}`);
      if (this.#claimed.checkpoints) await this.#save(path, "step", name, text);
      // Read back, so that this attempt goes on with what later ones will see.
      return JSON.parse(text) as T;
    });
  }

  /** The present time of this process, the same in every attempt. */
  async now(): Promise<Date> {
    const { path, answer } = await this.#place("now", "");
    if (answer) return new Date(answer.value);
    const now = new Date();
    await this.#save(path, "now", "", encoded(now.toISOString()));
    return now;
  }

  /** A UUID that is the same in every attempt, and in no other run or step. */
  async uuid(): Promise<string> {
    const { path } = await this.#place("uuid", "");
    return uuid5(this.runId, `${this.#claimed.key.seq}/${path}`);
  }

  /** A number from 0 up to 1 that is the same in every attempt. Not for secrets. */
  async random(): Promise<number> {
    const { path } = await this.#place("random", "");
    return fraction5(this.runId, `${this.#claimed.key.seq}/${path}`);
  }

  /**
   * Whether this code is to do what a change of it brought: true in runs that come here after the change, false in those whose history goes on
   * without it.
   */
  async patched(id: string): Promise<boolean> {
    checkDurable(operation("patched", id));
    const path = `patch ${id}`;
    if (this.#attempt.history.has(path)) return true;
    if (this.#attempt.history.goesOnAt(this.#strand.prefix, this.#strand.next)) return false;
    await this.#save(path, "patch", id, "null");
    return true;
  }

  /** Sleeps for milliseconds or months, by the database's clock, without holding a slot. */
  async sleep(name: string, length: number): Promise<void> {
    await this.#wait("sleep", name, { wait_ms: milliseconds(length) });
  }

  /** Waits for a signal to this run and gives its payload; {@link TIMED_OUT} when none came within so many milliseconds. */
  signal(topic: string): Promise<any>;
  signal(topic: string, options: { within?: number }): Promise<any | typeof TIMED_OUT>;
  async signal(topic: string, options: { within?: number } = {}): Promise<any> {
    checkTopic(topic);
    return await this.#signalled(topic, {}, options.within);
  }

  /** Waits for a signal to a topic and key, or for the completion of outside work. */
  async topicSignal(topic: string, key: string, options: { within?: number } = {}): Promise<any | typeof TIMED_OUT> {
    checkTopic(topic, key);
    return await this.#signalled(topic, { key }, options.within);
  }

  async #signalled(topic: string, to: { key?: string }, within: number | undefined): Promise<any> {
    const limit = within === undefined ? {} : { wait_ms: milliseconds(within) };
    const entry = await this.#wait("signal", topic, { topic, ...to, ...limit });
    return entry.answer === "timeout" ? TIMED_OUT : entry.value;
  }

  /**
   * Starts a child run and waits for its output. When it fails, that is an error here. When this run ends before, the child is stopped.
   */
  async child(flow: string, input: unknown = null): Promise<any> {
    this.#encoded(input, "the input");
    return (await this.#wait("child", flow, { flow, input })).value;
  }

  /** Starts a run that nobody waits for and that outlives this run. Gives its id. */
  async startChild(flow: string, input: unknown = null): Promise<string> {
    const { path, answer } = await this.#place("detached", flow);
    if (answer) return answer.value;
    this.#attempt.history.grow();
    const text = this.#encoded(input, "the input");
    return await this.#busy(async () => {
      const backoff = new Backoff(10, 1000);
      for (;;) {
        const started = await this.#asked(protocol.startDetached(this.worker, this.#claimed.key, path, flow, text));
        if (started !== null) return started;
        // Somebody holds the run.
        await backoff.wait();
      }
    });
  }

  /** Asks a question and waits for the decision; the run is paused meanwhile. */
  async ask(question: Ask): Promise<Decision> {
    checkQuestion(question);
    const { expires, ...prompt } = question;
    const limit = expires === undefined ? {} : { wait_ms: milliseconds(expires) };
    return (await this.#wait("decision", "", { prompt: { choices: ["approve", "reject"], ...prompt }, ...limit })).value;
  }

  /** Pauses the run with a reason and a value to show, and gives the data with which somebody resumes it. `metadata` is set in the run's. */
  async interrupt(reason: string, value: unknown = null, metadata?: Record<string, unknown>): Promise<any> {
    const more = metadata === undefined ? {} : { metadata };
    return (await this.#wait("interrupt", "", { prompt: { question: reason, value }, ...more })).value;
  }

  /** The decision that let this step begin: of its approval, of its budget or of a policy. */
  decision(): Decision | undefined {
    return this.#attempt.history.decision()?.value;
  }

  /** Runs branches at the same time and gives all their values; fails with the first error. */
  async all<T>(branches: readonly Branch<T>[]): Promise<T[]> {
    const { path } = await this.#place("all", "");
    return await this.#branched(path, branches, (running) => Promise.all(running));
  }

  /**
   * Runs branches at the same time and gives the value or the error of the first that ends. The others are left behind. Which one won is
   * recorded.
   */
  async race<T>(branches: readonly Branch<T>[]): Promise<T> {
    const { path, answer } = await this.#place("race", "");
    if (answer) {
      const winner = branches[answer.value];
      if (!winner) {
        const message = `the code no longer matches its history: branch ${answer.value} won the race at ${path}, of ${branches.length}`;
        throw new Fail(message, { code: "history_mismatch" });
      }
      return await winner(new Context(this.#attempt, new Strand(`${path}.${answer.value}.`, this.#attempt.waiting)));
    }
    if (branches.length === 0) throw new Fail("a race without branches has no winner");
    const ended = await this.#branched(path, branches, (running) =>
      Promise.race(
        running.map(async (branch, number) => {
          try {
            const value = await branch;
            return { number, give: () => value };
          } catch (error) {
            const give = (): T => {
              throw error;
            };
            return { number, give };
          }
        }),
      ),
    );
    await this.#save(path, "race", "", encoded(ended.number));
    return ended.give();
  }

  async #branched<T, R>(path: string, branches: readonly Branch<T>[], joined: (running: Promise<T>[]) => Promise<R>): Promise<R> {
    const strands = branches.map((_, number) => new Strand(`${path}.${number}.`, this.#attempt.waiting));
    this.#strand.stand();
    try {
      const running = strands.map(async (strand, number) => {
        try {
          return await (branches[number] as Branch<T>)(new Context(this.#attempt, strand));
        } finally {
          strand.end();
        }
      });
      return await joined(running);
    } finally {
      this.#strand.goOn();
      for (const strand of strands) strand.end();
      this.#attempt.waiting.drop(`${path}.`);
    }
  }

  // What they share ------------------------------------------------------------------------------------------------

  /** Something of the function runs in this process. */
  async #busy<T>(work: () => Promise<T>): Promise<T> {
    this.#attempt.waiting.begin();
    try {
      return await work();
    } finally {
      this.#attempt.waiting.done();
    }
  }

  async #place(kind: string, name: string): Promise<{ path: string; answer: Entry | undefined }> {
    checkDurable(operation(kind, name));
    if (this.#strand.isOver) return await never();
    const path = this.#strand.take();
    return { path, answer: this.#attempt.history.visit(path, kind, name) };
  }

  #encoded(value: unknown, what: string): string {
    try {
      return encoded(value, this.#services.maxPayload, what);
    } catch (error) {
      throw error instanceof InvalidInput ? new Fail(error.message) : error;
    }
  }

  /** Makes a repeatable call, however long the database is away. */
  async #asked<T>(made: Call<T>): Promise<T> {
    try {
      return await this.#services.link.persistently(made);
    } catch (error) {
      throw new Fail(error instanceof Error ? error.message : String(error));
    }
  }

  async #save(path: string, kind: string, name: string, value: string): Promise<void> {
    this.#attempt.history.grow();
    try {
      await this.#busy(() => this.#services.save({ key: this.#claimed.key, path, kind, name, value }));
    } catch (error) {
      if (error instanceof Refused) throw new Retry("the lease was lost before the checkpoint was saved");
      if (error instanceof Unreachable) throw error;
      throw new Fail(`${operation(kind, name)} cannot be stored: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Waits for something durable: the answer from the history, or suspension. */
  async #wait(kind: string, name: string, wait: Record<string, unknown>): Promise<Entry> {
    const { path, answer } = await this.#place(kind, name);
    if (!answer) {
      this.#attempt.history.grow();
      this.#strand.wait({ kind, path, name, ...wait });
      return await never();
    }
    if (answer.answer !== "error") return answer;
    const error = answer.value ?? {};
    throw new Fail(String(error.message ?? JSON.stringify(error)), { code: error.code ?? "failed" });
  }
}

function checkDurable(what: string): void {
  const name = closure.getStore();
  if (name === undefined) return;
  const message =
    `${what} cannot be called in the function of checkpoint ${JSON.stringify(name)}: that is not called again once its value is stored.` +
    " Call it before or after the checkpoint";
  throw new Fail(message, { code: "misplaced_call" });
}

/** Fails for a topic or a key that no sender can name. */
export function checkTopic(topic: string, key = ""): void {
  if (topic.length < 1 || [...topic].length > 200 || [...key].length > 500 || (topic + key).includes("\0")) {
    throw new Fail("nobody could send that signal: a topic has 1 to 200 characters, and a key at most 500; neither holds \\u0000");
  }
}

function checkQuestion(question: Ask): void {
  const choices = question.choices ?? ["approve", "reject"];
  let problem: string | undefined;
  if (choices.length === 0) problem = "it has no choices";
  else if (question.by?.length === 0) problem = "nobody may answer it";
  else if (question.default !== undefined && !choices.includes(question.default)) {
    problem = `${JSON.stringify(question.default)}, which is chosen when nobody answers in time, is not among its choices`;
  }
  if (problem) throw new Fail(`the question ${JSON.stringify(question.question)} cannot be answered: ${problem}`);
}
