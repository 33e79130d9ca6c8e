"""Deaths, frozen processes, broken connections, lost answers."""

from __future__ import annotations

import time

from .grade import alone
from .proxy import Proxy
from .world import Options, Process, World, check, eventually

SHORT = {"heartbeat_ms": 300, "lease_ms": 1500}


@alone
def a_killed_worker_is_replaced(world: World) -> None:
    """What a killed worker had is done by another when the lease has expired; the killed attempt is written down."""
    worker = world.worker(Options(**SHORT))
    run = world.do(worker, "kit.checkpoints", {"count": 3}, retry={"attempts": 3, "backoff": "1ms"})
    world.completed(run)
    long = world.do(worker, "kit.hang", {"ms": 2000}, retry={"attempts": 3, "backoff": "1ms"})
    eventually("the handler begins", lambda: worker.events(long, "begin"))
    worker.kill()
    other = world.worker(Options(queue=worker.options.queue))
    check(world.completed(long) == "hung", "the output differs")
    check(world.outcomes(long) == ["expired"], f"attempts ended {world.outcomes(long)}")
    check(other.events(long, "begin")[0]["token"] > 1, "the second attempt has no higher token")


@alone
def a_frozen_worker_completes_nothing(world: World) -> None:
    """A worker that was frozen for longer than its lease completes nothing when it wakes, registers anew and works on."""
    worker = world.worker(Options(**SHORT))
    run = world.do(worker, "kit.hang", {"ms": 1500}, retry={"attempts": 3, "backoff": "1ms"})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    worker.freeze()
    other = world.worker(Options(queue=worker.options.queue))
    eventually("another worker begins it", lambda: other.events(run, "begin"), 15)
    world.completed(run)
    worker.thaw()
    eventually("it registers anew", lambda: len(world.registrations(worker)) > 1, 15)
    other.kill()
    check(world.token(run) > 1, f"attempt {world.token(run)} completed it")
    check(world.completed(world.do(worker, "kit.echo", 1)) == 1, "it does nothing any more")


@alone
def a_frozen_worker_begins_nothing_old(world: World) -> None:
    """Steps that were claimed and not begun before it froze are not begun after it wakes: others have them."""
    worker = world.worker(Options(slots=4, **SHORT))
    flow = world.flow(worker.options.queue, {"handler": "kit.echo", "retry": {"attempts": 5, "backoff": "1ms"}})
    worker.freeze()
    runs = [world.start(flow, number) for number in range(20)]
    other = world.worker(Options(queue=worker.options.queue))
    for run in runs:
        world.completed(run)
    worker.thaw()
    eventually("it registers anew", lambda: len(world.registrations(worker)) > 1, 15)
    for run in runs:
        done = worker.events(run, "echo") + other.events(run, "echo")
        check(len(done) == len({line["token"] for line in done}), "one attempt was begun twice")


@alone
def connections_that_break_cost_nothing(world: World) -> None:
    """When all its connections break, again and again, every step completes in its first attempt."""
    proxy = world.proxy()
    worker = world.worker(Options(), proxy)
    flow = world.flow(worker.options.queue, {"handler": "kit.hang", "retry": {"attempts": 1}})
    runs = [world.start(flow, {"ms": 100}) for _ in range(60)]
    for _ in range(6):
        time.sleep(0.25)
        proxy.cut()
    for run in runs:
        check(world.completed(run) == "hung", "the output differs")
        check(world.token(run) == 1, f"a step took {world.token(run)} attempts: {world.outcomes(run)}")


@alone
def a_short_absence_of_the_database_costs_nothing(world: World) -> None:
    """A database that is away for less than a lease costs no attempt: the outcome waits."""
    proxy = world.proxy()
    worker = world.worker(Options(heartbeat_ms=500, lease_ms=8000), proxy)
    run = world.do(worker, "kit.hang", {"ms": 800}, retry={"attempts": 1})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    proxy.away(True)
    time.sleep(2)
    proxy.away(False)
    check(world.completed(run) == "hung", "the output differs")
    check(world.token(run) == 1, f"attempts ended {world.outcomes(run)}")
    check(len(world.registrations(worker)) == 1, "it registered anew")


@alone
def a_long_absence_of_the_database_ends_the_registration(world: World) -> None:
    """A database that is away for longer than a lease: the steps go to others, and the worker registers anew."""
    proxy = world.proxy()
    worker = world.worker(Options(**SHORT), proxy)
    run = world.do(worker, "kit.hang", {"ms": 1000}, retry={"attempts": 5, "backoff": "1ms"})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    proxy.away(True)
    eventually("the lease expires", lambda: "expired" in world.outcomes(run), 10)
    proxy.away(False)
    eventually("it registers anew", lambda: len(world.registrations(worker)) > 1, 15)
    check(world.completed(run) == "hung", "the output differs")


def lost(world: World, function: str, handler: str, input: object) -> tuple[Process, Proxy]:
    """Loses the answer of a call once; the step must come through it in its first attempts, long before the lease ends."""
    proxy = world.proxy()
    worker = world.worker(Options(heartbeat_ms=2000, lease_ms=60_000), proxy)
    proxy.lose_answer(function)
    run = world.do(worker, handler, input, retry={"attempts": 1})
    world.completed(run)
    check(proxy.lost, f"the worker did not call {function}(), whose answer was to be lost")
    bad = [outcome for outcome in world.outcomes(run) if outcome != "suspended"]
    check(not bad, f"attempts ended {bad}")
    check(not world.leases(run), "a lease is left")
    return worker, proxy


@alone
def a_lost_answer_of_claim(world: World) -> None:
    """After a claim whose answer was lost it asks what it took, and does that."""
    proxy = world.proxy()
    worker = world.worker(Options(heartbeat_ms=2000, lease_ms=60_000), proxy)
    flow = world.flow(worker.options.queue, {"handler": "kit.echo", "retry": {"attempts": 1}})
    world.rows("select longhaul.pause_queue('default', %s)", worker.options.queue)
    runs = [world.start(flow, number) for number in range(5)]
    time.sleep(0.5)
    proxy.lose_answer("claim(?:_steps)?")
    world.rows("select longhaul.resume_queue('default', %s)", worker.options.queue)
    eventually("an answer is lost", lambda: proxy.lost)
    for number, run in enumerate(runs):
        check(world.completed(run, 15) == number, "the output differs")
        check(world.token(run) == 1, f"a step took {world.token(run)} attempts: {world.outcomes(run)}")


@alone
def a_lost_answer_of_complete(world: World) -> None:
    """After a completion whose answer was lost it sends it again, and takes `already_completed` for done."""
    worker, _ = lost(world, "complete", "kit.echo", 1)
    check(world.completed(world.do(worker, "kit.echo", 2)) == 2, "it does nothing any more")


@alone
def a_lost_answer_of_a_failure(world: World) -> None:
    """A failed attempt whose answer was lost is counted once."""
    proxy = world.proxy()
    worker = world.worker(Options(heartbeat_ms=2000, lease_ms=60_000), proxy)
    proxy.lose_answer("(?:end_attempts|fail)")
    run = world.do(worker, "kit.fail", {"times": 1}, retry={"attempts": 3, "backoff": "1ms"})
    check(world.completed(run) == {"attempt": 2}, "it was counted twice")
    check(proxy.lost, "no answer was lost")
    check(world.outcomes(run) == ["failed"], f"attempts ended {world.outcomes(run)}")


@alone
def a_lost_answer_of_a_checkpoint(world: World) -> None:
    """A checkpoint whose answer was lost is saved once, and the function goes on."""
    worker, _ = lost(world, "save_checkpoints", "kit.checkpoints", {"count": 3})
    check(len([line for line in worker.lines() if line["event"] == "did"]) == 3, "something was computed twice")


@alone
def a_lost_answer_of_a_suspension(world: World) -> None:
    """A suspension whose answer was lost is one."""
    lost(world, "suspend", "kit.sleep", {"ms": 500})


@alone
def a_lost_answer_of_the_heartbeat(world: World) -> None:
    """A heartbeat whose answer was lost is sent again."""
    proxy = world.proxy()
    worker = world.worker(Options(heartbeat_ms=300, lease_ms=3000), proxy)
    run = world.do(worker, "kit.hang", {"ms": 3500}, retry={"attempts": 1})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    proxy.lose_answer("(?:renew_leases|heartbeat)")
    check(world.completed(run) == "hung", "the output differs")
    check(proxy.lost, "no answer was lost")
    check(len(world.registrations(worker)) == 1, "it registered anew")


@alone
def a_lost_answer_of_the_registration(world: World) -> None:
    """A registration whose answer was lost is made again."""
    proxy = world.proxy()
    proxy.lose_answer("register_worker")
    worker = world.worker(Options(), proxy)
    check(world.completed(world.do(worker, "kit.echo", 1)) == 1, "the output differs")
    check(proxy.lost, "no answer was lost")


@alone
def a_function_goes_on_after_a_kill(world: World) -> None:
    """A durable function that another worker takes over does not compute again what is saved."""
    worker = world.worker(Options(**SHORT))
    flow = world.flow(worker.options.queue, {"handler": "kit.checkpoints"}, {"handler": "kit.sleep", "after": ["s0"]})
    run = world.start(flow, {"count": 2, "ms": 2500})
    eventually("the function sleeps", lambda: world.rows("select true from longhaul.wait where run_id = %s", run))
    worker.kill()
    world.worker(Options(queue=worker.options.queue))
    check(world.completed(run) == "slept", "the output differs")
    check(world.outcomes(run) == ["suspended"], f"attempts ended {world.outcomes(run)}")
