// A flow of two steps: `DATABASE_URL=… node examples/hello.mjs`.
import { Client, Handlers, Worker } from "longhaul";

const database = process.env.DATABASE_URL;
const handlers = new Handlers()
  .add("shop.charge", async (context, order) => {
    // Computed once, whatever happens to this process; the key is the same in every attempt.
    const receipt = await context.checkpoint("charge", () => ({ cents: order.cents, attempt: context.attempt }));
    await context.sleep("let it settle", 300); // no slot, no connection, no memory
    return { order: order.id, cents: receipt.cents };
  })
  .add("shop.pack", async (context) => {
    const paid = await context.output("charge");
    return `order ${paid.order} is paid with ${paid.cents} cents and packed`;
  });

const stop = new AbortController();
const worker = new Worker(handlers, { database, queues: { "hello-node": 10 } }).serve(stop.signal);
const client = new Client(database);
await client.deploy({
  name: "hello-node",
  version: 1,
  steps: [
    { name: "charge", handler: "shop.charge", queue: "hello-node" },
    { name: "pack", handler: "shop.pack", queue: "hello-node", after: ["charge"] },
  ],
});
const runId = await client.start("hello-node", { id: 7, cents: 1999 }, { key: "order-7" });
console.log(await client.wait(runId, { timeout: 60_000 }));
client.close();
stop.abort();
await worker;
