"""Parts that need no database."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any

import pytest

from longhaul import Fail, Handlers, InvalidInput, Retry, Settings, new_run_id
from longhaul.errors import DatabaseError, LonghaulError, Unreachable
from longhaul.history import History
from longhaul.lease_clock import LeaseClock, moment
from longhaul.payload import encoded
from longhaul.protocol import Entry
from longhaul.sender import Sender
from longhaul.step_error import described, milliseconds
from longhaul.waiting import read_time


def test_ids_grow_and_carry_the_time() -> None:
    ids = [new_run_id() for _ in range(1000)]
    assert ids == sorted(set(ids))
    assert all(id.version == 7 and id.variant == "specified in RFC 4122" for id in ids)
    assert abs((ids[0].int >> 80) / 1000 - datetime.now(timezone.utc).timestamp()) < 5


def test_json_that_cannot_be_stored_is_refused() -> None:
    assert encoded({"a": "\\u0000 is a text"}) == '{"a":"\\\\u0000 is a text"}'
    for bad in ("\0", float("inf"), {1, 2}, "\ud800"):
        with pytest.raises(InvalidInput):
            encoded(bad)
    with pytest.raises(InvalidInput, match="limit of 3"):
        encoded("four", most=3)


def test_times_of_all_clients_are_read() -> None:
    for text in ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456+00:00", "2026-01-02T04:04:05.123456+01:00"):
        assert read_time(text) == datetime(2026, 1, 2, 3, 4, 5, 123456, timezone.utc)
    assert read_time("2026-01-02T03:04:05.1Z").microsecond == 100_000
    assert read_time("2026-01-02T03:04:05Z").microsecond == 0


def test_leases_are_counted_from_when_the_renewal_was_sent() -> None:
    clock = LeaseClock(60, moment() - 61)
    assert not clock.holds()
    clock.renewed(moment() - 1)
    assert clock.holds()
    clock.renewed(moment() - 61)
    assert clock.holds(), "an older answer that comes late takes nothing away"


def history(*entries: tuple[str, str, str]) -> History:
    return History([Entry(path, kind, name, "ok", None) for path, kind, name in entries], 10)


def test_a_mismatch_names_both_sides() -> None:
    known = history(("0", "step", "charge"))
    with pytest.raises(Fail, match='step "charge", but the code has sleep "pause"') as caught:
        known.visit("0", "sleep", "pause")
    assert caught.value.code == "history_mismatch"
    assert known.visit("0", "step", "charge") is not None
    assert known.visit("1", "step", "new") is None


def test_branches_that_lost_a_race_are_not_missed() -> None:
    known = history(("0", "race", ""), ("0.1.0", "step", "lost"), ("approval", "decision", ""))
    known.visit("0", "race", "")
    known.check_end()
    assert known.goes_on_at("0.1.", 0) and not known.goes_on_at("0.1.", 1) and not known.goes_on_at("", 1)


def test_a_history_has_an_end() -> None:
    known = history()
    for _ in range(10):
        known.grow()
    with pytest.raises(Fail, match="continue as new"):
        known.grow()


def test_errors_become_storable() -> None:
    error = Retry("a\0b" + "x" * 20_000, code="c")
    error.__cause__ = ValueError("inner")
    assert '"message":"a\ufffdb' in described(error)
    assert '"causes":["ValueError: inner"]' in described(error)
    assert len(described(error)) < 11_000
    assert milliseconds(1e30) == 864_000_000_000


def test_names_of_handlers_are_checked() -> None:
    handlers = Handlers()
    handlers.add("a.b-c_d", print)
    for bad in ("", "a..b", "/a", "a:b", ".".join("abcdefghijk"), "ä"):
        with pytest.raises(InvalidInput):
            handlers.add(bad, print)
    with pytest.raises(InvalidInput):
        handlers.add("a.b-c_d", print)
    assert handlers.only(["a.b-c_d"]).names() == ["a.b-c_d"]
    with pytest.raises(InvalidInput):
        handlers.only(["x"])


def test_settings_are_checked() -> None:
    wrong: list[dict[str, Any]] = [{"queues": {}}, {"queues": {"a": 0}}, {"heartbeat": 30.0, "lease_time": 40.0}]
    for bad in wrong:
        with pytest.raises(InvalidInput):
            Settings("x", **bad)


class Store:
    """Refuses 7, and is away for the first calls."""

    def __init__(self) -> None:
        self.stored: list[int] = []
        self.batches: list[int] = []
        self.away = 2
        self.busy = {3}

    def calls(self, batch: list[int]) -> list[list[int]]:
        return [batch]

    async def store(self, items: list[int]) -> list[int]:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unreachable("away")
        if 7 in items:
            raise DatabaseError("bad", "22P05")
        busy = [item for item in items if item in self.busy]
        self.busy.clear()
        self.stored += [item for item in items if item not in busy]
        self.batches.append(len(items))
        return busy

    async def refused(self, item: int, error: LonghaulError) -> Any:
        return item * 100

    async def reachable(self) -> bool:
        return True


def test_a_sender_stores_everything_and_the_bad_item_alone() -> None:
    async def body() -> Store:
        store = Store()
        sender: Sender[int] = Sender(store)
        for item in range(100):
            sender.put(item)
        sender.close()
        await asyncio.wait_for(sender.run(), 20)
        return store

    store = asyncio.run(body())
    assert sorted(store.stored) == sorted([*range(7), *range(8, 100), 700])
    assert max(store.batches) > 20, "batches form"
