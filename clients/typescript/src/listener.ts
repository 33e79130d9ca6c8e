/** Notifications. They only save waiting: a worker polls as well. */
import pg from "pg";
import { Backoff } from "./link.js";
import { log } from "./log.js";

/** What a listener tells. */
export interface Told {
  connected(now: boolean): void;
  message(payload: string): void;
}

/** Listens until it is stopped, and connects again when the connection breaks. */
export class Listener {
  #connection: pg.Client | undefined;
  #over = false;

  constructor(
    private readonly database: string,
    private readonly channel: string,
    private readonly told: Told,
  ) {
    void this.#listen();
  }

  /** Ends it. */
  stop(): void {
    this.#over = true;
    void this.#connection?.end().catch(() => undefined);
  }

  async #listen(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#over) {
      const connection = new pg.Client({ connectionString: this.database, keepAlive: true, connectionTimeoutMillis: 30_000 });
      this.#connection = connection;
      const ended = new Promise<void>((resolve) => {
        connection.on("error", () => resolve());
        connection.on("end", () => resolve());
      });
      connection.on("notification", (message) => this.told.message(message.payload ?? ""));
      try {
        await connection.connect();
        await connection.query(`listen ${pg.escapeIdentifier(this.channel)}`);
        backoff.reset();
        // What was sent before we listened is lost, and the server may have forgotten that we want to be told.
        this.told.connected(true);
        await ended;
      } catch (error) {
        log.debug(`no notifications for now: ${error instanceof Error ? error.message : String(error)}`);
      }
      this.told.connected(false);
      void connection.end().catch(() => undefined);
      if (!this.#over) await backoff.wait();
    }
  }
}
