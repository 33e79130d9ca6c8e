// Parts that need no database.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Fail, Handlers, InvalidInput, Retry, Worker, newRunId } from "longhaul";
import { History } from "../dist/history.js";
import { LeaseClock, moment } from "../dist/lease-clock.js";
import { encoded } from "../dist/payload.js";
import { described, milliseconds } from "../dist/step-error.js";
import { Sender } from "../dist/sender.js";
import { DatabaseError, Unreachable } from "../dist/errors.js";
import { fraction5, uuid5 } from "../dist/uuid5.js";
import { skip } from "./shop.mjs";

const here = new URL("..", import.meta.url);

test("ids grow and carry the time", () => {
  const ids = Array.from({ length: 1000 }, newRunId);
  assert.deepEqual(ids, [...new Set(ids)].sort());
  assert.match(ids[0], /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(Math.abs(parseInt(ids[0].replace("-", "").slice(0, 12), 16) - Date.now()) < 5000);
});

test("derived UUIDs are those of the standard", () => {
  assert.equal(uuid5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
  const fraction = fraction5("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "www.example.com");
  assert.equal(fraction, Number(0x95e12665a8aea6a2n & ((1n << 53n) - 1n)) / 2 ** 53);
});

test("JSON that cannot be stored is refused", () => {
  assert.equal(encoded(undefined), "null");
  assert.equal(encoded("\\u0000 \\ud800"), '"\\\\u0000 \\\\ud800"');
  assert.equal(encoded("🦀"), '"🦀"');
  for (const bad of ["\0", "\ud800", Infinity, 1n]) assert.throws(() => encoded(bad), InvalidInput);
  assert.throws(() => encoded("four", 3), /limit of 3/);
});

test("leases are counted from when the renewal was sent", () => {
  const ago = (ms) => ({ monotonic: moment().monotonic - ms, wall: Date.now() - ms });
  const clock = new LeaseClock(60_000);
  clock.renewed(ago(61_000));
  assert.equal(clock.holds(), false);
  clock.renewed(ago(1000));
  assert.equal(clock.holds(), true);
  assert.equal(new LeaseClock(60_000, clock.memory).holds(), true, "it is shared");
});

const history = (...entries) => new History(entries.map(([path, kind, name]) => ({ path, kind, name, answer: "ok", value: null })), 10);

test("a mismatch names both sides", () => {
  const known = history(["0", "step", "charge"]);
  assert.throws(
    () => known.visit("0", "sleep", "pause"),
    (error) => error instanceof Fail && error.code === "history_mismatch" && /step "charge", but the code has sleep "pause"/.test(error.message),
  );
  assert.ok(known.visit("0", "step", "charge"));
  assert.equal(known.visit("1", "step", "new"), undefined);
});

test("branches that lost a race are not missed", () => {
  const known = history(["0", "race", ""], ["0.1.0", "step", "lost"], ["approval", "decision", ""]);
  known.visit("0", "race", "");
  known.checkEnd();
  assert.deepEqual([known.goesOnAt("0.1.", 0), known.goesOnAt("0.1.", 1), known.goesOnAt("", 1)], [true, false, false]);
});

test("errors become storable", () => {
  const kept = JSON.parse(described(new Retry(`a\0b${"x".repeat(20_000)}`, { code: "c", cause: new Error("inner") })));
  assert.ok(kept.message.startsWith("a\ufffdb") && kept.message.length === 10_000);
  assert.deepEqual([kept.code, kept.causes], ["c", ["inner"]]);
  assert.equal(milliseconds(1e30), 864_000_000_000);
});

test("names of handlers and settings are checked", () => {
  const handlers = new Handlers().add("a.b-c_d", () => null);
  for (const bad of ["", "a..b", "/a", "a:b", "a.b.c.d.e.f.g.h.i.j.k", "ä", "a.b-c_d"]) assert.throws(() => handlers.add(bad, () => null), InvalidInput);
  assert.deepEqual(handlers.only(["a.b-c_d"]).names(), ["a.b-c_d"]);
  for (const bad of [{ queues: {} }, { queues: { a: 0 } }, { heartbeat: 30_000, lease: 40_000 }]) {
    assert.throws(() => new Worker(handlers, { database: "x", ...bad }), InvalidInput);
  }
});

test("a sender stores everything, and the bad item alone", async () => {
  const stored = [];
  const batches = [];
  let away = 2;
  const busy = new Set([3]);
  const destination = {
    calls: (batch) => [batch],
    async store(items) {
      if (away-- > 0) throw new Unreachable("away");
      if (items.includes(7)) throw new DatabaseError("bad", "22P05");
      const held = items.filter((item) => busy.delete(item));
      stored.push(...items.filter((item) => !held.includes(item)));
      batches.push(items.length);
      return held;
    },
    refused: async (item) => item * 100,
    reachable: async () => true,
  };
  const sender = new Sender(destination, (error) => assert.fail(error));
  for (let item = 0; item < 100; item += 1) sender.put(item);
  while (stored.length < 100) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(stored.sort((a, b) => a - b), [...Array(7).keys(), ...Array.from({ length: 92 }, (_, n) => n + 8), 700]);
  assert.ok(Math.max(...batches) > 20, "batches form");
});

test("the example runs, and is the one of the README", { skip }, () => {
  const file = new URL("examples/hello.mjs", here);
  const output = execFileSync(process.execPath, [file.pathname], { encoding: "utf8", timeout: 60_000 });
  assert.equal(output, "order 7 is paid with 1999 cents and packed\n");
  const code = readFileSync(file, "utf8").split("\n").slice(1).join("\n").trim();
  assert.ok(readFileSync(new URL("README.md", here), "utf8").includes(code));
});
