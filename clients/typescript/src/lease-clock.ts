/**
 * Until when a worker may take its leases for its own, by its own clock: as long as a lease lives, counted from before the last renewal was
 * sent. A process that was frozen for longer must begin nothing that it still has in hand.
 */

/** A moment of both clocks: the one that only goes forward stops while the machine sleeps, the other one may be set. */
export interface Moment {
  readonly monotonic: number;
  readonly wall: number;
}

/** Now. */
export function moment(): Moment {
  return { monotonic: Number(process.hrtime.bigint() / 1000n) / 1000, wall: Date.now() };
}

/** The leases of one registration; times are in milliseconds. Shared with the thread that renews them. */
export class LeaseClock {
  readonly #renewed: Float64Array;

  constructor(
    readonly lease: number,
    readonly memory: SharedArrayBuffer = new SharedArrayBuffer(16),
  ) {
    this.#renewed = new Float64Array(memory);
  }

  /** A renewal, or the registration, that was sent at this moment has arrived. */
  renewed(sent: Moment): void {
    this.#renewed.set([sent.monotonic, sent.wall]);
  }

  /** Whether the leases are certainly still the worker's, but for what the database was told by others. */
  holds(): boolean {
    const now = moment();
    const [monotonic = 0, wall = 0] = this.#renewed;
    return Math.max(now.monotonic - monotonic, now.wall - wall) < this.lease;
  }
}
