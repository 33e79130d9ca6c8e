/** JSON on its way into the database. */
import { InvalidInput } from "./errors.js";

/** A value that JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The JSON text of a value that PostgreSQL can store; an {@link InvalidInput} that says why when there is none. `undefined` is null. */
export function encoded(value: unknown, most?: number, what = "the value"): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value, refusing) ?? "null";
  } catch (error) {
    throw new InvalidInput(`${what} cannot be stored as JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (text.includes("\\u0000") && text.replaceAll("\\\\", "").includes("\\u0000")) {
    throw new InvalidInput(`${what} cannot be stored: PostgreSQL holds no \\u0000`);
  }
  if (/\\ud[89a-f]/.test(text) && /\\ud[89a-f]/.test(text.replaceAll("\\\\", ""))) {
    throw new InvalidInput(`${what} cannot be stored: it holds half of a surrogate pair`);
  }
  if (most !== undefined) {
    const size = Buffer.byteLength(text);
    if (size > most) throw new InvalidInput(`${what} has ${size} bytes, more than the limit of ${most} (setting max_payload_bytes)`);
  }
  return text;
}

/** JSON would make null of these, and nobody would know. */
function refusing(_: string, value: unknown): unknown {
  if (typeof value === "number" && !Number.isFinite(value)) throw new TypeError(`${value} is no number of JSON`);
  return value;
}
