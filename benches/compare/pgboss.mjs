// pg-boss: enqueues jobs, drains them, prints a line of JSON.
import PgBoss from "pg-boss";

const [jobs, settings] = [Number(process.argv[2]), JSON.parse(process.argv[3])];
const queue = "nothing";
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: settings.pool, supervise: false, schedule: false });
boss.on("error", (error) => {
  throw error;
});
await boss.start();
await boss.createQueue(queue);

let begun = performance.now();
for (let from = 0; from < jobs; from += 5_000) {
  const size = Math.min(5_000, jobs - from);
  await boss.insert(Array.from({ length: size }, (_, n) => ({ name: queue, data: { n: from + n } })));
}
const enqueued = jobs / ((performance.now() - begun) / 1000);

// As its worker does it, but without the half second that this waits at least between two batches.
begun = performance.now();
let done = 0;
async function work() {
  while (done < jobs) {
    const batch = await boss.fetch(queue, { batchSize: settings.batch });
    if (batch.length === 0) {
      continue;
    }
    await boss.complete(
      queue,
      batch.map((job) => job.id),
    );
    done += batch.length;
  }
}
await Promise.all(Array.from({ length: settings.fetchers }, work));
const rate = jobs / ((performance.now() - begun) / 1000);
await boss.stop({ graceful: false });
console.log(JSON.stringify({ enqueued_per_s: enqueued, drained_per_s: rate }));
process.exit(0);
