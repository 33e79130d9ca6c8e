/** The body of the thread that {@link file://./beside.ts} starts. */
import { parentPort, workerData } from "node:worker_threads";
import type { Asked, Given, Said } from "./beside.js";
import { WorkerLost, translated } from "./errors.js";
import { LeaseClock, moment } from "./lease-clock.js";
import { Backoff, Link, pause } from "./link.js";
import * as protocol from "./protocol.js";
import type { Key } from "./protocol.js";

/** The worker is asked for so long which steps it owns. It does not answer while handlers block its thread; the leases are renewed all the same. */
const ASK_FOR = 200;

/** So long chores may be late before a worker takes them on. */
const LATE = 1000;

/** How long it does them before it looks whether somebody else does. */
const TURN = 60_000;

const given = workerData as Given;
let beatNow: () => void = () => undefined;
let wanted = false;
let answered: (keys: Key[]) => void = () => undefined;

function say(message: Said): void {
  parentPort?.postMessage(message);
}

parentPort?.on("message", (message: Asked) => {
  if (message.kind === "owned") return answered(message.keys);
  wanted = true;
  beatNow();
});

async function owned(): Promise<Key[]> {
  const keys = new Promise<Key[]>((resolve) => {
    answered = resolve;
  });
  say({ kind: "which" });
  return await Promise.race([keys, pause(ASK_FOR).then(() => [])]);
}

async function waitFor(milliseconds: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await new Promise<void>((resolve) => {
    beatNow = resolve;
    timer = setTimeout(resolve, milliseconds);
    if (wanted) resolve();
  });
  wanted = false;
  clearTimeout(timer);
}

async function beat(): Promise<void> {
  // An answer that does not come within a third of a lease leaves time for another try.
  const link = new Link(given.database, given.schema, Math.max(given.lease / 3, 100));
  const clock = new LeaseClock(given.lease, given.clock);
  // Over a slow network a connection takes longer than a beat. When there is none yet, the first beat says so.
  await link.run(protocol.now()).catch(() => undefined);
  say({ kind: "ready" });
  let wait = given.heartbeat;
  let overdue = false;
  for (;;) {
    await waitFor(wait);
    const keys = await owned();
    // Counted from before the call: the database may have renewed at any time during it.
    const sent = moment();
    try {
      const { draining, lost } = await link.run(protocol.renew(given.worker, keys));
      clock.renewed(sent);
      wait = given.heartbeat;
      overdue = false;
      if (draining) say({ kind: "draining" });
      if (lost.length > 0) say({ kind: "lost", lost });
    } catch (error) {
      const trouble = translated(error);
      if (trouble instanceof WorkerLost) return say({ kind: "given up", reason: trouble.message });
      say({ kind: "log", level: "warn", message: `heartbeat failed: ${trouble.message}` });
      wait = Math.min(Math.max(given.heartbeat / 10, 10), 1000);
      if (!clock.holds() && !overdue) {
        // By now others may have the steps.
        overdue = true;
        say({ kind: "overdue" });
      }
    }
  }
}

async function watchChores(): Promise<void> {
  const link = new Link(given.database, given.schema, 60_000);
  const backoff = new Backoff(1000, 60_000);
  let rest = 250;
  for (;;) {
    await pause(rest * (0.5 + Math.random()));
    try {
      const { lateMs, workers } = await link.run(protocol.neglectedChores());
      rest = Math.min(2000 * Math.max(1, workers / 4), 60_000);
      if (lateMs > LATE) {
        say({ kind: "log", level: "info", message: "nobody does the chores: this worker does them" });
        await doChores(link);
        rest = 250;
      }
      backoff.reset();
    } catch (error) {
      say({ kind: "log", level: "debug", message: `the chores cannot be done: ${translated(error).message}` });
      await backoff.wait();
    }
  }
}

async function doChores(link: Link): Promise<void> {
  const end = Date.now() + TURN;
  while (Date.now() < end) {
    const due = await link.run(protocol.runChore());
    await pause(Math.min(Math.max(due, 0), 200));
  }
}

void beat();
if (given.chores) void watchChores();
