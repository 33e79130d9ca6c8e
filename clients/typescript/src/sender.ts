/**
 * The sender: stores items in batches that form by themselves. While a call is in flight the next batch gathers, so that a single item goes at
 * once, and under load they go by the hundred, without a timer.
 *
 * What can go wrong is answered here, once for all that a worker sends: the database is away (the batch waits), an item is bad (the batch is
 * halved until it stands alone), somebody else is at an item's run (it is sent later, apart from the others), nothing can be stored at all
 * (after half a minute the sender ends with that error).
 */
import { type LonghaulError, Unreachable, WorkerLost, isAboutAnItem, translated } from "./errors.js";
import { Backoff, pause } from "./link.js";
import { log } from "./log.js";

/** Most items in one call. */
export const MOST = 1000;

/** So often a batch meets passing trouble before the sender looks whether it is an item's. */
const PATIENCE = 5;

/** How long the sender goes on while nothing can be stored, for a reason that does not pass by itself. */
const BROKEN_FOR = 30_000;

/** Where items go. */
export interface Destination<T> {
  /** Splits a batch into calls. */
  calls(batch: T[]): T[][];
  /** Makes a call. Gives the items back that somebody else is busy with. */
  store(items: T[]): Promise<T[]>;
  /** The database refuses this item, and nothing else is to blame. What is to be stored instead, if anything. */
  refused(item: T, error: LonghaulError): Promise<T | undefined>;
  /** Whether the database answers at all. */
  reachable(): Promise<boolean>;
}

/** Takes items and stores every one of them, however long the database is away. */
export class Sender<T> {
  readonly #inbox: T[] = [];
  readonly #broken: (error: LonghaulError) => void;
  #working = false;
  #ended = false;
  #stored = 0;

  constructor(
    private readonly destination: Destination<T>,
    broken: (error: LonghaulError) => void,
  ) {
    this.#broken = broken;
  }

  /** Takes an item. Never waits: what is in flight is bounded by the worker's slots. */
  put(item: T): void {
    this.#inbox.push(item);
    if (!this.#working) {
      this.#working = true;
      // What is put in the same turn goes together.
      setImmediate(() => this.#guarded(this.#work()));
    }
  }

  /** Stores nothing more. */
  end(): void {
    this.#ended = true;
  }

  #guarded(work: Promise<void>): void {
    work.catch((error: unknown) => this.#broken(translated(error)));
  }

  async #work(): Promise<void> {
    try {
      while (this.#inbox.length > 0 && !this.#ended) await this.#deliver(this.#inbox.splice(0, MOST), 10);
    } finally {
      this.#working = false;
    }
  }

  #later(items: T[], wait: number): void {
    this.#guarded(pause(wait).then(() => this.#deliver(items, Math.min(wait * 2, 1000))));
  }

  async #deliver(batch: T[], busyWait: number): Promise<void> {
    const parts = this.destination.calls(batch);
    const backoff = new Backoff(20, 2000);
    let passing = 0;
    for (let part = parts.pop(); part && !this.#ended; part = parts.pop()) {
      let trouble: LonghaulError;
      try {
        const busy = await this.destination.store(part);
        this.#stored = Date.now();
        backoff.reset();
        if (busy.length > 0) this.#later(busy, busyWait);
        continue;
      } catch (error) {
        trouble = translated(error);
      }
      if (trouble instanceof WorkerLost) throw trouble;
      if (trouble instanceof Unreachable) {
        log.debug(`${part.length} items wait for the database: ${trouble.message}`);
        await backoff.wait();
        passing += 1;
        // It answers others: then it is one of these that it cannot serve.
        if (passing < PATIENCE || !(await this.destination.reachable())) {
          parts.push(part);
          continue;
        }
      }
      const [first] = part;
      if (part.length > 1) {
        const middle = part.length >> 1;
        parts.push(part.slice(middle), part.slice(0, middle));
      } else if (first !== undefined && isAboutAnItem(trouble)) {
        const instead = await this.destination.refused(first, trouble);
        if (instead !== undefined) parts.push([instead]);
      } else if (first !== undefined) {
        this.#guarded(this.#insist(first));
      }
    }
  }

  /** Sends an item that fails alone, until it is clear whether the item is to blame. */
  async #insist(first: T): Promise<void> {
    const since = Date.now();
    const backoff = new Backoff(100, 2000);
    let item = first;
    while (!this.#ended) {
      await backoff.wait();
      try {
        const busy = await this.destination.store([item]);
        if (busy.length > 0) this.#later(busy, 50);
        return;
      } catch (error) {
        const trouble = translated(error);
        if (trouble instanceof Unreachable) continue;
        if (isAboutAnItem(trouble) || this.#stored > since) {
          const instead = await this.destination.refused(item, trouble);
          if (instead === undefined) return;
          item = instead;
        } else if (Date.now() - since > BROKEN_FOR) {
          throw trouble;
        }
      }
    }
  }
}
