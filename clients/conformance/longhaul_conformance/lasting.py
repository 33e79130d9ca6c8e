"""How a worker shares its slots, is told of things, and ends."""

from __future__ import annotations

import time

import psycopg

from .grade import alone
from .world import Options, World, check, eventually


@alone
def slots_are_used_and_never_exceeded(world: World) -> None:
    """It does as many steps at a time as it has slots, and no more."""
    worker = world.worker(Options(slots=3))
    flow = world.flow(worker.options.queue, {"handler": "kit.hang"})
    runs = [world.start(flow, {"ms": 250}) for _ in range(12)]
    most = 0

    def look() -> bool:
        nonlocal most
        lines = worker.lines()
        now = sum(1 if line["event"] == "begin" else -1 for line in lines if line["event"] in ("begin", "end"))
        most = max(most, now)
        return sum(line["event"] == "end" for line in lines) == 12

    eventually("all are done", look)
    for run in runs:
        world.completed(run)
    running = best = 0
    for line in worker.lines():
        running += {"begin": 1, "end": -1}.get(line["event"], 0)
        best = max(best, running)
    check(best == 3, f"{best} ran at a time, with 3 slots")


@alone
def an_idle_worker_is_woken(world: World) -> None:
    """An idle worker begins a step when it is notified, long before it would look by itself."""
    worker = world.worker(Options(poll_ms=30_000, heartbeat_ms=10_000, lease_ms=30_000))
    eventually("it asks to be notified", lambda: listens(world, worker.options.queue), 10)
    time.sleep(0.3)
    for number in range(3):
        began = time.monotonic()
        check(world.completed(world.do(worker, "kit.echo", number), 10) == number, "the output differs")
        check(time.monotonic() - began < 4, f"it took {time.monotonic() - began:.1f} s")


def listens(world: World, queue: str) -> bool:
    return bool(world.rows("select true from longhaul.listener n join longhaul.queue q on q.id = n.queue_id where q.name = %s", queue))


@alone
def a_worker_that_is_not_notified_polls(world: World) -> None:
    """Without notifications it looks by itself."""
    worker = world.worker(Options(listen=False, poll_ms=200))
    time.sleep(1)
    check(world.completed(world.do(worker, "kit.echo", 1), 5) == 1, "the output differs")


@alone
def an_idle_worker_is_quiet(world: World) -> None:
    """An idle worker asks rarely, also while an unrelated transaction is open for long."""
    proxy = world.proxy()
    worker = world.worker(Options(poll_ms=500), proxy)
    with psycopg.connect(world.url) as other:
        other.execute("create temporary table kit_unrelated (n integer)")
        other.execute("insert into kit_unrelated values (1)")
        check(world.completed(world.do(worker, "kit.echo", 1)) == 1, "the output differs")
        time.sleep(1)
        before = sum(proxy.calls.values())
        time.sleep(3)
        calls = sum(proxy.calls.values()) - before
        other.rollback()
    check(calls < 60, f"it made {calls} calls in three seconds in which nothing happened")


@alone
def a_stopped_run_stops_its_handler(world: World) -> None:
    """When a run is stopped, its handler is stopped by a notification, long before the next heartbeat."""
    worker = world.worker(Options(heartbeat_ms=10_000, lease_ms=30_000))
    run = world.do(worker, "kit.hang", {"ms": 60_000})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    world.rows("select longhaul.stop_run('default', %s)", run)
    eventually("the handler is stopped", lambda: worker.events(run, "cancelled"), 5)
    check(world.completed(world.do(worker, "kit.echo", 1)) == 1, "it does nothing any more")


@alone
def a_handler_that_blocks_costs_no_lease(world: World) -> None:
    """Leases are renewed while a handler blocks its thread for longer than they live."""
    worker = world.worker(Options(heartbeat_ms=300, lease_ms=1500))
    run = world.do(worker, "kit.block", {"ms": 4000}, retry={"attempts": 1})
    check(world.completed(run) == "blocked", "the output differs")
    check(world.token(run) == 1, f"it took {world.token(run)} attempts: {world.outcomes(run)}")
    check(len(world.registrations(worker)) == 1, "it registered anew")


@alone
def sigterm_lets_short_steps_finish(world: World) -> None:
    """Told to stop, it claims no more, finishes what it has, leaves and ends with exit code 0."""
    worker = world.worker(Options(slots=2))
    flow = world.flow(worker.options.queue, {"handler": "kit.hang"})
    runs = [world.start(flow, {"ms": 1000}) for _ in range(4)]
    eventually("two handlers begin", lambda: sum(line["event"] == "begin" for line in worker.lines()) == 2)
    worker.terminate()
    check(worker.exited(10) == 0, f"the exit code is {worker.process.returncode}")
    states = sorted(world.state(run) for run in runs)
    check(states == ["completed", "completed", "running", "running"], f"the runs are {states}")
    check(not any(world.leases(run) for run in runs), "it has left a lease behind")
    check([row["state"] for row in world.registrations(worker)] == ["gone"], "it has not deregistered")


@alone
def sigterm_hands_long_steps_back(world: World) -> None:
    """What does not finish within the grace goes back to its queue, with no attempt consumed, and another worker does it."""
    worker = world.worker(Options(grace_ms=1500))
    run = world.do(worker, "kit.hang", {"ms": 8000}, retry={"attempts": 1})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    began = time.monotonic()
    worker.terminate()
    check(worker.exited(10) == 0, f"the exit code is {worker.process.returncode}")
    check(time.monotonic() - began < 6, "it took much longer than the grace")
    ended = [row["outcome"] for row in world.attempts(run)]
    check(ended == ["released"], f"attempts ended {ended}")
    failures = world.rows("select failures from longhaul.task where run_id = %s", run)
    check(failures == [{"failures": 0}], f"the step is not ready, or an attempt was consumed: {failures}")
    other = world.worker(Options(queue=worker.options.queue))
    eventually("another worker begins it", lambda: other.events(run, "begin"), 10)


@alone
def a_drained_worker_finishes_and_ends(world: World) -> None:
    """Drained by an operator, it claims no more, finishes what it has however long that takes, and ends."""
    worker = world.worker(Options(heartbeat_ms=10_000, lease_ms=30_000, grace_ms=500))
    run = world.do(worker, "kit.hang", {"ms": 2500})
    eventually("the handler begins", lambda: worker.events(run, "begin"))
    world.rows("select longhaul.drain_worker(%s)", world.registrations(worker)[0]["id"])
    later = world.do(worker, "kit.echo", 1)
    check(worker.exited(12) == 0, f"the exit code is {worker.process.returncode}")
    check(world.completed(run) == "hung", "the step was not finished")
    check(world.state(later) == "running", "it claimed another step")


@alone
def two_workers_share_a_queue(world: World) -> None:
    """Two workers do the steps of one queue side by side, each step once."""
    first = world.worker(Options(slots=2))
    second = world.worker(Options(slots=2, queue=first.options.queue))
    flow = world.flow(first.options.queue, {"handler": "kit.hang"})
    runs = [world.start(flow, {"ms": 150}) for _ in range(20)]
    for run in runs:
        world.completed(run)
        check(world.token(run) == 1, "a step took two attempts")
    for worker in (first, second):
        check(any(line["event"] == "end" for line in worker.lines()), "one of them did nothing")


@alone
def limits_of_a_queue_hold(world: World) -> None:
    """It takes what a claim gives: a queue that is paused gives nothing, and goes on when it is resumed."""
    worker = world.worker()
    queue = worker.options.queue
    world.rows("select longhaul.pause_queue('default', %s)", queue)
    run = world.do(worker, "kit.echo", 1)
    time.sleep(1)
    check(world.state(run) == "running" and not world.leases(run), "it does steps of a paused queue")
    world.rows("select longhaul.resume_queue('default', %s)", queue)
    check(world.completed(run) == 1, "the output differs")
