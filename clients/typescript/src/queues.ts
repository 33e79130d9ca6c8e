/** What a worker knows of the queues that it serves, and of which it asks to be told. */
import type { Link } from "./link.js";
import * as protocol from "./protocol.js";
import type { Claimed } from "./protocol.js";

/** A queue, its slots and what runs in them. */
export class Queue {
  running = 0;
  /** Claimed, and waiting for a slot: after a lost answer there may be more steps than slots. */
  readonly waiting: Claimed[] = [];
  /** Whether a claim could find something. */
  look = true;
  /** Whether the database tells us of new work. */
  listening = false;
  /** The last claim did not fill the slots. */
  exhausted = false;
  /** Claims in a row that filled them. */
  fullClaims = 0;

  constructor(
    readonly name: string,
    readonly slots: number,
  ) {}

  /** How many steps a claim may ask for. */
  get free(): number {
    return Math.max(0, this.slots - this.running - this.waiting.length);
  }

  /** A claim has come back. */
  claimed(asked: number, got: number): void {
    this.exhausted = got < asked;
    this.fullClaims = this.exhausted ? 0 : this.fullClaims + 1;
  }
}

/** Transactions that may have made steps ready without telling this worker: it looks again and again until they have ended. */
interface Unfinished {
  readonly before: string;
  /** How long to wait before the next look, in milliseconds. */
  readonly wait: number;
}

/** What a claim has found out, after what was known before it. */
function unfinished(before: string | null, known: Unfinished | undefined): Unfinished | undefined {
  if (before === null) return undefined;
  return known?.before === before ? { before, wait: known.wait * 2 } : { before, wait: 2 };
}

/** The requests to be told of new work. */
export class Listening {
  /** Whether the connection that listens is there. */
  connected = false;
  unfinished: Unfinished | undefined;

  constructor(
    private readonly link: Link,
    private readonly worker: string,
  ) {}

  /** Before a claim: asks to be told of queues that ran dry, and no more of those that fill all slots, where others can act on it. */
  async prepare(queues: readonly Queue[]): Promise<void> {
    const start = queues.filter((queue) => this.connected && queue.exhausted && !queue.listening);
    const stop = queues.filter((queue) => queue.listening && queue.fullClaims > 1);
    const names = (some: readonly Queue[]): string[] => some.map((queue) => queue.name);
    if (start.length > 0) {
      await this.link.run(protocol.listenFor(this.worker, names(start)));
      this.unfinished = unfinished(await this.link.run(protocol.unfinishedBefore(null)), this.unfinished);
    } else if (this.unfinished) {
      this.unfinished = unfinished(await this.link.run(protocol.unfinishedBefore(this.unfinished.before)), this.unfinished);
    }
    if (stop.length > 0) await this.link.run(protocol.stopListening(this.worker, names(stop)));
    for (const queue of start) queue.listening = this.connected;
    for (const queue of stop) queue.listening = false;
  }
}
