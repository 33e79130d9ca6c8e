"""Starts and completions within transactions of the user's: psycopg, SQLAlchemy, Django. These are the recipes of the README."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from longhaul import AsyncClient, BlockingContext, Client, NotFound

from .conftest import Shop


def exists(client: Client, run_id: UUID) -> bool:
    try:
        client.get(run_id)
    except NotFound:
        return False
    return True


def test_a_start_in_a_transaction_of_psycopg(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)
    with psycopg.connect(shop.database) as connection:
        run_id = client.on(connection).start(flow)
        assert not exists(client, run_id)
        connection.commit()
        assert exists(client, run_id)
        gone = client.on(connection).start(flow)
        connection.rollback()
    assert not exists(client, gone)


def test_a_start_in_an_async_transaction(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)

    async def body() -> UUID:
        async with await psycopg.AsyncConnection.connect(shop.database) as connection:
            return await AsyncClient(shop.database).on(connection).start(flow)

    assert exists(client, asyncio.run(body()))


def test_a_start_in_a_transaction_of_sqlalchemy(client: Client, shop: Shop) -> None:
    flow = shop.deploy(client)
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(shop.database))
    with Session(engine) as session, session.begin():
        session.execute(text("select 1"))
        run_id = client.on(session).start(flow, {"from": "a session"})
        assert not exists(client, run_id)
    assert client.get(run_id).input == {"from": "a session"}
    with engine.begin() as connection:
        second = client.on(connection).start(flow)
    assert exists(client, second)
    with pytest.raises(ZeroDivisionError), Session(engine) as session, session.begin():
        gone = client.on(session).start(flow)
        raise ZeroDivisionError
    assert not exists(client, gone)


def test_a_start_in_a_transaction_of_django(client: Client, shop: Shop) -> None:
    from django.conf import settings

    parts = psycopg.conninfo.conninfo_to_dict(shop.database)
    if not settings.configured:
        settings.configure(
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": parts["dbname"],
                    "USER": parts.get("user", ""),
                    "PASSWORD": parts.get("password", ""),
                    "HOST": parts.get("host", ""),
                    "PORT": parts.get("port", ""),
                }
            }
        )
    from django.db import connection, transaction

    flow = shop.deploy(client)
    with transaction.atomic():
        run_id = client.on(connection).start(flow)
        assert not exists(client, run_id)
    assert exists(client, run_id)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        gone = client.on(connection).start(flow)
        raise ZeroDivisionError
    assert not exists(client, gone)
    connection.close()


def test_a_step_is_completed_in_the_transaction_of_its_effect(client: Client, shop: Shop) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(shop.database))
    table = f"effect_{uuid4().hex[:8]}"
    with engine.begin() as connection:
        connection.execute(text(f"create table {table} (token integer)"))

    @shop.handlers.handler("test.one")
    def one(context: BlockingContext, input: object) -> None:
        with Session(engine) as session, session.begin():
            session.execute(text(f"insert into {table} values ({context.fencing_token})"))
            context.complete_in(session, {"done": True})
            if context.attempt == 1:
                session.rollback()

    flow = shop.deploy(client, retry={"attempts": 3, "backoff": "1ms"})
    with shop.open():
        assert client.wait(client.start(flow), timeout=20) == {"done": True}
    with engine.begin() as connection:
        assert connection.execute(text(f"select token from {table}")).scalars().all() == [2]
        connection.execute(text(f"drop table {table}"))
