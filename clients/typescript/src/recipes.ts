/** Transactions of other libraries, as a connection for {@link Client.on} and {@link Context.completeIn}. Only what these libraries document is used. */
import type { Queryable } from "./call.js";
import { InvalidInput } from "./errors.js";

type Rows = { rows: any[] };

/** The parts of a statement between its parameters, and the numbers of those. */
function parts(text: string): { between: string[]; numbers: number[] } {
  const numbers = [...text.matchAll(/\$(\d+)/g)].map((match) => Number(match[1]) - 1);
  return { between: text.split(/\$\d+/), numbers };
}

/** Rows as arrays: the calls of a client never name two columns alike. */
function arrays({ rows }: Rows): { rows: any[][] } {
  return { rows: rows.map((row) => (Array.isArray(row) ? row : Object.values(row))) };
}

/** A transaction of Knex: `client.on(fromKnex(trx))`. */
export function fromKnex(trx: { raw(sql: string, bindings: any): PromiseLike<Rows> }): Queryable {
  return {
    async query({ text, values }) {
      const { between, numbers } = parts(text);
      return arrays(await trx.raw(between.join("?"), numbers.map((number) => values[number] ?? null)));
    },
  };
}

/** What is needed of Drizzle's `sql`. */
export interface DrizzleSql {
  raw(text: string): any;
  join(chunks: any[]): any;
  param?(value: unknown): any;
}

/** A transaction of Drizzle on `node-postgres`: `client.on(fromDrizzle(tx, sql))`. */
export function fromDrizzle(tx: { execute(query: any): PromiseLike<any> }, sql: DrizzleSql): Queryable {
  return {
    async query({ text, values }) {
      if (!sql.param) throw new InvalidInput("this version of Drizzle has no sql.param");
      const { between, numbers } = parts(text);
      const chunks = between.flatMap((part, place) => {
        const number = numbers[place];
        // param() keeps a list together.
        return number === undefined ? [sql.raw(part)] : [sql.raw(part), sql.param?.(values[number] ?? null)];
      });
      return arrays(await tx.execute(sql.join(chunks)));
    },
  };
}
