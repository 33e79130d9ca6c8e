// What the tests share: a flow of one step in a queue of its own, and a worker for it.
import { randomUUID } from "node:crypto";
import { Client, Handlers, Worker } from "longhaul";

export const database = process.env.DATABASE_URL;
export const skip = database ? false : "DATABASE_URL is not set: clients/test starts a server and sets it";

/** Calls a test with a client, a flow's name and a way to work meanwhile. */
export async function shop(handler, test, step = {}) {
  const name = `test-${randomUUID().slice(0, 13)}`;
  const client = new Client(database);
  const stop = new AbortController();
  let working;
  const open = () => {
    const handlers = new Handlers().add("test.one", handler);
    working = new Worker(handlers, { database, queues: { [name]: 10 }, heartbeat: 2000, poll: 500 }).serve(stop.signal);
  };
  try {
    await client.deploy({ name, version: 1, steps: [{ name: "one", handler: "test.one", queue: name, ...step }] });
    await test({ client, flow: name, open });
  } finally {
    stop.abort();
    await working;
    client.close();
  }
}
