// graphile-worker: enqueues jobs, drains them, prints a line of JSON.
import { Logger, run, makeWorkerUtils } from "graphile-worker";

const jobs = Number(process.argv[2] ?? 50_000);
const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});
const preset = {
  worker: {
    connectionString,
    concurrentJobs: 500,
    maxPoolSize: 8,
    localQueue: { size: 2000 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger,
  },
};

const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
let begun = performance.now();
for (let from = 0; from < jobs; from += 5_000) {
  const size = Math.min(5_000, jobs - from);
  await utils.withPgClient((client) =>
    client.query(
      `select graphile_worker.add_jobs(array(
         select row('nothing', json_build_object('n', n), null, null, null, null, null, null)::graphile_worker.job_spec
         from generate_series(1, $1::int) n))`,
      [size],
    ),
  );
}
const enqueued = jobs / ((performance.now() - begun) / 1000);

let done = 0;
let all;
const drained = new Promise((resolve) => (all = resolve));
begun = performance.now();
const runner = await run({
  preset,
  taskList: {
    nothing: async () => {
      if (++done === jobs) all();
    },
  },
});
await drained;
// Until the last batch is completed in the database.
for (;;) {
  const left = await utils.withPgClient((client) => client.query("select count(*)::int as n from graphile_worker.jobs"));
  if (left.rows[0].n === 0) break;
}
const rate = jobs / ((performance.now() - begun) / 1000);
await runner.stop();
await utils.release();
console.log(JSON.stringify({ enqueued_per_s: enqueued, drained_per_s: rate }));
