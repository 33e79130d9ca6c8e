/**
 * Whether a function can be suspended: it waits for something durable, and nothing of it runs in this process.
 *
 * A function consists of strands: itself, and each of its branches. A strand runs, waits for something durable (and never goes on in this
 * attempt), or stands still while its own branches run.
 */

/** Something that a suspended step waits for. */
export type Wait = { kind: string; path: string; [more: string]: unknown };

/** What never comes. */
export function never<T>(): Promise<T> {
  return new Promise(() => undefined);
}

/** What one attempt waits for. */
export class Waiting {
  /** Resolves with what the function waits for, when there is nothing else to do. */
  readonly suspended: Promise<Wait[]>;
  readonly #waits = new Map<string, Wait>();
  #suspend!: (waits: Wait[]) => void;
  #active = 0;
  #looking = false;

  constructor() {
    this.suspended = new Promise((resolve) => {
      this.#suspend = resolve;
    });
  }

  /** Something runs in this process until `done`. */
  begin(): void {
    this.#active += 1;
  }

  /** It has ended. */
  done(): void {
    this.#active -= 1;
    this.#look();
  }

  /** The function waits for this. */
  add(wait: Wait): void {
    this.#waits.set(wait.path, wait);
    this.#look();
  }

  /** Nobody waits any more for what is in these branches. */
  drop(prefix: string): void {
    for (const path of this.#waits.keys()) if (path.startsWith(prefix)) this.#waits.delete(path);
  }

  /** Whoever is awaited has gone on by the next turn. */
  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    setImmediate(() => {
      this.#looking = false;
      if (this.#active === 0 && this.#waits.size > 0) {
        const paths = [...this.#waits.keys()].sort();
        this.#suspend(paths.map((path) => this.#waits.get(path) as Wait));
      }
    });
  }
}

/** A strand of a function: numbers its operations, and tells whether it runs. */
export class Strand {
  #next = 0;
  #state: "running" | "waiting" | "still" | "over" = "running";

  constructor(
    readonly prefix: string,
    private readonly waiting: Waiting,
  ) {
    waiting.begin();
  }

  /** The number of the next operation. */
  get next(): number {
    return this.#next;
  }

  /** The place of the next operation. */
  take(): string {
    this.#next += 1;
    return `${this.prefix}${this.#next - 1}`;
  }

  /** Whether it was left behind: what it calls from now on is nothing. */
  get isOver(): boolean {
    return this.#state === "over";
  }

  /** It waits for something durable. */
  wait(wait: Wait): void {
    this.#leave("waiting");
    this.waiting.add(wait);
  }

  /** It stands still while its branches run. */
  stand(): void {
    this.#leave("still");
  }

  /** Its branches have ended. */
  goOn(): void {
    if (this.#state === "still") {
      this.#state = "running";
      this.waiting.begin();
    }
  }

  /** It has ended, or was left behind. */
  end(): void {
    this.#leave("over");
    this.#state = "over";
  }

  #leave(state: "waiting" | "still" | "over"): void {
    if (this.#state !== "running") return;
    this.#state = state;
    this.waiting.done();
  }
}
