"""A flow of two steps: `DATABASE_URL=… python examples/hello.py`."""

import asyncio
import os

from longhaul import AsyncClient, BlockingContext, Context, Handlers, Settings, Worker

handlers = Handlers()


@handlers.handler("shop.charge")
async def charge(context: Context, order: dict[str, int]) -> dict[str, int]:
    # Computed once, whatever happens to this process; the key is the same in every attempt.
    receipt = await context.checkpoint("charge", lambda: {"cents": order["cents"], "attempt": context.attempt})
    await context.sleep("let it settle", 0.3)  # no slot, no connection, no memory
    return {"order": order["id"], "cents": receipt["cents"]}


@handlers.handler("shop.pack")
def pack(context: BlockingContext, order: dict[str, int]) -> str:
    # An ordinary function runs on a thread of its own.
    paid = context.output("charge")
    return f"order {paid['order']} is paid with {paid['cents']} cents and packed"


async def main() -> None:
    database = os.environ["DATABASE_URL"]
    stop = asyncio.Event()
    worker = asyncio.create_task(Worker(handlers, Settings(database, queues={"hello-python": 10})).serve(stop))
    async with AsyncClient(database) as client:
        steps = [
            {"name": "charge", "handler": "shop.charge", "queue": "hello-python"},
            {"name": "pack", "handler": "shop.pack", "queue": "hello-python", "after": ["charge"]},
        ]
        await client.deploy({"name": "hello-python", "version": 1, "steps": steps})
        run_id = await client.start("hello-python", {"id": 7, "cents": 1999}, key="order-7")
        print(await client.wait(run_id, timeout=60))
    stop.set()
    await worker


if __name__ == "__main__":
    asyncio.run(main())
