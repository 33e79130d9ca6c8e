/**
 * A call of a database function: its text, its values, and how its answer is read. The same calls go over a connection of our own, or over one
 * of the user's, within a transaction of theirs.
 */

/** Rows as arrays of values. */
export type Rows = readonly (readonly any[])[];

/** `{s}` in the text stands for the schema. */
export interface Call<T> {
  readonly sql: string;
  readonly values: readonly unknown[];
  readonly read: (rows: Rows) => T;
  /** Whether it may be sent again when its answer was lost. */
  readonly repeatable: boolean;
}

/** A call that may be repeated. */
export function call<T>(sql: string, values: readonly unknown[], read: (rows: Rows) => T, repeatable = true): Call<T> {
  return { sql, values, read, repeatable };
}

/** What makes a query with positional parameters: a client of `pg`, or whatever the recipes make of another library. */
export interface Queryable {
  query(query: { text: string; values: unknown[]; rowMode: "array" }): Promise<{ rows: any[][] }>;
}

/** Makes the call. Nothing is prepared: poolers may have forgotten it by the next transaction. */
export async function run<T>(connection: Queryable, made: Call<T>, schema: string): Promise<T> {
  const text = made.sql.replaceAll("{s}", `"${schema.replaceAll('"', '""')}"`);
  const { rows } = await connection.query({ text, values: [...made.values], rowMode: "array" });
  return made.read(rows);
}

/** Reads an answer of which nothing is wanted. */
export const nothing = (): void => undefined;

/** Reads the only value. */
export const value = (rows: Rows): any => rows[0]?.[0];
