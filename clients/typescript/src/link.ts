/** A connection that is opened when it is needed, and again after it broke. One call at a time. */
import pg from "pg";
import { type Call, run } from "./call.js";
import { Unreachable, translated } from "./errors.js";

/** Waits. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Pauses that grow, in milliseconds. */
export class Backoff {
  #next: number;

  constructor(
    private readonly first = 50,
    private readonly longest = 5000,
  ) {
    this.#next = first;
  }

  /** How long to wait now. */
  next(): number {
    const now = this.#next;
    this.#next = Math.min(now * 2, this.longest);
    return now;
  }

  /** All went well. */
  reset(): void {
    this.#next = this.first;
  }

  /** Waits. */
  wait(): Promise<void> {
    return pause(this.next());
  }
}

/** To a database. */
export class Link {
  #connection: pg.Client | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #calling = false;

  constructor(
    private readonly database: string,
    private readonly schema: string,
    private readonly timeout: number,
  ) {}

  /** Makes a call once. {@link Unreachable}: it may have been carried out, or not. */
  run<T>(made: Call<T>): Promise<T> {
    const mine = this.#last.then(() => this.#run(made));
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  /** Makes a repeatable call until it is answered. */
  async persistently<T>(made: Call<T>): Promise<T> {
    const backoff = new Backoff();
    for (;;) {
      try {
        return await this.run(made);
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
        await backoff.wait();
      }
    }
  }

  /** Closes the connection; a call that is on its way is given up. */
  close(): void {
    if (this.#calling) return this.#drop();
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection) void connection.end().catch(() => undefined);
  }

  async #run<T>(made: Call<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Unreachable(`no answer came within ${this.timeout} ms`)), this.timeout);
    });
    this.#calling = true;
    try {
      return await Promise.race([this.#asked(made), late]);
    } catch (error) {
      const known = translated(error);
      // Nobody knows where the connection is.
      if (known instanceof Unreachable) this.#drop();
      throw known;
    } finally {
      this.#calling = false;
      clearTimeout(timer);
    }
  }

  async #asked<T>(made: Call<T>): Promise<T> {
    if (!this.#connection) {
      const connection = new pg.Client({ connectionString: this.database, keepAlive: true });
      this.#connection = connection;
      connection.on("error", () => this.#forget(connection));
      connection.on("end", () => this.#forget(connection));
      await connection.connect();
    }
    return await run(this.#connection, made, this.schema);
  }

  #forget(connection: pg.Client): void {
    if (this.#connection === connection) this.#connection = undefined;
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    // Not end(): that would wait for the query.
    (connection as unknown as { connection?: { stream?: { destroy(): void } } } | undefined)?.connection?.stream?.destroy();
  }
}
