/** UUIDs that follow from a namespace and a name (version 5, RFC 9562). */
import { createHash } from "node:crypto";
import { dashed } from "./ids.js";

function digest(namespace: string, name: string): Buffer {
  const hash = createHash("sha1").update(Buffer.from(namespace.replaceAll("-", ""), "hex")).update(name).digest().subarray(0, 16);
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  return hash;
}

/** The UUID of a name. */
export function uuid5(namespace: string, name: string): string {
  return dashed(digest(namespace, name).toString("hex"));
}

/** A number from 0 up to 1, of the last 53 bits of that UUID. */
export function fraction5(namespace: string, name: string): number {
  const bits = digest(namespace, name).readBigUInt64BE(8) & ((1n << 53n) - 1n);
  return Number(bits) / 2 ** 53;
}
