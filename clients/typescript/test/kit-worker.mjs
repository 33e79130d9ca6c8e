// The worker that the conformance kit (ops/protocol) grades: its handlers are told in clients/conformance/README.md.
import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { ContinueAsNew, Defer, Dispatched, Fail, Handlers, Retry, Snooze, TIMED_OUT, Worker, setLogger } from "longhaul";

const { env } = process;
const handlers = new Handlers();

/** Writes a line for the kit. */
function note(context, event, more = {}) {
  const line = { event, run: context.runId, token: context.fencingToken, pid: process.pid, ...more };
  appendFileSync(env.LONGHAUL_KIT_LOG, `${JSON.stringify(line)}\n`);
}

const answered = (payload) => (payload === TIMED_OUT ? { timed_out: true } : { payload });
const decided = (decision) => decision && { choice: decision.choice, by: decision.by ?? null, data: decision.data ?? null };
const within = (input) => (input.within_ms === undefined ? {} : { within: input.within_ms });
const isFirst = (context) => context.attempt === 1;

handlers.add("kit.echo", async (context, input) => {
  note(context, "echo");
  return input;
});
handlers.add("kit.info", (context, input) => ({
  run_id: context.runId,
  flow: context.flow,
  flow_version: context.flowVersion,
  step: context.step,
  attempt: context.attempt,
  max_attempts: context.maxAttempts,
  fencing_token: context.fencingToken,
  idempotency_key: context.idempotencyKey,
  parameters: context.parameters,
  input,
}));
handlers.add("kit.fail", async (context, { times, message = "failed", code }) => {
  if (context.attempt <= times) throw new Retry(message, { code });
  return { attempt: context.attempt };
});
handlers.add("kit.refuse", async (_, { message, code }) => {
  throw new Fail(message, { code });
});
handlers.add("kit.retry_after", async (context, { ms }) => {
  if (isFirst(context)) throw new Retry("later", { after: ms });
  return { attempt: context.attempt };
});
const again = (context) => ({ attempt: context.attempt, token: context.fencingToken });
handlers.add("kit.snooze", async (context, { ms }) => {
  if (context.fencingToken === 1) throw new Snooze(ms);
  return again(context);
});
handlers.add("kit.defer", async (context, { ms }) => {
  if (context.fencingToken === 1) throw new Defer("the provider is busy", ms === undefined ? {} : { after: ms });
  return again(context);
});
handlers.add("kit.crash", async (context, { times }) => {
  if (context.attempt <= times) return undefined.nothing;
  return { attempt: context.attempt };
});
handlers.add("kit.hang", async (context, { ms }) => {
  note(context, "begin");
  try {
    await sleep(ms, undefined, { signal: context.signalled });
  } catch (error) {
    note(context, "cancelled");
    throw error;
  }
  note(context, "end");
  return "hung";
});
handlers.add("kit.block", (_, { ms }) => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  return "blocked";
});
handlers.add("kit.nul", async () => "a\0b");
handlers.add("kit.big", async (_, { bytes }) => "x".repeat(bytes));
handlers.add("kit.checkpoints", async (context, { count, bytes, fail_at: failAt }) => {
  const values = [];
  for (let number = 0; number < count; number += 1) {
    if (number === failAt && isFirst(context)) throw new Retry("in the middle");
    values.push(
      await context.checkpoint(`n${number}`, () => {
        note(context, "did", { number });
        return bytes === undefined ? number : "x".repeat(bytes);
      }),
    );
  }
  return bytes === undefined ? values : values.length;
});
handlers.add("kit.sleep", async (context, { ms }) => {
  await context.sleep("a while", ms);
  return "slept";
});
handlers.add("kit.signal", async (context, input) => answered(await context.signal(input.topic, within(input))));
handlers.add("kit.topic_signal", async (context, input) => answered(await context.topicSignal(input.topic, input.key, within(input))));
handlers.add("kit.child", async (context, { flow, input }) => ({ child: await context.child(flow, input) }));
handlers.add("kit.detached", async (context, { flow, input }) => {
  const child = await context.startChild(flow, input);
  if (isFirst(context)) throw new Retry("once more");
  return { child };
});
handlers.add("kit.ask", async (context, { question, choices }) => decided(await context.ask({ question, choices })));
handlers.add("kit.interrupt", async (context, { reason }) => ({ data: await context.interrupt(reason, { shown: true }) }));
handlers.add("kit.decision", async (context) => decided(context.decision()));
handlers.add("kit.dispatch", async (context, input) => {
  note(context, "dispatched");
  throw new Dispatched(input.topic, input.key, within(input));
});
handlers.add("kit.again", async (context, { n, seen = 0 }) => {
  await context.checkpoint("seen", () => seen);
  if (n > 0) throw new ContinueAsNew({ n: n - 1, seen: seen + 1 });
  return { seen };
});
const sleepers = (lengths, value) =>
  lengths.map((ms, number) => async (context) => {
    await context.sleep(`s${number}`, ms);
    return await value(context, number);
  });
handlers.add("kit.all", (context, { ms }) => context.all(sleepers(ms, (branch, number) => branch.checkpoint("value", () => number))));
handlers.add("kit.race", async (context, { ms }) => {
  const winner = await context.race(sleepers(ms, async (_, number) => number));
  if (isFirst(context)) throw new Retry("once more");
  return { winner };
});
handlers.add("kit.stable", async (context) => {
  const found = { now: (await context.now()).getTime() / 1000, uuid: await context.uuid(), random: await context.random() };
  note(context, "stable", { found });
  if (isFirst(context)) throw new Retry("once more");
  return found;
});
handlers.add("kit.mismatch", async (context) => {
  await context.checkpoint(`c${context.fencingToken}`, () => 1);
  if (context.fencingToken === 1) throw new Retry("once more");
});
handlers.add("kit.shorter", async (context) => {
  await context.checkpoint("a", () => 1);
  if (context.fencingToken > 1) return;
  await context.checkpoint("b", () => 2);
  throw new Retry("once more");
});
handlers.add("kit.misplaced", (context) => context.checkpoint("a", () => context.sleep("in it", 1000)));
handlers.add("kit.patched", async (context, { fresh }) => {
  const patched = fresh || context.fencingToken > 1 ? await context.patched("p") : false;
  await context.checkpoint("a", () => 1);
  if (context.fencingToken === 1) throw new Retry("once more");
  return { patched };
});
handlers.add("kit.progress", async (context, { value }) => {
  context.progress(1, 2, "half");
  context.report("k", 1);
  context.report("k", value);
  await sleep(1200);
  return "ok";
});
handlers.add("kit.output", async (context, { step }) => ({ output: await context.output(step) }));
handlers.add("kit.transaction", async (context, { commit }) => {
  const connection = new pg.Client({ connectionString: env.DATABASE_URL });
  await connection.connect();
  try {
    await connection.query("begin");
    await connection.query("insert into kit_effect (run_id, token) values ($1, $2)", [context.runId, context.fencingToken]);
    await context.completeIn(connection, { token: context.fencingToken });
    await connection.query(commit || context.fencingToken > 1 ? "commit" : "rollback");
  } finally {
    await connection.end();
  }
});

setLogger({ ...console, debug: env.LONGHAUL_KIT_LEVEL === "DEBUG" ? console.log : () => undefined });
const settings = {
  database: env.DATABASE_URL,
  queues: { [env.LONGHAUL_QUEUE]: Number(env.LONGHAUL_SLOTS) },
  tenant: env.LONGHAUL_TENANT,
  name: env.LONGHAUL_NAME,
  heartbeat: Number(env.LONGHAUL_HEARTBEAT_MS),
  lease: Number(env.LONGHAUL_LEASE_MS),
  poll: Number(env.LONGHAUL_POLL_MS),
  grace: Number(env.LONGHAUL_GRACE_MS),
  chores: env.LONGHAUL_CHORES === "yes",
  ...(env.LONGHAUL_LISTEN_URL === undefined ? {} : { listen: env.LONGHAUL_LISTEN_URL }),
};
await new Worker(handlers, settings).run();
