// What a client can ask for.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Client, Conflict, FOREVER, InvalidInput, NotFound, Refused, RunFailed, TimedOut, Unreachable, newRunId } from "longhaul";
import { shop, skip } from "./shop.mjs";

const idle = async () => null;

test("a run is started, waited for and read", { skip }, () =>
  shop(
    async (_, input) => input * 2,
    async ({ client, flow, open }) => {
      open();
      const id = await client.start(flow, 21, { name: "a run", metadata: { of: "tests" }, deadline: 300_000 });
      assert.equal(await client.wait(id, { timeout: 20_000 }), 42);
      const run = await client.get(id);
      assert.deepEqual([run.flow, run.version, run.name, run.state, run.input, run.metadata], [flow, 1, "a run", "completed", 21, { of: "tests" }]);
      const [step] = await client.steps(id);
      assert.deepEqual([step.name, step.state, step.output, step.handler], ["one", "completed", 42, "test.one"]);
      assert.match(await client.why(id, "one"), /completed/);
    },
  ),
);

test("a start under an id or a key is made once", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const id = newRunId();
    assert.equal(await client.start(flow, 1, { id }), id);
    assert.equal(await client.start(flow, 1, { id }), id);
    await assert.rejects(client.start(flow, 2, { id }), Conflict);
    const first = await client.start(flow, 3, { key: "order-3", window: FOREVER });
    assert.equal(await client.start(flow, 3, { key: "order-3", window: FOREVER }), first);
  }),
);

test("many runs are started by one call", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const started = await client.startMany(flow, [{ input: 1 }, { input: 2, priority: 5000 }, { input: 3, delay: 3_600_000, metadata: { a: 1 } }]);
    assert.equal((await client.get(started[0].runId)).state, "running");
    assert.equal(started[1].runId, undefined);
    assert.match(started[1].refusal, /priority/);
    assert.equal((await client.get(started[2].runId)).state, "pending");
  }),
);

test("a run is steered", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const id = await client.start(flow, null, { createOnly: true });
    assert.equal((await client.get(id)).state, "pending");
    await client.startPending(id);
    await client.pause(id);
    assert.equal((await client.get(id)).state, "paused");
    await client.resume(id);
    await client.stop(id, { by: "a test" });
    await assert.rejects(client.pause(id), Refused);
    await assert.rejects(client.wait(id), RunFailed);
    await client.retry(id);
    await assert.rejects(client.wait(id, { timeout: 100 }), TimedOut);
    await client.stop(id);
  }),
);

test("a question is answered, signals and outside work arrive", { skip }, () =>
  shop(
    async (context, input) => [
      context.decision().choice,
      await context.topicSignal("paid", input),
      await context.topicSignal("label", input, { within: 60_000 }),
      await context.signal("all"),
    ],
    async ({ client, flow, open }) => {
      open();
      const id = await client.start(flow, flow);
      const [question] = await client.questions(id);
      assert.deepEqual([question.step, question.question, question.choices], ["one", "May it?", ["yes", "reject"]]);
      await assert.rejects(client.decide(id, "one", "perhaps"), InvalidInput);
      assert.equal(await client.decide(id, "one", "yes", { by: "anna" }), true);
      await client.sendSignal("paid", flow, 1);
      await client.completeExternal("label", flow, 2);
      await client.completeExternal("label", flow, 3);
      await client.signal(id, "all", 4, { key: "k" });
      await client.signal(id, "all", 4, { key: "k" });
      assert.deepEqual(await client.wait(id, { timeout: 20_000 }), ["yes", 1, 2, 4]);
    },
    { approval: { question: "May it?", choices: ["yes", "reject"] } },
  ),
);

test("what is wrong is told", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    await assert.rejects(client.start("no-such-flow"), NotFound);
    await assert.rejects(client.get(randomUUID()), NotFound);
    const circle = {};
    circle.self = circle;
    for (const bad of [NaN, "a\0b", circle, "\ud800", 10n]) {
      await assert.rejects(async () => client.start(flow, bad), InvalidInput);
    }
    await assert.rejects(client.start(flow, "x".repeat(3_000_000)), InvalidInput);
    assert.equal((await client.get(await client.start(flow, "a\\u0000 is a text"))).input, "a\\u0000 is a text");
    const away = new Client("postgresql://127.0.0.1:1/nowhere");
    await assert.rejects(away.stop(randomUUID()), Unreachable);
  }),
);
