/** Stores outcomes and checkpoints: what the senders send to. */
import { type LonghaulError, Refused, Unreachable, translated } from "./errors.js";
import { Backoff, type Link } from "./link.js";
import { log } from "./log.js";
import * as protocol from "./protocol.js";
import { type Checkpoint, type Key, type Outcome, type Refusal, named } from "./protocol.js";
import type { Destination } from "./sender.js";
import { Fail, Retry, described, ended } from "./step-error.js";

/** Most characters in one call; a larger item goes alone. */
const MOST_CHARACTERS = 8 * 1024 * 1024;

function inCalls<T>(items: readonly T[], size: (item: T) => number): T[][] {
  const calls: T[][] = [];
  let room = 0;
  for (const item of items) {
    const characters = size(item);
    if (calls.length === 0 || room < characters) {
      calls.push([]);
      room = MOST_CHARACTERS;
    }
    room -= characters;
    calls.at(-1)?.push(item);
  }
  return calls;
}

function byKey(refusals: readonly Refusal[]): Map<string, Refusal> {
  return new Map(refusals.map((refusal) => [named(refusal.key), refusal]));
}

/** An outcome on its way. */
export interface Parcel {
  readonly outcome: Outcome;
  /** It stands for one that could not be stored. */
  readonly substitute?: boolean;
}

async function reachable(link: Link): Promise<boolean> {
  return await link.run(protocol.now()).then(
    () => true,
    () => false,
  );
}

/** Where outcomes go. */
export class Completer implements Destination<Parcel> {
  constructor(
    private readonly link: Link,
    private readonly worker: string,
    private readonly settled: (key: Key) => void,
  ) {}

  /** Completions, suspensions and ends go by different functions. */
  calls(batch: Parcel[]): Parcel[][] {
    return (["ended", "suspended", "completed"] as const).flatMap((kind) =>
      inCalls(
        batch.filter((parcel) => parcel.outcome.kind === kind),
        (parcel) => size(parcel.outcome),
      ),
    );
  }

  async store(items: Parcel[]): Promise<Parcel[]> {
    const refused = byKey(await this.link.run(this.#call(items.map((item) => item.outcome))));
    const busy: Parcel[] = [];
    for (const item of items) {
      const refusal = refused.get(named(item.outcome.key));
      if (refusal?.reason === "busy") {
        busy.push(item);
        continue;
      }
      if (refusal && !refusal.reason.startsWith("already_")) {
        log.warn(`step ${named(item.outcome.key)}: the outcome was refused: ${refusal.reason}`);
      }
      this.settled(item.outcome.key);
    }
    return busy;
  }

  /** The call for outcomes of one kind. */
  #call(outcomes: Outcome[]) {
    const completed = outcomes.filter((one) => one.kind === "completed");
    if (completed.length > 0) {
      return protocol.complete(
        this.worker,
        completed.map((one) => one.key),
        completed.map((one) => one.output),
      );
    }
    const suspended = outcomes.filter((one) => one.kind === "suspended");
    if (suspended.length > 0) {
      return protocol.suspend(
        this.worker,
        suspended.map((one) => one.key),
        suspended.map((one) => one.waits),
      );
    }
    return protocol.endAttempts(
      this.worker,
      outcomes.filter((one) => one.kind === "ended"),
    );
  }

  /** An outcome that cannot be stored is a failed attempt. When not even that can be stored, the lease is given up. */
  async refused(item: Parcel, error: LonghaulError): Promise<Parcel | undefined> {
    const { outcome } = item;
    const { key } = outcome;
    if (item.substitute) {
      log.error(`step ${named(key)}: the attempt can be ended in no way; its lease is given up`);
      await this.#letGo(key);
      this.settled(key);
      return undefined;
    }
    log.warn(`step ${named(key)}: the outcome cannot be stored; the attempt has failed`);
    if (outcome.kind === "ended") {
      const again = described(new Retry(`the end of the attempt cannot be stored: ${error.message}`));
      return { outcome: { ...outcome, outcome: "failed", error: again, delayMs: null }, substitute: true };
    }
    const what = outcome.kind === "completed" ? "the output cannot be stored" : "the step cannot wait for that";
    return { outcome: ended(key, new Fail(`${what}: ${error.message}`)), substitute: true };
  }

  async #letGo(key: Key): Promise<void> {
    const backoff = new Backoff();
    for (;;) {
      try {
        return await this.link.run(protocol.letGo(this.worker, key));
      } catch (error) {
        if (!(error instanceof Unreachable)) return log.error(`the lease lives for as long as this worker: ${translated(error).message}`);
        await backoff.wait();
      }
    }
  }

  reachable(): Promise<boolean> {
    return reachable(this.link);
  }
}

function size(outcome: Outcome): number {
  return outcome.kind === "completed" ? outcome.output.length : outcome.kind === "suspended" ? outcome.waits.length : (outcome.error?.length ?? 0);
}

/** A checkpoint on its way, and who waits for it. */
export interface Save {
  readonly checkpoint: Checkpoint;
  readonly saved: (error?: Error) => void;
}

/** Where checkpoints go. */
export class Saver implements Destination<Save> {
  constructor(
    private readonly link: Link,
    private readonly worker: string,
  ) {}

  calls(batch: Save[]): Save[][] {
    return inCalls(batch, (save) => save.checkpoint.value.length);
  }

  async store(items: Save[]): Promise<Save[]> {
    const refusals = await this.link.run(
      protocol.saveCheckpoints(
        this.worker,
        items.map((item) => item.checkpoint),
      ),
    );
    const refused = byKey(refusals);
    return items.filter((item) => {
      const refusal = refused.get(named(item.checkpoint.key));
      if (refusal?.reason === "busy") return true;
      item.saved(refusal && new Refused(refusal.reason));
      return false;
    });
  }

  /** A checkpoint that cannot be stored fails its own function only. */
  async refused(item: Save, error: LonghaulError): Promise<undefined> {
    item.saved(error);
    return undefined;
  }

  reachable(): Promise<boolean> {
    return reachable(this.link);
  }
}
