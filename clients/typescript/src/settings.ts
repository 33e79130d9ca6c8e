/** How a worker works. */
import { hostname } from "node:os";
import { InvalidInput } from "./errors.js";
import { Link } from "./link.js";

/** Of a worker. Times are in milliseconds. */
export interface Settings {
  /** Connection string. */
  database: string;
  /** Queues that it serves, and how many steps of each it does at a time; `{ default: 10 }` when absent. */
  queues?: Record<string, number>;
  tenant?: string;
  schema?: string;
  /** A name for people; the host's when absent. */
  name?: string;
  /**
   * Where it listens for notifications: the database itself when absent. Behind a pooler in transaction mode, a URL that goes around it, or `""`:
   * then it polls.
   */
  listen?: string;
  /** How often it renews its leases; 30 s. */
  heartbeat?: number;
  /** How long they live after that; three heartbeats. */
  lease?: number;
  /** How often it looks without being told; 2 s. */
  poll?: number;
  /** How long steps may go on after it was told to stop; 30 s. */
  grace?: number;
  /** How long it waits for the answer of a call; 60 s. */
  callTimeout?: number;
  /** Whether it does the chores when nobody else does; it does. */
  chores?: boolean;
}

/** All settings, checked. */
export type Complete = Required<Settings>;

/** Fills in what is not said. */
export function complete(given: Settings): Complete {
  const heartbeat = given.heartbeat ?? 30_000;
  const settings: Complete = {
    queues: { default: 10 },
    tenant: "default",
    schema: "longhaul",
    name: hostname(),
    listen: given.database,
    heartbeat,
    lease: heartbeat * 3,
    poll: 2000,
    grace: 30_000,
    callTimeout: 60_000,
    chores: true,
    ...given,
  };
  const queues = Object.entries(settings.queues);
  if (queues.length === 0) throw new InvalidInput("a worker needs a queue");
  for (const [name, slots] of queues) {
    if (!Number.isInteger(slots) || slots < 1) throw new InvalidInput(`queue ${name} needs at least one slot, not ${slots}`);
  }
  if (!(heartbeat >= 10 && heartbeat * 2 <= settings.lease)) {
    throw new InvalidInput(`a heartbeat every ${heartbeat} ms does not fit a lease of ${settings.lease} ms: at least two belong into it`);
  }
  return settings;
}

/** A connection. */
export function link(settings: Complete): Link {
  return new Link(settings.database, settings.schema, settings.callTimeout);
}
