"""What a client can ask for, sync and async."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from longhaul import (
    FOREVER,
    AsyncClient,
    Client,
    Conflict,
    Context,
    InvalidInput,
    NotFound,
    Refused,
    RunFailed,
    Unreachable,
    new_run_id,
)

from .conftest import Shop


def test_a_run_is_started_waited_for_and_read(client: Client, shop: Shop) -> None:
    @shop.handlers.handler("test.one")
    async def one(context: Context, input: int) -> int:
        return input * 2

    flow = shop.deploy(client)
    with shop.open():
        run_id = client.start(flow, 21, name="a run", metadata={"of": "tests"}, deadline=timedelta(minutes=5))
        assert client.wait(run_id, timeout=20) == 42
    run = client.get(run_id)
    assert (run.flow, run.version, run.name, run.state, run.input, run.metadata) == (flow, 1, "a run", "completed", 21, {"of": "tests"})
    assert run.ended
    (step,) = client.steps(run_id)
    assert (step.name, step.state, step.output, step.handler) == ("one", "completed", 42, "test.one")
    assert client.output(run_id) == 42
    assert "completed" in client.why(run_id, "one")


def test_an_async_client_does_the_same(client: Client, shop: Shop) -> None:
    @shop.handlers.handler("test.one")
    async def one(context: Context, input: int) -> str:
        return str(await context.signal("go"))

    flow = shop.deploy(client)

    async def body() -> None:
        async with AsyncClient(shop.database) as client:
            run_id = await client.start(flow)
            await client.signal(run_id, "go", "on", key="k")
            await client.signal(run_id, "go", "on", key="k")
            assert await client.wait(run_id, timeout=20) == "on"
            assert (await client.get(run_id)).state == "completed"
            with pytest.raises(NotFound):
                await client.get(uuid4())

    with shop.open():
        asyncio.run(body())


def test_a_start_under_an_id_or_a_key_is_made_once(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)
    id = new_run_id()
    assert client.start(flow, 1, id=id) == id
    assert client.start(flow, 1, id=id) == id
    with pytest.raises(Conflict):
        client.start(flow, 2, id=id)
    first = client.start(flow, 3, key="order-3", window=FOREVER)
    assert client.start(flow, 3, key="order-3", window=FOREVER) == first


def test_many_runs_are_started_by_one_call(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)
    id = new_run_id()
    started = client.start_many(
        flow,
        [
            {"input": 1, "id": id},
            {"input": 1, "id": id},
            {"input": 2, "priority": 5000},
            {"input": 3, "delay": timedelta(hours=1), "metadata": {"a": 1}, "name": "third"},
        ],
    )
    assert started[0].run_id == started[1].run_id == id
    assert started[2].run_id is None and "priority" in (started[2].refusal or "")
    third = started[3].run_id
    assert third is not None and client.get(third).state == "pending"
    client.start_pending(third)
    assert client.get(third).state == "running"


def test_a_run_is_steered(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)
    run_id = client.start(flow, create_only=True)
    assert client.get(run_id).state == "pending"
    client.start_pending(run_id)
    client.pause(run_id)
    assert client.get(run_id).state == "paused"
    client.resume(run_id)
    client.stop(run_id, by="a test")
    with pytest.raises(Refused):
        client.pause(run_id)
    with pytest.raises(RunFailed, match="cancelled"):
        client.wait(run_id, timeout=5)
    client.retry(run_id)
    with pytest.raises(TimeoutError):
        client.wait(run_id, timeout=0.1)
    client.stop(run_id)


def test_a_question_is_answered(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client, approval={"question": "May it?", "choices": ["yes", "reject"]})

    @shop.handlers.handler("test.one")
    async def one(context: Context, input: int) -> str | None:
        decision = await context.decision()
        return None if decision is None else decision.choice

    run_id = client.start(flow)
    (question,) = client.questions(run_id)
    assert (question.step, question.question, question.choices) == ("one", "May it?", ["yes", "reject"])
    with pytest.raises(InvalidInput):
        client.decide(run_id, "one", "perhaps")
    assert client.decide(run_id, "one", "yes", by="anna")
    with shop.open():
        assert client.wait(run_id, timeout=20) == "yes"


def test_what_is_wrong_is_told(client: Client, shop: Shop) -> None:
    with pytest.raises(NotFound, match="deploy it first"):
        client.start("no-such-flow")
    flow = shop.deploy(client)
    for bad in (float("nan"), "a\0b", object(), "\ud800"):
        with pytest.raises(InvalidInput):
            client.start(flow, bad)
    with pytest.raises(InvalidInput):
        client.deploy({"name": "x", "version": 1, "steps": [{"name": "a", "handler": "h", "after": ["nowhere"]}]})
    with pytest.raises(InvalidInput, match="bytes"):
        client.start(flow, "x" * 3_000_000)
    # An error leaves the connection as it was.
    assert client.get(client.start(flow)).state == "running"


def test_a_database_that_is_away_is_told(shop: Shop) -> None:
    with Client("postgresql://127.0.0.1:1/nowhere?connect_timeout=1") as client, pytest.raises(Unreachable):
        client.get(uuid4())


def test_signals_go_to_topics_and_outside_work_is_completed(client: Client, shop: Shop) -> None:
    @shop.handlers.handler("test.one")
    async def one(context: Context, input: str) -> list[object]:
        first = await context.topic_signal("paid", input)
        second = await context.topic_signal("label", input, within=60)
        third = await context.signal("all")
        return [first, second, third]

    flow = shop.deploy(client)
    with shop.open():
        run_id = client.start(flow, shop.name)
        client.send_signal("paid", shop.name, 1)
        client.complete_external("label", shop.name, 2)
        client.complete_external("label", shop.name, 3)
        assert client.broadcast("all", 4, flow=flow) == 1
        assert client.wait(run_id, timeout=20) == [1, 2, 4]
