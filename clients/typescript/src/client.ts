/** Clients: over a connection of their own, or within a transaction of the user's. */
import { type Call, type Queryable, run } from "./call.js";
import { NotFound, RunFailed, TimedOut, Unreachable, translated } from "./errors.js";
import { Backoff, Link, pause } from "./link.js";
import * as requests from "./requests.js";
import type { Completion, NewRun, Question, Run, SignalOptions, StartOptions, Started, Steering, Step } from "./requests.js";

/** How often a repeatable call is sent anew after a lost connection. */
const TRIES = 5;

/** First and longest pause between two looks at a run, in milliseconds. */
const LOOKS = [20, 1000] as const;

/** Of a client. */
export interface ClientOptions {
  tenant?: string;
  schema?: string;
  /** How long it waits for the answer of a call, in milliseconds. */
  callTimeout?: number;
}

/** What makes the calls of a client. */
type Caller = { <T>(made: Call<T>): Promise<T> };

/**
 * Starts, reads and steers runs. One connection, opened when it is needed.
 *
 * ```ts
 * const client = new Client("postgresql://localhost/app");
 * const runId = await client.start("order", { id: 7 });
 * console.log(await client.wait(runId, { timeout: 60_000 }));
 * ```
 */
export class Client {
  readonly #tenant: string;
  readonly #schema: string;
  readonly #link: Link | undefined;
  readonly #call: Caller;

  constructor(database: string | Queryable, options: ClientOptions = {}) {
    this.#tenant = options.tenant ?? "default";
    this.#schema = options.schema ?? "longhaul";
    if (typeof database === "string") {
      const link = new Link(database, this.#schema, options.callTimeout ?? 60_000);
      this.#link = link;
      this.#call = (made) => persistent(link, made);
    } else {
      this.#call = async (made) => {
        try {
          return await run(database, made, this.#schema);
        } catch (error) {
          throw translated(error);
        }
      };
    }
  }

  /** A client whose calls belong to the open transaction of this connection; see the recipes for connections of other libraries. */
  on(connection: Queryable): Client {
    return new Client(connection, { tenant: this.#tenant, schema: this.#schema });
  }

  /** Closes the connection. */
  close(): void {
    this.#link?.close();
  }

  /** Deploys a version of a flow and gives its number. The same definition again changes nothing. */
  deploy(flow: unknown): Promise<number> {
    return this.#call(requests.deploy(this.#tenant, flow));
  }

  /** Starts a run and gives its id; with a key, the id of the run that holds it. */
  start(flow: string, input: unknown = null, options: StartOptions = {}): Promise<string> {
    return this.#call(requests.start(this.#tenant, flow, input, options));
  }

  /** Starts many runs by one call. What is wrong with one concerns that one alone. */
  startMany(flow: string, runs: readonly NewRun[], options: { version?: number } = {}): Promise<Started[]> {
    return this.#call(requests.startMany(this.#tenant, flow, options.version, runs));
  }

  /** A run as it is now. */
  async get(runId: string): Promise<Run> {
    return found(await this.#call(requests.get(this.#tenant, runId)), runId);
  }

  /** The steps of a run as they are now. */
  steps(runId: string): Promise<Step[]> {
    return this.#call(requests.steps(runId));
  }

  /** The output of a completed run. */
  output(runId: string): Promise<any> {
    return this.#call(requests.output(runId));
  }

  /** Waits until a run has ended and gives its output. {@link RunFailed} when it failed or was stopped, {@link TimedOut} when it takes longer. */
  async wait(runId: string, options: { timeout?: number } = {}): Promise<any> {
    const end = options.timeout === undefined ? Infinity : Date.now() + options.timeout;
    for (let wait: number = LOOKS[0]; ; wait = Math.min(wait * 1.5, LOOKS[1])) {
      const state = found(await this.#call(requests.state(this.#tenant, runId)), runId);
      if (state === "completed") return await this.output(runId);
      if (requests.ENDED.includes(state)) throw failed(await this.get(runId));
      if (Date.now() + wait > end) throw new TimedOut(`run ${runId} is still ${state}`);
      await pause(wait);
    }
  }

  /** Stops a run. Gives its new revision. */
  stop(runId: string, options: Steering = {}): Promise<number> {
    return this.#call(requests.steer("stop_run", this.#tenant, runId, options));
  }

  /** Pauses a run: what runs goes on, nothing begins. */
  pause(runId: string, options: Steering = {}): Promise<number> {
    return this.#call(requests.steer("pause_run", this.#tenant, runId, options));
  }

  /** Resumes a paused run; the data answer an interrupt. */
  resume(runId: string, data: unknown = null, options: { by?: string } = {}): Promise<number> {
    return this.#call(requests.resume(this.#tenant, runId, data, options.by));
  }

  /** Goes on with a failed or stopped run at the steps that did not complete. */
  retry(runId: string, options: Steering = {}): Promise<number> {
    return this.#call(requests.steer("retry_run", this.#tenant, runId, options));
  }

  /** Starts a run that was only created, or whose start was put off. */
  startPending(runId: string, options: Steering = {}): Promise<number> {
    return this.#call(requests.steer("start_pending_run", this.#tenant, runId, options));
  }

  /** Sends a signal to a run. Twice with one idempotency key is once. */
  signal(runId: string, topic: string, payload: unknown = null, options: SignalOptions = {}): Promise<string> {
    return this.#call(requests.signal(this.#tenant, runId, topic, payload, options));
  }

  /** Sends a signal to a topic and a key: whoever has waited longest gets it, now or later. */
  sendSignal(topic: string, to: string, payload: unknown = null, options: SignalOptions = {}): Promise<string> {
    return this.#call(requests.sendSignal(this.#tenant, topic, to, payload, options));
  }

  /** Reports that outside work is done, or has failed. */
  completeExternal(topic: string, to: string, payload: unknown = null, options: Completion = {}): Promise<string> {
    return this.#call(requests.completeExternal(this.#tenant, topic, to, payload, options));
  }

  /** Sends a signal to every live run, or to those of a flow. Gives to how many. */
  broadcast(topic: string, payload: unknown = null, options: { flow?: string; key?: string } = {}): Promise<number> {
    return this.#call(requests.broadcast(this.#tenant, topic, payload, options));
  }

  /** Answers the question of a step. False: the same choice had been made before. */
  decide(runId: string, step: string, choice: string, options: { data?: unknown; by?: string } = {}): Promise<boolean> {
    return this.#call(requests.decide(this.#tenant, runId, step, choice, options.data, options.by));
  }

  /** The open questions, of a run or of all. */
  questions(runId?: string): Promise<Question[]> {
    return this.#call(requests.questions(this.#tenant, runId));
  }

  /** Why a step does not run, in one sentence. */
  why(runId: string, step: string): Promise<string> {
    return this.#call(requests.why(runId, step));
  }
}

async function persistent<T>(link: Link, made: Call<T>): Promise<T> {
  const backoff = new Backoff();
  for (let left = TRIES; ; left -= 1) {
    try {
      return await link.run(made);
    } catch (error) {
      if (!(error instanceof Unreachable) || !made.repeatable || left <= 1) throw error;
      await backoff.wait();
    }
  }
}

function found<T>(one: T | undefined | null, runId: string): T {
  if (one === undefined || one === null) throw new NotFound(`there is no run ${runId}`);
  return one;
}

function failed(run: Run): RunFailed {
  const message = run.error?.message;
  return new RunFailed(`run ${run.id} is ${run.state}${message ? `: ${message}` : ""}`);
}
