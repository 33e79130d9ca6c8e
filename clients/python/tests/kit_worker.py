"""The worker that the conformance kit (ops/protocol) grades: its handlers are told in clients/conformance/README.md."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from functools import partial
from typing import Any

import psycopg

from longhaul import (
    TIMED_OUT,
    Ask,
    BlockingContext,
    Context,
    ContinueAsNew,
    Decision,
    Defer,
    Dispatched,
    Fail,
    Handlers,
    Retry,
    Settings,
    Snooze,
    Worker,
)

handlers = Handlers()


def note(context: Context | BlockingContext, event: str, **more: Any) -> None:
    """Writes a line for the kit."""
    line = {"event": event, "run": str(context.run_id), "token": context.fencing_token, "pid": os.getpid(), **more}
    file = os.open(os.environ["LONGHAUL_KIT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (json.dumps(line) + "\n").encode())
    os.close(file)


def seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


@handlers.handler("kit.echo")
async def echo(context: Context, input: Any) -> Any:
    note(context, "echo")
    return input


@handlers.handler("kit.info")
async def info(context: Context, input: Any) -> Any:
    return {
        "run_id": str(context.run_id),
        "flow": context.flow,
        "flow_version": context.flow_version,
        "step": context.step,
        "attempt": context.attempt,
        "max_attempts": context.max_attempts,
        "fencing_token": context.fencing_token,
        "idempotency_key": context.idempotency_key,
        "parameters": context.parameters,
        "input": input,
    }


@handlers.handler("kit.fail")
def fail(context: BlockingContext, input: Any) -> Any:
    if context.attempt <= input["times"]:
        raise Retry(input.get("message", "failed"), code=input.get("code"))
    return {"attempt": context.attempt}


@handlers.handler("kit.refuse")
async def refuse(context: Context, input: Any) -> Any:
    raise Fail(input["message"], code=input.get("code"))


@handlers.handler("kit.retry_after")
async def retry_after(context: Context, input: Any) -> Any:
    if context.attempt == 1:
        raise Retry("later", after=input["ms"] / 1000)
    return {"attempt": context.attempt}


@handlers.handler("kit.snooze")
async def snooze(context: Context, input: Any) -> Any:
    if context.fencing_token == 1:
        raise Snooze(input["ms"] / 1000)
    return {"attempt": context.attempt, "token": context.fencing_token}


@handlers.handler("kit.defer")
async def defer(context: Context, input: Any) -> Any:
    if context.fencing_token == 1:
        raise Defer("the provider is busy", after=seconds(input.get("ms")))
    return {"attempt": context.attempt, "token": context.fencing_token}


@handlers.handler("kit.crash")
async def crash(context: Context, input: Any) -> Any:
    if context.attempt <= input["times"]:
        raise KeyError("nothing")
    return {"attempt": context.attempt}


@handlers.handler("kit.hang")
async def hang(context: Context, input: Any) -> Any:
    note(context, "begin")
    try:
        await asyncio.sleep(input["ms"] / 1000)
    except asyncio.CancelledError:
        note(context, "cancelled")
        raise
    note(context, "end")
    return "hung"


@handlers.handler("kit.block")
async def block(context: Context, input: Any) -> Any:
    time.sleep(input["ms"] / 1000)  # noqa: ASYNC251
    return "blocked"


@handlers.handler("kit.nul")
async def nul(context: Context, input: Any) -> Any:
    return "a\0b"


@handlers.handler("kit.big")
async def big(context: Context, input: Any) -> Any:
    return "x" * int(input["bytes"])


@handlers.handler("kit.checkpoints")
def checkpoints(context: BlockingContext, input: Any) -> Any:
    def did(number: int) -> Any:
        note(context, "did", number=number)
        return "x" * int(input["bytes"]) if "bytes" in input else number

    values = []
    for number in range(input["count"]):
        if number == input.get("fail_at") and context.attempt == 1:
            raise Retry("in the middle")
        values.append(context.checkpoint(f"n{number}", partial(did, number)))
    return len(values) if "bytes" in input else values


@handlers.handler("kit.sleep")
async def sleep(context: Context, input: Any) -> Any:
    await context.sleep("a while", input["ms"] / 1000)
    return "slept"


def answered(payload: Any) -> Any:
    return {"timed_out": True} if payload is TIMED_OUT else {"payload": payload}


@handlers.handler("kit.signal")
def signal(context: BlockingContext, input: Any) -> Any:
    return answered(context.signal(input["topic"], within=seconds(input.get("within_ms"))))


@handlers.handler("kit.topic_signal")
async def topic_signal(context: Context, input: Any) -> Any:
    return answered(await context.topic_signal(input["topic"], input["key"], within=seconds(input.get("within_ms"))))


@handlers.handler("kit.child")
async def child(context: Context, input: Any) -> Any:
    return {"child": await context.child(input["flow"], input["input"])}


@handlers.handler("kit.detached")
async def detached(context: Context, input: Any) -> Any:
    id = await context.start_child(input["flow"], input["input"])
    if context.attempt == 1:
        raise Retry("once more")
    return {"child": str(id)}


def decided(decision: Decision | None) -> Any:
    return None if decision is None else {"choice": decision.choice, "by": decision.by, "data": decision.data}


@handlers.handler("kit.ask")
async def ask(context: Context, input: Any) -> Any:
    return decided(await context.ask(Ask(input["question"], choices=input["choices"])))


@handlers.handler("kit.interrupt")
async def interrupt(context: Context, input: Any) -> Any:
    return {"data": await context.interrupt(input["reason"], {"shown": True})}


@handlers.handler("kit.decision")
async def decision(context: Context, input: Any) -> Any:
    return decided(await context.decision())


@handlers.handler("kit.dispatch")
async def dispatch(context: Context, input: Any) -> Any:
    note(context, "dispatched")
    raise Dispatched(input["topic"], input["key"], within=seconds(input.get("within_ms")))


@handlers.handler("kit.again")
async def again(context: Context, input: Any) -> Any:
    await context.checkpoint("seen", lambda: input.get("seen", 0))
    if input["n"] > 0:
        raise ContinueAsNew({"n": input["n"] - 1, "seen": input.get("seen", 0) + 1})
    return {"seen": input.get("seen", 0)}


@handlers.handler("kit.all")
async def all(context: Context, input: Any) -> Any:
    def branch(number: int, ms: float) -> Any:
        async def run(context: Context) -> Any:
            await context.sleep(f"s{number}", ms / 1000)
            return await context.checkpoint("value", lambda: number)

        return run

    return await context.all(*(branch(number, ms) for number, ms in enumerate(input["ms"])))


@handlers.handler("kit.race")
async def race(context: Context, input: Any) -> Any:
    def branch(number: int, ms: float) -> Any:
        async def run(context: Context) -> Any:
            await context.sleep(f"s{number}", ms / 1000)
            return number

        return run

    winner = await context.race(*(branch(number, ms) for number, ms in enumerate(input["ms"])))
    if context.attempt == 1:
        raise Retry("once more")
    return {"winner": winner}


@handlers.handler("kit.stable")
async def stable(context: Context, input: Any) -> Any:
    found = {"now": (await context.now()).timestamp(), "uuid": str(await context.uuid()), "random": await context.random()}
    note(context, "stable", found=found)
    if context.attempt == 1:
        raise Retry("once more")
    return found


@handlers.handler("kit.mismatch")
async def mismatch(context: Context, input: Any) -> Any:
    await context.checkpoint(f"c{context.fencing_token}", lambda: 1)
    if context.fencing_token == 1:
        raise Retry("once more")


@handlers.handler("kit.shorter")
async def shorter(context: Context, input: Any) -> Any:
    await context.checkpoint("a", lambda: 1)
    if context.fencing_token == 1:
        await context.checkpoint("b", lambda: 2)
        raise Retry("once more")


@handlers.handler("kit.misplaced")
async def misplaced(context: Context, input: Any) -> Any:
    await context.checkpoint("a", lambda: context.sleep("in it", 1))


@handlers.handler("kit.patched")
async def patched(context: Context, input: Any) -> Any:
    changed = False
    if input["fresh"] or context.fencing_token > 1:
        changed = await context.patched("p")
    await context.checkpoint("a", lambda: 1)
    if context.fencing_token == 1:
        raise Retry("once more")
    return {"patched": changed}


@handlers.handler("kit.progress")
async def progress(context: Context, input: Any) -> Any:
    await context.progress(1, 2, "half")
    await context.report("k", 1)
    await context.report("k", input["value"])
    await asyncio.sleep(1.2)
    return "ok"


@handlers.handler("kit.output")
async def output(context: Context, input: Any) -> Any:
    return {"output": await context.output(input["step"])}


@handlers.handler("kit.transaction")
def transaction(context: BlockingContext, input: Any) -> Any:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        connection.execute("insert into kit_effect (run_id, token) values (%s, %s)", (context.run_id, context.fencing_token))
        context.complete_in(connection, {"token": context.fencing_token})
        if not input["commit"] and context.fencing_token == 1:
            connection.rollback()


def main() -> None:
    logging.basicConfig(level=os.environ.get("LONGHAUL_KIT_LEVEL", "INFO"), format="%(asctime)s %(levelname)s %(message)s")
    env = os.environ
    settings = Settings(
        env["DATABASE_URL"],
        queues={env["LONGHAUL_QUEUE"]: int(env["LONGHAUL_SLOTS"])},
        tenant=env["LONGHAUL_TENANT"],
        name=env["LONGHAUL_NAME"],
        listen=env.get("LONGHAUL_LISTEN_URL"),
        heartbeat=int(env["LONGHAUL_HEARTBEAT_MS"]) / 1000,
        lease_time=int(env["LONGHAUL_LEASE_MS"]) / 1000,
        poll=int(env["LONGHAUL_POLL_MS"]) / 1000,
        grace=int(env["LONGHAUL_GRACE_MS"]) / 1000,
        chores=env.get("LONGHAUL_CHORES") == "yes",
    )
    Worker(handlers, settings).run()


if __name__ == "__main__":
    main()
