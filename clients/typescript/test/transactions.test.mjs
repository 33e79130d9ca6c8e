// Starts and completions within transactions of the user's: pg, Knex, Drizzle. These are the recipes of the README.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import knex from "knex";
import pg from "pg";
import { NotFound, fromDrizzle, fromKnex } from "longhaul";
import { database, shop, skip } from "./shop.mjs";

const idle = async () => null;
const gone = (client, id) => assert.rejects(client.get(id), NotFound);
const boom = new Error("rolled back");

/** Starts runs in a transaction that commits and in one that does not. */
async function starts(client, flow, transaction) {
  let id;
  let many;
  await transaction(async (connection) => {
    id = await client.on(connection).start(flow, { a: [1, "x"] }, { metadata: { b: 1 }, delay: 5 });
    many = await client.on(connection).startMany(flow, [{ input: [1, 2], name: "one" }, { input: "two" }]);
    await gone(client, id);
  });
  assert.deepEqual((await client.get(id)).input, { a: [1, "x"] });
  assert.deepEqual((await client.get(many[0].runId)).input, [1, 2]);
  await assert.rejects(
    transaction(async (connection) => {
      id = await client.on(connection).start(flow);
      throw boom;
    }),
    boom,
  );
  await gone(client, id);
}

test("a start in a transaction of pg", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const connection = new pg.Client({ connectionString: database });
    await connection.connect();
    await starts(client, flow, async (work) => {
      await connection.query("begin");
      try {
        await work(connection);
        await connection.query("commit");
      } catch (error) {
        await connection.query("rollback");
        throw error;
      }
    });
    await connection.end();
  }),
);

test("a start in a transaction of Knex", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const db = knex({ client: "pg", connection: database });
    try {
      await starts(client, flow, (work) => db.transaction((trx) => work(fromKnex(trx))));
    } finally {
      await db.destroy();
    }
  }),
);

test("a start in a transaction of Drizzle", { skip }, () =>
  shop(idle, async ({ client, flow }) => {
    const pool = new pg.Pool({ connectionString: database });
    const db = drizzle(pool);
    await starts(client, flow, (work) => db.transaction((tx) => work(fromDrizzle(tx, sql))));
    await pool.end();
  }),
);

test("a step is completed in the transaction of its effect", { skip }, async () => {
  const db = knex({ client: "pg", connection: database });
  const table = `effect_${process.pid}`;
  await db.schema.createTable(table, (columns) => columns.integer("token"));
  try {
    const effect = async (context) => {
      try {
        await db.transaction(async (trx) => {
          await trx(table).insert({ token: context.fencingToken });
          await context.completeIn(fromKnex(trx), { done: true });
          if (context.attempt === 1) throw boom;
        });
      } catch (error) {
        if (error !== boom) throw error;
      }
    };
    await shop(
      effect,
      async ({ client, flow, open }) => {
        open();
        assert.deepEqual(await client.wait(await client.start(flow), { timeout: 20_000 }), { done: true });
        assert.deepEqual(await db(table).select("token"), [{ token: 2 }]);
      },
      { retry: { attempts: 3, backoff: "1ms" } },
    );
  } finally {
    await db.schema.dropTable(table);
    await db.destroy();
  }
});
