/** One registration of a worker: when it claims, what it owns, how it ends. */
import { type Beside, type Said, beside } from "./beside.js";
import { Completer, type Parcel, type Save, Saver } from "./completer.js";
import { Attempt, type Services } from "./context.js";
import { execute } from "./attempt.js";
import { Unreachable, LonghaulError, Refused, WorkerLost, translated } from "./errors.js";
import type { Handler, Handlers } from "./handlers.js";
import { History } from "./history.js";
import type { LeaseClock } from "./lease-clock.js";
import { Backoff, type Link } from "./link.js";
import { Listener } from "./listener.js";
import { log } from "./log.js";
import * as protocol from "./protocol.js";
import { type Checkpoint, type Claimed, type Key, named } from "./protocol.js";
import { Progress } from "./progress.js";
import { Listening, Queue } from "./queues.js";
import { Sender } from "./sender.js";
import { type Complete, link } from "./settings.js";
import { Signal } from "./signal.js";
import { Retry, described } from "./step-error.js";

/** Polls of an idle worker before it takes longer, and how often the time doubles then. */
const PATIENT_POLLS = 3;
const MOST_DOUBLINGS = 3;

/** Handing back begins a fifth of the grace before its end, and at most this long. */
const HAND_BACK = 5000;

const STALE = "the worker was away for as long as its lease lives";

/** Why a session ended. */
export type End = "stopped" | "drained" | "lost";

/** What a registration has given. */
export interface Registered {
  readonly worker: string;
  readonly channel: string;
  readonly clock: LeaseClock;
  readonly maxPayload: number;
  readonly maxHistory: number;
}

interface Owned {
  readonly claimed: Claimed;
  readonly queue: Queue;
  attempt?: Attempt;
  ended: boolean;
}

/** From a registration to its end. */
export class Session implements Services {
  readonly worker: string;
  readonly schema: string;
  readonly maxPayload: number;
  readonly link: Link;
  readonly #claims: Link;
  readonly #stores: Link;
  readonly #queues: Map<string, Queue>;
  readonly #owned = new Map<string, Owned>();
  readonly #changed = new Signal();
  readonly #listening: Listening;
  readonly #progress: Progress;
  readonly #outcomes: Sender<Parcel>;
  readonly #saves: Sender<Save>;
  #number = 0;
  #recover = false;
  #idlePolls = 0;
  #closing: End | undefined;
  /** The thread that renews the leases has begun: before that nothing is claimed, because a handler could keep it from beginning. */
  #ready = false;
  #stoppedAt = 0;
  #broken: LonghaulError | undefined;
  #beside: Beside | undefined;

  constructor(
    private readonly settings: Complete,
    private readonly handlers: Handlers,
    private readonly registered: Registered,
  ) {
    this.worker = registered.worker;
    this.schema = settings.schema;
    this.maxPayload = registered.maxPayload;
    [this.link, this.#claims, this.#stores] = [link(settings), link(settings), link(settings)];
    this.#queues = new Map(Object.entries(settings.queues).map(([name, slots]) => [name, new Queue(name, slots)]));
    this.#listening = new Listening(this.#claims, this.worker);
    this.#progress = new Progress(this.link, this.worker);
    const broken = (error: LonghaulError): void => this.#breakDown(error);
    this.#outcomes = new Sender(new Completer(this.#stores, this.worker, (key) => this.#forget(key)), broken);
    this.#saves = new Sender(new Saver(this.#stores, this.worker), broken);
  }

  /** Works until it is told to stop and nothing is in flight, or until the worker is given up. */
  async run(stop: AbortSignal): Promise<End> {
    const { settings } = this;
    const stopped = (): void => this.#close("stopped");
    this.#beside = beside(
      { ...settings, worker: this.worker, clock: this.registered.clock.memory },
      (said) => this.#said(said),
      (error) => this.#breakDown(translated(error)),
    );
    const listener = settings.listen
      ? new Listener(settings.listen, this.registered.channel, { connected: (now) => this.#connected(now), message: (text) => this.#told(text) })
      : undefined;
    stop.addEventListener("abort", stopped, { once: true });
    if (stop.aborted) stopped();
    const claiming = this.#claimForever();
    try {
      await this.#untilDone();
      if (this.#broken && !(this.#broken instanceof WorkerLost)) throw this.#broken;
      return this.#closing ?? "lost";
    } finally {
      stop.removeEventListener("abort", stopped);
      this.#closing ??= "lost";
      this.#progress.stop();
      for (const owned of this.#owned.values()) this.#cancel(owned);
      this.#outcomes.end();
      this.#saves.end();
      this.#changed.set();
      if (!(this.#broken instanceof WorkerLost)) await this.#leave();
      listener?.stop();
      this.#beside.stop();
      for (const one of [this.link, this.#claims, this.#stores]) one.close();
      await claiming;
    }
  }

  /** Until it was told to stop, and what it had is stored or handed back. */
  async #untilDone(): Promise<void> {
    const handBackAfter = this.settings.grace - Math.min(this.settings.grace / 5, HAND_BACK);
    let handedBack = false;
    while (!this.#broken && (this.#closing === undefined || this.#owned.size > 0)) {
      if (this.#closing !== "stopped") {
        await this.#changed.next();
        continue;
      }
      const left = this.#stoppedAt + handBackAfter + (handedBack ? HAND_BACK : 0) - Date.now();
      if (left > 0) {
        await this.#changed.next(left);
      } else if (handedBack) {
        log.warn("stopping although the database did not take back all steps");
        return;
      } else {
        handedBack = true;
        this.#handBack("the worker shut down before the step was done");
      }
    }
  }

  #close(end: End): void {
    if (this.#closing === undefined || end === "stopped") {
      log.info(`worker ${this.worker} claims no more: ${end}`);
      this.#closing = end;
      if (end === "stopped") {
        this.#stoppedAt = Date.now();
        // For operators to see, and against being woken; nothing depends on it.
        this.link.run(protocol.drain(this.worker)).catch(() => undefined);
      }
      this.#releaseWaiting("the worker was shutting down");
    }
    this.#changed.set();
  }

  #breakDown(error: LonghaulError): void {
    this.#broken ??= error;
    this.#changed.set();
  }

  async #leave(): Promise<void> {
    const left = (async () => {
      await this.#progress.flush();
      await this.link.run(protocol.deregister(this.worker));
    })();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer came")), HAND_BACK);
    });
    await Promise.race([left, late]).catch((error: Error) => log.warn(`left without notice; the leases will expire: ${error.message}`));
    clearTimeout(timer);
  }

  // What the thread beside this one and the listener say ---------------------------------------------------------------

  #said(said: Said): void {
    if (said.kind === "ready") {
      this.#ready = true;
      this.#changed.set();
    } else if (said.kind === "which") this.#beside?.ask({ kind: "owned", keys: this.#keys() });
    else if (said.kind === "draining") this.#close("drained");
    else if (said.kind === "overdue") this.#handBack("the worker could not reach the database for longer than its lease");
    else if (said.kind === "given up") this.#giveUp(said.reason);
    else if (said.kind === "lost") {
      for (const { key, reason } of said.lost) {
        const owned = this.#owned.get(named(key));
        // One whose handler has ended is on its way through the completer, which will say what became of it.
        if (!owned || owned.ended || reason.startsWith("already_")) continue;
        log.info(`step ${named(key)} is stopped: ${reason}`);
        this.#cancel(owned);
        this.#forget(key);
      }
    }
  }

  #giveUp(reason: string): void {
    log.warn(`worker ${this.worker} was given up; it starts anew: ${reason}`);
    this.#breakDown(new WorkerLost(reason));
  }

  #connected(now: boolean): void {
    this.#listening.connected = now;
    for (const queue of this.#queues.values()) {
      queue.listening = false;
      queue.look ||= now;
    }
    if (now) {
      this.#beside?.ask({ kind: "beat" });
      this.#changed.set();
    }
  }

  #told(message: string): void {
    if (message === "heartbeat") {
      this.#beside?.ask({ kind: "beat" });
      return;
    }
    for (const queue of this.#queues.values()) queue.look = true;
    this.#changed.set();
  }

  #handBack(reason: string): void {
    this.#releaseWaiting(reason);
    for (const owned of this.#owned.values()) {
      if (owned.ended) continue;
      this.#cancel(owned);
      this.#release(owned, reason);
    }
  }

  // Claiming -------------------------------------------------------------------------------------------------------

  async #claimForever(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#ready && this.#closing === undefined && !this.#broken) await this.#changed.next();
    while (this.#closing === undefined && !this.#broken) {
      const wanted = [...this.#queues.values()].filter((queue) => queue.look && queue.free > 0);
      if (wanted.length === 0 && !this.#recover) {
        await this.#untilDue();
        continue;
      }
      try {
        await this.#claim(wanted);
        backoff.reset();
      } catch (error) {
        const trouble = translated(error);
        if (trouble instanceof WorkerLost) return this.#giveUp(trouble.message);
        log[trouble instanceof Unreachable || trouble instanceof Refused ? "debug" : "error"](`claim failed: ${trouble.message}`);
        // Overdue, or drained: the next heartbeat tells, and comes now.
        if (trouble instanceof Refused) this.#beside?.ask({ kind: "beat" });
        // It may have been made all the same: the database is asked what it took.
        this.#recover = true;
        await backoff.wait();
      }
    }
  }

  async #untilDue(): Promise<void> {
    const doublings = Math.min(Math.max(this.#idlePolls - PATIENT_POLLS, 0), MOST_DOUBLINGS);
    const wait = this.#listening.unfinished?.wait ?? this.settings.poll * 2 ** doublings;
    const due = Date.now() + Math.min(wait, this.settings.poll * 2 ** MOST_DOUBLINGS);
    while (this.#closing === undefined && !this.#broken) {
      if ([...this.#queues.values()].some((queue) => queue.look && queue.free > 0)) return;
      const left = due - Date.now();
      if (left <= 0) {
        for (const queue of this.#queues.values()) queue.look = true;
        // With no slot free there is nothing to ask for: whoever frees one says so.
        if ([...this.#queues.values()].some((queue) => queue.free > 0)) return;
        await this.#changed.next();
      } else {
        await this.#changed.next(left);
      }
    }
  }

  async #claim(wanted: Queue[]): Promise<void> {
    this.#number += 1;
    if (this.#recover) {
      const found = await this.#claims.run(protocol.claim(this.worker, [], this.#number, this.#keys()));
      this.#recover = false;
      for (const queue of this.#queues.values()) queue.look = true;
      return this.#takeIn(found);
    }
    const asked = wanted.map((queue): [Queue, number] => [queue, queue.free]);
    await this.#listening.prepare(wanted);
    for (const queue of wanted) queue.look = false;
    const limits = asked.map(([queue, most]): [string, number] => [queue.name, most]);
    const claimed = await this.#claims.run(protocol.claim(this.worker, limits, this.#number));
    for (const [queue, most] of asked) {
      queue.claimed(most, claimed.filter((one) => one.queue === queue.name).length);
      // One that ran dry is listened to, and looked at once more after that.
      queue.look ||= !queue.exhausted || (this.#listening.connected && !queue.listening);
    }
    const idle = claimed.length === 0 && !this.#listening.unfinished && [...this.#queues.values()].every((queue) => queue.listening);
    this.#idlePolls = idle ? this.#idlePolls + 1 : 0;
    this.#takeIn(claimed);
  }

  // Steps in flight ------------------------------------------------------------------------------------------------

  #keys(): Key[] {
    return [...this.#owned.values()].map((owned) => owned.claimed.key);
  }

  #takeIn(claimed: Claimed[]): void {
    for (const step of claimed) {
      const queue = this.#queues.get(step.queue);
      const owned: Owned = { claimed: step, queue: queue ?? new Queue(step.queue, 0), ended: false };
      this.#owned.set(named(step.key), owned);
      if (!queue || !this.handlers.get(step.handler)) {
        log.error(`step ${named(step.key)}: this worker does not know handler ${step.handler}`);
        this.#release(owned, "the worker does not know the step's handler");
      } else if (this.#closing !== undefined) {
        this.#release(owned, "the worker was shutting down");
      } else if (!this.registered.clock.holds()) {
        // An answer that lay about while the process was frozen.
        this.#release(owned, STALE);
      } else {
        queue.waiting.push(step);
      }
    }
    this.#fillSlots();
  }

  #fillSlots(): void {
    if (!this.registered.clock.holds()) this.#releaseWaiting(STALE);
    for (const queue of this.#queues.values()) {
      while (queue.running < queue.slots) {
        const step = queue.waiting.shift();
        if (!step) break;
        const owned = this.#owned.get(named(step.key));
        const handler = this.handlers.get(step.handler);
        if (owned && handler && !owned.ended) {
          queue.running += 1;
          void this.#attempt(owned, handler);
        }
      }
    }
  }

  #releaseWaiting(reason: string): void {
    for (const queue of this.#queues.values()) {
      for (const step of queue.waiting.splice(0)) {
        const owned = this.#owned.get(named(step.key));
        if (owned && !owned.ended) this.#release(owned, reason);
      }
    }
  }

  #release(owned: Owned, reason: string): void {
    owned.ended = true;
    const { key } = owned.claimed;
    this.#outcomes.put({ outcome: { kind: "ended", key, outcome: "released", error: described(new Retry(reason)), retryable: true, delayMs: 0 } });
  }

  #cancel(owned: Owned): void {
    owned.attempt?.controller.abort();
  }

  async #attempt(owned: Owned, handler: Handler): Promise<void> {
    const { key, history } = owned.claimed;
    try {
      const entries = history ?? (await this.link.persistently(protocol.history(key)));
      if (owned.ended || !this.#owned.has(named(key))) return;
      if (!this.registered.clock.holds()) return this.#release(owned, STALE);
      owned.attempt = new Attempt(owned.claimed, this, new History(entries, this.registered.maxHistory));
      const outcome = await execute(owned.attempt, handler);
      if (outcome && !owned.ended && this.#owned.has(named(key))) {
        owned.ended = true;
        this.#outcomes.put({ outcome });
      }
    } catch (error) {
      log.error(`step ${named(key)}: ${translated(error).message}`);
      if (!owned.ended) this.#release(owned, "the worker could not begin the step");
    } finally {
      owned.queue.running -= 1;
      this.#fillSlots();
      this.#changed.set();
    }
  }

  #forget(key: Key): void {
    this.#owned.delete(named(key));
    this.#changed.set();
  }

  // What contexts ask for --------------------------------------------------------------------------------------------

  /** Saves a checkpoint; the lease must still be this worker's. */
  save(checkpoint: Checkpoint): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#saves.put({ checkpoint, saved: (error) => (error ? reject(error) : resolve()) });
    });
  }

  /** Takes note of progress; the last value is stored. */
  report(key: Key, name: string, value: string): void {
    this.#progress.put({ key, name, value });
  }
}
