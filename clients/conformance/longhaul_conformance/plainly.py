"""Steps that are done, and that fail, all on one worker."""

from __future__ import annotations

import psycopg

from .grade import plain
from .world import Process, World, check, eventually

RETRY = {"attempts": 5, "backoff": "1ms", "jitter": 0}


@plain
def registers_with_what_it_was_told(world: World, worker: Process) -> None:
    """It registers with its name, queue, slots, lease, process and handlers."""
    rows = world.registrations(worker)
    check(len(rows) == 1, f"it registered {len(rows)} times")
    row = rows[0]
    options = worker.options
    check(row["queues"] == [options.queue], f"queues are {row['queues']}")
    check(row["slots"] == options.slots, f"slots are {row['slots']}")
    check(row["lease_ms"] == options.lease_ms, f"the lease is {row['lease_ms']} ms")
    check("kit.echo" in row["handlers"] and "kit.transaction" in row["handlers"], f"handlers are {row['handlers']}")
    check(row["version"], "it has no version")


@plain
def completes_a_step(world: World, worker: Process) -> None:
    """A step completes with its handler's output, in one attempt."""
    run = world.do(worker, "kit.echo", {"a": [1, "two", None, True], "b": {"c": 1.5}})
    check(world.completed(run) == {"a": [1, "two", None, True], "b": {"c": 1.5}}, "the output is not the input")
    check(world.attempts(run) == [], "there were other attempts")


@plain
def keeps_values_as_they_are(world: World, worker: Process) -> None:
    """Unicode, large whole numbers, empty texts, quotes and backslashes come back unchanged."""
    value = {"": "", "ü→🦀": "\\ \" \t \u2028 '; drop --", "n": 9007199254740991, "deep": [[[[[{}]]]]], "f": -0.25}
    check(world.completed(world.do(worker, "kit.echo", value)) == value, "the output differs")


@plain
def an_output_may_be_null(world: World, worker: Process) -> None:
    """A handler may return nothing, or null."""
    check(world.completed(world.do(worker, "kit.echo", None)) is None, "the output is not null")


@plain
def knows_about_its_step(world: World, worker: Process) -> None:
    """The handler is told run, flow, version, step, try, token, key and settings."""
    flow = world.flow(worker.options.queue, {"handler": "kit.info", "with": {"k": [1]}, "retry": {"attempts": 4}})
    run = world.start(flow, 7)
    told = world.completed(run)
    wanted = {
        "run_id": str(run),
        "flow": flow,
        "flow_version": 1,
        "step": "s0",
        "attempt": 1,
        "max_attempts": 4,
        "fencing_token": 1,
        "idempotency_key": f"{run}/0",
        "parameters": {"k": [1]},
        "input": 7,
    }
    check(told == wanted, f"it was told {told}, not {wanted}")


@plain
def items_of_a_fan_out_have_inputs_of_their_own(world: World, worker: Process) -> None:
    """Each item of a fan-out has its own input and key, and the settings of its step."""
    step = {"name": "items", "handler": "kit.info", "for_each": "$.input", "with": {"k": 2}}
    run = world.start(world.flow(worker.options.queue, step), [10, 20, 30])
    world.ended(run)
    rows = world.rows("select output from longhaul.step where run_id = %s and seq >= 32768 order by seq", run)
    told = [row["output"] for row in rows]
    check([one["input"] for one in told] == [10, 20, 30], f"the inputs were {told}")
    check(len({one["idempotency_key"] for one in told}) == 3, "they share a key")
    check(all(one["parameters"] == {"k": 2} for one in told), "the settings are missing")


@plain
def steps_of_one_flow_go_to_their_handlers(world: World, worker: Process) -> None:
    """Each step's own handler is called, in the order of the flow; outputs of predecessors can be read by name."""
    flow = world.flow(
        worker.options.queue,
        {"name": "first", "handler": "kit.echo"},
        {"name": "second", "handler": "kit.output", "after": ["first"], "input": {"step": "first"}},
    )
    check(world.completed(world.start(flow, {"x": 1})) == {"output": {"x": 1}}, "the output of the predecessor was not read")


@plain
def an_unfinished_step_has_no_output(world: World, worker: Process) -> None:
    """Asking for the output of a step that does not exist fails the step, with a message."""
    error = world.failed(world.do(worker, "kit.output", {"step": "nowhere"}))
    check("nowhere" in error.get("message", ""), f"the error is {error}")


@plain
def a_failed_attempt_is_tried_again(world: World, worker: Process) -> None:
    """A retryable error consumes an attempt; the step completes in a later one."""
    run = world.do(worker, "kit.fail", {"times": 2, "message": "not yet", "code": "c7"}, retry=RETRY)
    check(world.completed(run) == {"attempt": 3}, "the third attempt does not know that it is one")
    kept = world.attempts(run)
    check([row["outcome"] for row in kept] == ["failed", "failed"], f"attempts ended {world.outcomes(run)}")
    check(kept[0]["error"].get("message") == "not yet" and kept[0]["error"].get("code") == "c7", f"the error is {kept[0]['error']}")


@plain
def attempts_are_used_up(world: World, worker: Process) -> None:
    """When no attempt is left the run fails, with the message of the last error."""
    run = world.do(worker, "kit.fail", {"times": 9, "message": "never"}, retry={**RETRY, "attempts": 2})
    check("never" in world.failed(run).get("message", ""), "the message is lost")
    check(world.outcomes(run) == ["failed", "failed"], f"attempts ended {world.outcomes(run)}")


@plain
def a_permanent_failure_is_not_tried_again(world: World, worker: Process) -> None:
    """A permanent error fails the step at once, however many attempts are left."""
    run = world.do(worker, "kit.refuse", {"message": "no such customer", "code": "unknown"}, retry=RETRY)
    error = world.failed(run)
    check(error.get("message", "").endswith("no such customer"), f"the error is {error}")
    check(world.outcomes(run) == ["failed"], f"attempts ended {world.outcomes(run)}")


@plain
def a_code_may_forbid_another_attempt(world: World, worker: Process) -> None:
    """An error's code stands where the flow's never_on looks."""
    run = world.do(worker, "kit.fail", {"times": 9, "code": "bad_card"}, retry={**RETRY, "never_on": ["bad_card"]})
    world.failed(run)
    check(world.outcomes(run) == ["failed"], f"attempts ended {world.outcomes(run)}")


@plain
def a_hint_says_when_to_try_again(world: World, worker: Process) -> None:
    """An error may say when the next attempt begins, instead of the step's backoff."""
    run = world.do(worker, "kit.retry_after", {"ms": 700}, retry={"attempts": 3, "backoff": "1h"})
    world.completed(run)
    waited = world.one(
        "select extract(epoch from s.started_at - a.ended_at) from longhaul.step s join longhaul.attempt a using (run_id, seq)"
        " where s.run_id = %s",
        run,
    )
    check(waited >= 0.69, f"the next attempt began after {waited:.2f} s, not 0.7")


@plain
def a_snooze_consumes_no_attempt(world: World, worker: Process) -> None:
    """A snoozed step is called again after the time, as the same try under a new token."""
    run = world.do(worker, "kit.snooze", {"ms": 300}, retry={"attempts": 1})
    check(world.completed(run) == {"attempt": 1, "token": 2}, "it counted as a try")
    check(world.outcomes(run) == ["snoozed"], f"attempts ended {world.outcomes(run)}")


@plain
def a_deferral_consumes_no_attempt(world: World, worker: Process) -> None:
    """A deferred step is called again after the step's backoff, as the same try."""
    run = world.do(worker, "kit.defer", {}, retry={"attempts": 1, "backoff": "10ms"})
    check(world.completed(run) == {"attempt": 1, "token": 2}, "it counted as a try")
    check(world.outcomes(run) == ["deferred"], f"attempts ended {world.outcomes(run)}")


@plain
def a_crash_of_a_handler_is_a_failed_attempt(world: World, worker: Process) -> None:
    """Whatever a handler throws is a failed attempt with a message, and harms no other step."""
    run = world.do(worker, "kit.crash", {"times": 1}, retry=RETRY)
    check(world.completed(run) == {"attempt": 2}, "it was not tried again")
    kept = world.attempts(run)[0]
    check(kept["outcome"] in ("failed", "panicked") and kept["error"].get("message"), f"kept was {kept['outcome']}: {kept['error']}")


@plain
def an_attempt_ends_at_its_timeout(world: World, worker: Process) -> None:
    """An attempt that takes longer than the step's timeout has timed out; its handler is stopped."""
    run = world.do(worker, "kit.hang", {"ms": 20_000}, timeout="400ms", retry={"attempts": 1})
    world.failed(run, 10)
    check(world.outcomes(run) == ["timed_out"], f"attempts ended {world.outcomes(run)}")
    eventually("the handler is stopped", lambda: worker.events(run, "cancelled"), 5)


@plain
def a_bad_output_fails_alone(world: World, worker: Process) -> None:
    """An output that PostgreSQL cannot store fails its own step, with a message; those beside it complete."""
    good = world.flow(worker.options.queue, {"handler": "kit.echo"})
    bad = world.do(worker, "kit.nul", retry={"attempts": 1})
    runs = [world.start(good, number) for number in range(20)]
    check("0000" in world.failed(bad).get("message", "") or "null" in world.error(bad).get("message", "").lower(), f"{world.error(bad)}")
    for number, run in enumerate(runs):
        check(world.completed(run) == number, "a step beside it did not complete")


@plain
def a_bad_output_is_not_tried_again(world: World, worker: Process) -> None:
    """An output that cannot be stored is permanent: it would be the same again."""
    run = world.do(worker, "kit.nul", retry=RETRY)
    world.failed(run)
    check(world.outcomes(run) == ["failed"], f"attempts ended {world.outcomes(run)}")


@plain
def a_large_output_is_refused(world: World, worker: Process) -> None:
    """An output above the limit fails the step with a message that says so; one just below it completes."""
    bad = world.do(worker, "kit.big", {"bytes": 3_000_000}, retry={"attempts": 1})
    good = world.do(worker, "kit.big", {"bytes": 1_000_000})
    check("limit" in world.failed(bad).get("message", ""), f"the error is {world.error(bad)}")
    check(len(world.completed(good)) == 1_000_000, "the output was cut")


@plain
def progress_is_stored(world: World, worker: Process) -> None:
    """The last value of each key of a step's progress is stored, under the attempt."""
    run = world.do(worker, "kit.progress", {"value": {"n": 5}})
    world.completed(run)
    rows = {row["key"]: row for row in world.rows("select key, value, attempt from longhaul.progress where run_id = %s", run)}
    check(rows.get("", {}).get("value") == {"done": 1, "of": 2, "message": "half"}, f"stored was {rows}")
    check(rows.get("k", {}).get("value") == {"n": 5} and rows["k"]["attempt"] == 1, f"stored was {rows}")


@plain
def a_transaction_of_the_handler_completes_the_step(world: World, worker: Process) -> None:
    """What a handler writes in the transaction that completes its step is there exactly once."""
    run = world.do(worker, "kit.transaction", {"commit": True}, retry=RETRY)
    check(world.completed(run) == {"token": 1}, "the output differs")
    check(world.attempts(run) == [], f"attempts ended {world.outcomes(run)}")
    check(world.rows("select token from kit_effect where run_id = %s", run) == [{"token": 1}], "the effect differs")


@plain
def a_transaction_that_is_rolled_back_completes_nothing(world: World, worker: Process) -> None:
    """When that transaction is rolled back the attempt has failed, and the next one does it."""
    run = world.do(worker, "kit.transaction", {"commit": False}, retry=RETRY)
    check(world.completed(run) == {"token": 2}, "the output differs")
    check(world.outcomes(run) == ["failed"], f"attempts ended {world.outcomes(run)}")
    check(world.rows("select token from kit_effect where run_id = %s", run) == [{"token": 2}], "the effect differs")


@plain
def a_busy_run_holds_nobody_up(world: World, worker: Process) -> None:
    """While somebody holds a run in an open transaction, outcomes of other runs are stored; that one's follows."""
    held = world.do(worker, "kit.hang", {"ms": 600}, retry={"attempts": 1})
    world.running(held)
    with psycopg.connect(world.url) as holder:
        holder.execute("select from longhaul.run where id = %s for update", (held,))
        eventually("the handler ends", lambda: worker.events(held, "end"))
        others = world.flow(worker.options.queue, {"handler": "kit.echo"})
        for run in [world.start(others, number) for number in range(5)]:
            world.completed(run, 8)
        check(world.state(held) == "running", "the held run has ended")
        holder.rollback()
    check(world.completed(held) == "hung", "the output differs")
    check(world.attempts(held) == [], f"attempts ended {world.outcomes(held)}")
