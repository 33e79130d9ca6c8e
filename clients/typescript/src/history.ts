/** What a step has computed and begun so far, and whether the code still fits it. */
import type { Entry } from "./protocol.js";
import { Fail } from "./step-error.js";

/** An operation, for people. */
export function operation(kind: string, name: string): string {
  return name ? `${kind} ${JSON.stringify(name)}` : kind;
}

function mismatch(path: string, recorded: string, code: string): Fail {
  const message = `the code no longer matches its history: at ${path} the history has ${recorded}, but the code has ${code}`;
  return new Fail(message, { code: "history_mismatch" });
}

/** The history of one attempt. */
export class History {
  readonly #known: Map<string, Entry>;
  readonly #visited = new Set<string>();
  #saved = 0;

  constructor(
    entries: readonly Entry[],
    private readonly most: number,
  ) {
    this.#known = new Map(entries.map((entry) => [entry.path, entry]));
  }

  /** Takes note that the code is at a place; gives what is recorded there, if it is answered. Fails when that is something else. */
  visit(path: string, kind: string, name: string): Entry | undefined {
    this.#visited.add(path);
    const entry = this.#known.get(path);
    if (entry && (entry.kind !== kind || entry.name !== name)) {
      throw mismatch(path, operation(entry.kind, entry.name), operation(kind, name));
    }
    return entry?.answer ? entry : undefined;
  }

  /** The decision that let the step begin. */
  decision(): Entry | undefined {
    return ["approval", "budget", "policy"].map((path) => this.#known.get(path)).find((entry) => entry?.answer);
  }

  /** Whether anything is recorded at a place. */
  has(path: string): boolean {
    return this.#known.has(path);
  }

  /** Whether anything is recorded at a place or after it, in the same branch. */
  goesOnAt(prefix: string, next: number): boolean {
    return [...this.#known.keys()].some((path) => {
      const number = path.startsWith(prefix) ? (path.slice(prefix.length).split(".")[0] ?? "") : "";
      return /^\d+$/.test(number) && Number(number) >= next;
    });
  }

  /** Takes note of one more entry. */
  grow(): void {
    this.#saved += 1;
    if (this.#known.size + this.#saved > this.most) {
      const message = `the history has more than ${this.most} entries (setting max_history): let the function continue as new`;
      throw new Fail(message, { code: "history_too_long" });
    }
  }

  /** Fails when the history knows of places that the code, which has come to its end, has not been at. */
  checkEnd(): void {
    // Branches that lost a race are not followed again.
    const races = [...this.#known.values()].filter((entry) => entry.kind === "race").map((entry) => `${entry.path}.`);
    for (const [path, entry] of this.#known) {
      if (/^\d/.test(path) && !this.#visited.has(path) && !races.some((race) => path.startsWith(race))) {
        throw mismatch(path, operation(entry.kind, entry.name), "the end of the function");
      }
    }
  }
}
