// graphile-worker: enqueues jobs, drains them in a process of its own, prints a line of JSON.
//
//   node graphile.mjs JOBS SETTINGS     SETTINGS as in {"concurrency": 500, "pool": 501, "queue": 2000, "batch_ms": 0}
import { fork } from "node:child_process";
import { Logger, makeWorkerUtils, runOnce } from "graphile-worker";

const connectionString = process.env.DATABASE_URL;
const logger = new Logger(() => () => {});
const [jobs, settings, draining] = [Number(process.argv[2]), JSON.parse(process.argv[3]), process.argv[4] === "drain"];

async function enqueue(utils) {
  const begun = performance.now();
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
  return jobs / ((performance.now() - begun) / 1000);
}

// Ends when the queue is empty and the last batch is completed in the database; nothing of ours runs beside it.
async function drain() {
  let done = 0;
  const preset = {
    worker: {
      connectionString,
      concurrentJobs: settings.concurrency,
      maxPoolSize: settings.pool,
      localQueue: { size: settings.queue },
      completeJobBatchDelay: settings.batch_ms,
      failJobBatchDelay: settings.batch_ms,
      logger,
    },
  };
  const begun = performance.now();
  await runOnce({ preset, noHandleSignals: true, taskList: { nothing: async () => void done++ } });
  const rate = jobs / ((performance.now() - begun) / 1000);
  if (done !== jobs) throw new Error(`${done} of ${jobs} jobs were done`);
  return rate;
}

async function inProcessOfItsOwn() {
  const child = fork(process.argv[1], [process.argv[2], process.argv[3], "drain"]);
  return new Promise((resolve, reject) => {
    child.on("message", resolve);
    child.on("exit", (code) => reject(new Error(`the worker ended with ${code}`)));
  });
}

if (draining) {
  process.send(await drain());
  process.disconnect();
} else {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  const enqueued = await enqueue(utils);
  const drained = await inProcessOfItsOwn();
  const left = await utils.withPgClient((client) => client.query("select count(*)::int as n from graphile_worker.jobs"));
  if (left.rows[0].n > 0) throw new Error(`${left.rows[0].n} jobs are left`);
  await utils.release();
  console.log(JSON.stringify({ enqueued_per_s: enqueued, drained_per_s: drained }));
}
