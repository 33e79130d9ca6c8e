/** The handlers that a worker knows: a registry that is passed in, and never global. */
import type { Context } from "./context.js";
import { InvalidInput } from "./errors.js";

/** A function that does steps: its context, its input, and a promise of its output. */
export type Handler = (context: Context, input: any) => unknown;

const NAME = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,9}$/;

/** Handlers by name. */
export class Handlers {
  readonly #handlers = new Map<string, Handler>();

  /** Registers a function. */
  add(name: string, handler: Handler): this {
    if (!NAME.test(name) || name.length > 200) {
      throw new InvalidInput(`${JSON.stringify(name)} is no handler name: up to ten parts of letters, digits, _ and -, joined by dots`);
    }
    if (this.#handlers.has(name)) throw new InvalidInput(`handler ${name} is registered twice`);
    this.#handlers.set(name, handler);
    return this;
  }

  /** Those of an allow-list. */
  only(names: Iterable<string>): Handlers {
    const chosen = new Handlers();
    for (const name of names) {
      const handler = this.#handlers.get(name);
      if (!handler) throw new InvalidInput(`there is no handler ${name}`);
      chosen.#handlers.set(name, handler);
    }
    return chosen;
  }

  /** The handler with a name. */
  get(name: string): Handler | undefined {
    return this.#handlers.get(name);
  }

  /** All names. */
  names(): string[] {
    return [...this.#handlers.keys()].sort();
  }
}
