/** What a worker knows of a queue that it serves. */
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
export interface Unfinished {
  readonly before: string;
  /** How long to wait before the next look, in milliseconds. */
  readonly wait: number;
}

/** What a claim has found out, after what was known before it. */
export function unfinished(before: string | null, known: Unfinished | undefined): Unfinished | undefined {
  if (before === null) return undefined;
  return known?.before === before ? { before, wait: known.wait * 2 } : { before, wait: 2 };
}
