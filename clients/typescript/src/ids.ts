/** Ids of runs: UUIDv7, which carry the time. */
import { randomBytes } from "node:crypto";

let last = 0n;

/** A new id, larger than those that this process made before. */
export function newRunId(): string {
  // 48 bits of milliseconds and 12 bits that count on within one.
  const now = BigInt(Date.now()) << 12n;
  last = now > last ? now : last + 1n;
  const random = randomBytes(8).readBigUInt64BE() & ((1n << 62n) - 1n);
  const whole = ((last >> 12n) << 80n) | (7n << 76n) | ((last & 0xfffn) << 64n) | (2n << 62n) | random;
  return dashed(whole.toString(16).padStart(32, "0"));
}

/** A UUID of 32 hexadecimal digits, with its dashes. */
export function dashed(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
