/** A worker: registers, claims, calls handlers, and stores what came of it, until it is told to stop. */
import { hostname } from "node:os";
import { LonghaulError, Unreachable, translated } from "./errors.js";
import type { Handlers } from "./handlers.js";
import { LeaseClock, moment } from "./lease-clock.js";
import { Backoff } from "./link.js";
import { log } from "./log.js";
import * as protocol from "./protocol.js";
import { type Registered, Session } from "./session.js";
import { type Complete, type Settings, complete, link } from "./settings.js";
import { VERSION } from "./version.js";

/** A signal that comes so soon after the first one is the same, sent to the process and to its group. */
const SAME = 500;

/** So many sessions may break down in a row. */
const BREAKS = 5;

/**
 * Does the steps of the handlers that it is given.
 *
 * ```ts
 * const handlers = new Handlers().add("hello.greet", async (context, input) => `Hello, ${input.name}!`);
 * await new Worker(handlers, { database: "postgresql://localhost/app" }).run();
 * ```
 */
export class Worker {
  readonly #settings: Complete;

  constructor(
    private readonly handlers: Handlers,
    settings: Settings,
  ) {
    this.#settings = complete(settings);
  }

  /**
   * Works until SIGTERM or SIGINT. Steps that run may finish within the grace; the rest goes back with no attempt consumed. A second signal ends
   * the process at once, with exit code 130.
   */
  async run(): Promise<void> {
    const stop = new AbortController();
    let first: number | undefined;
    const signalled = (): void => {
      if (first === undefined) {
        first = Date.now();
        log.info("stopping; a second signal ends at once");
        stop.abort();
      } else if (Date.now() - first >= SAME) {
        process.exit(130);
      }
    };
    process.on("SIGTERM", signalled);
    process.on("SIGINT", signalled);
    try {
      await this.serve(stop.signal);
    } finally {
      process.off("SIGTERM", signalled);
      process.off("SIGINT", signalled);
    }
  }

  /** Works until the signal is aborted, or an operator has drained the worker. */
  async serve(stop: AbortSignal): Promise<void> {
    const backoff = new Backoff();
    let breaks = 0;
    while (!stop.aborted) {
      const began = Date.now();
      try {
        const registered = await this.#register(stop);
        if (!registered) return;
        if ((await new Session(this.#settings, this.handlers, registered).run(stop)) !== "lost") return;
        breaks = 0;
      } catch (error) {
        const trouble: LonghaulError = translated(error);
        log.error(`the worker broke down: ${trouble.message}`);
        breaks = Date.now() - began < 60_000 ? breaks + 1 : 1;
        if (breaks >= BREAKS) throw trouble;
        await backoff.wait();
      }
    }
  }

  /** Registers, waiting for the database as long as it takes. */
  async #register(stop: AbortSignal): Promise<Registered | undefined> {
    const settings = this.#settings;
    const worker = {
      tenant: settings.tenant,
      name: settings.name,
      host: hostname(),
      pid: process.pid,
      version: `node-${VERSION}`,
      queues: Object.keys(settings.queues),
      handlers: this.handlers.names(),
      slots: Object.values(settings.queues).reduce((sum, slots) => sum + slots, 0),
      leaseMs: Math.round(settings.lease),
    };
    const backoff = new Backoff();
    const connection = link(settings);
    try {
      while (!stop.aborted) {
        try {
          const limits = await connection.run(protocol.limits());
          const clock = new LeaseClock(settings.lease);
          clock.renewed(moment());
          const registered = await connection.run(protocol.register(worker));
          log.info(`registered as worker ${registered.worker}`);
          return { ...registered, ...limits, clock };
        } catch (error) {
          if (!(error instanceof Unreachable)) throw error;
          log.warn(`waiting for the database: ${error.message}`);
          await backoff.wait();
        }
      }
      return undefined;
    } finally {
      connection.close();
    }
  }
}
