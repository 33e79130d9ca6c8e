/** What handlers report for people who look on: the last value of each key, stored twice a second. */
import type { Link } from "./link.js";
import { log } from "./log.js";
import * as protocol from "./protocol.js";
import { type Reported, named } from "./protocol.js";

/** How often it is stored, in milliseconds. */
const FLUSH = 500;

/** Most values in one call. */
const MOST = 500;

/** The values that are not stored yet. */
export class Progress {
  readonly #timer: NodeJS.Timeout;
  #values = new Map<string, Reported>();
  #calls = 0;

  constructor(
    private readonly link: Link,
    private readonly worker: string,
  ) {
    // A value that cannot be stored is lost: the next one follows.
    this.#timer = setInterval(() => void this.flush().catch((error: Error) => log.debug(`progress could not be stored: ${error.message}`)), FLUSH);
  }

  /** Takes note of a value; it replaces the one before. */
  put(reported: Reported): void {
    this.#values.set(`${named(reported.key)} ${reported.name}`, reported);
  }

  /** Stores what has gathered. */
  async flush(): Promise<void> {
    const items = [...this.#values.values()];
    this.#values = new Map();
    this.#calls += 1;
    for (let first = 0; first < items.length; first += MOST) {
      await this.link.run(protocol.reportProgress(this.worker, items.slice(first, first + MOST), this.#calls));
    }
  }

  /** Stores no more by itself. */
  stop(): void {
    clearInterval(this.#timer);
  }
}
