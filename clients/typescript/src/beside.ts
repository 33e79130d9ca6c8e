/**
 * The thread beside the worker's: it renews the leases, all by one update, and does the chores when nobody else does. A handler that blocks the
 * worker's own thread costs nobody a lease.
 */
import { Worker as Thread } from "node:worker_threads";
import { log } from "./log.js";
import type { Key, Refusal } from "./protocol.js";

/** What the thread is given. */
export interface Given {
  readonly database: string;
  readonly schema: string;
  readonly worker: string;
  readonly heartbeat: number;
  readonly lease: number;
  readonly clock: SharedArrayBuffer;
  readonly chores: boolean;
}

/** What it says. */
export type Said =
  | { kind: "ready" }
  | { kind: "which" }
  | { kind: "lost"; lost: Refusal[] }
  | { kind: "draining" }
  | { kind: "overdue" }
  | { kind: "given up"; reason: string }
  | { kind: "log"; level: "debug" | "info" | "warn"; message: string };

/** What it is told. */
export type Asked = { kind: "beat" } | { kind: "owned"; keys: Key[] };

/** Starts the thread. */
export function beside(given: Given, said: (message: Said) => void, broken: (error: Error) => void): Beside {
  const thread = new Thread(new URL("./thread.js", import.meta.url), { workerData: given });
  thread.on("message", (message: Said) => (message.kind === "log" ? log[message.level](message.message) : said(message)));
  thread.on("error", broken);
  return {
    ask: (message) => thread.postMessage(message),
    stop: () => void thread.terminate(),
  };
}

/** The thread, from the worker's side. */
export interface Beside {
  ask(message: Asked): void;
  stop(): void;
}
