"""Procrastinate: enqueues jobs, drains them, prints a line of JSON."""

import asyncio
import json
import os
import sys
import time

import procrastinate

jobs, settings = int(sys.argv[1]), json.loads(sys.argv[2])
pool = settings["pool"]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"], min_size=pool, max_size=pool))
done = 0


@app.task(queue="bench")
async def nothing(n):
    global done
    done += 1


async def main():
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        begun = time.monotonic()
        for start in range(0, jobs, 5000):
            await nothing.batch_defer_async(*({"n": n} for n in range(start, min(start + 5000, jobs))))
        enqueued = jobs / (time.monotonic() - begun)
        begun = time.monotonic()
        await app.run_worker_async(queues=["bench"], concurrency=settings["concurrency"], wait=False, install_signal_handlers=False, delete_jobs="never")
        drained = jobs / (time.monotonic() - begun)
    assert done == jobs, f"{done} of {jobs} were done"
    print(json.dumps({"enqueued_per_s": enqueued, "drained_per_s": drained}))


asyncio.run(main())
