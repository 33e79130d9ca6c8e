"""Steps that are done, fail, wait and go on, all on one worker."""

from __future__ import annotations

from uuid import UUID, uuid4, uuid5

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
def a_checkpoint_is_computed_once(world: World, worker: Process) -> None:
    """What a checkpoint computed is not computed again in the next attempt."""
    run = world.do(worker, "kit.checkpoints", {"count": 5, "fail_at": 3}, retry=RETRY)
    check(world.completed(run) == [0, 1, 2, 3, 4], "the values differ")
    did = [line["number"] for line in worker.events(run, "did")]
    check(did == [0, 1, 2, 3, 4], f"computed were {did}")
    saved = world.rows("select path, kind, name from longhaul.checkpoint where run_id = %s order by path", run)
    wanted = [{"path": str(number), "kind": "step", "name": f"n{number}"} for number in range(5)]
    check(saved == wanted, f"saved were {saved}")


@plain
def checkpoints_can_be_switched_off(world: World, worker: Process) -> None:
    """With `checkpoints: false` in the flow nothing is saved, and all is computed again."""
    flow = world.flow(worker.options.queue, {"handler": "kit.checkpoints", "retry": RETRY}, checkpoints=False)
    run = world.start(flow, {"count": 3, "fail_at": 2})
    check(world.completed(run) == [0, 1, 2], "the values differ")
    check(not world.rows("select true from longhaul.checkpoint where run_id = %s", run), "something was saved")
    check(len(worker.events(run, "did")) == 5, "it was not computed again")


@plain
def a_long_history_is_read(world: World, worker: Process) -> None:
    """A history that is too long to come with the claim is asked for."""
    run = world.do(worker, "kit.checkpoints", {"count": 60, "bytes": 20_000, "fail_at": 59}, retry=RETRY)
    check(world.completed(run, 60) == 60, "the values differ")
    check(len(worker.events(run, "did")) == 60, f"computed were {len(worker.events(run, 'did'))}, not 60")


@plain
def a_sleep_holds_no_slot(world: World, worker: Process) -> None:
    """A durable sleep suspends the step, and ends when its time has come."""
    run = world.do(worker, "kit.sleep", {"ms": 1200})
    world.waits_for(run, "sleep")
    check(world.leases(run) == [], "it holds a lease while it sleeps")
    check(world.completed(run) == "slept", "the output differs")
    check(world.outcomes(run) == ["suspended"], f"attempts ended {world.outcomes(run)}")


@plain
def a_signal_wakes_a_step(world: World, worker: Process) -> None:
    """A step that waits for a signal goes on with its payload."""
    run = world.do(worker, "kit.signal", {"topic": "go"})
    world.waits_for(run, "signal")
    world.rows("select longhaul.signal_run('default', %s, 'go', '{\"n\": 1}')", run)
    check(world.completed(run) == {"payload": {"n": 1}}, "the payload differs")


@plain
def a_signal_may_come_first(world: World, worker: Process) -> None:
    """A signal that was sent before the step waits is found."""
    flow = world.flow(worker.options.queue, {"handler": "kit.signal"})
    run: UUID = world.one('select longhaul.create_run(%s, \'{"topic": "go"}\')', flow)
    world.rows("select longhaul.signal_run('default', %s, 'go', '5')", run)
    world.rows("select longhaul.start_pending_run('default', %s)", run)
    check(world.completed(run) == {"payload": 5}, "the payload differs")


@plain
def a_wait_for_a_signal_may_end_in_time(world: World, worker: Process) -> None:
    """A wait with a limit tells that nothing came."""
    check(world.completed(world.do(worker, "kit.signal", {"topic": "go", "within_ms": 300})) == {"timed_out": True}, "it was not told")


@plain
def a_signal_to_a_topic_and_key_is_found(world: World, worker: Process) -> None:
    """A signal to a topic and key reaches the step that waits for both."""
    run = world.do(worker, "kit.topic_signal", {"topic": "paid", "key": f"7-{worker.name}"})
    other = world.do(worker, "kit.topic_signal", {"topic": "paid", "key": f"8-{worker.name}", "within_ms": 1500})
    world.waits_for(run, "signal")
    world.rows("select longhaul.send_signal('default', 'paid', %s, '1')", f"7-{worker.name}")
    check(world.completed(run) == {"payload": 1}, "the payload differs")
    check(world.completed(other) == {"timed_out": True}, "the other one got it as well")


@plain
def a_child_run_gives_its_output(world: World, worker: Process) -> None:
    """A function that starts a child run goes on with the child's output."""
    flow = world.flow(worker.options.queue, {"handler": "kit.echo"})
    run = world.do(worker, "kit.child", {"flow": flow, "input": {"n": 3}})
    check(world.completed(run) == {"child": {"n": 3}}, "the output differs")


@plain
def a_failed_child_is_an_error(world: World, worker: Process) -> None:
    """A child that fails is an error of the function, which is not tried again."""
    flow = world.flow(worker.options.queue, {"handler": "kit.refuse"})
    run = world.do(worker, "kit.child", {"flow": flow, "input": {"message": "no luck"}}, retry=RETRY)
    check("no luck" in world.failed(run).get("message", ""), f"the error is {world.error(run)}")
    check(world.one("select count(*) from longhaul.run where parent_id = %s", run) == 1, "there is another child")


@plain
def a_detached_child_is_started_once(world: World, worker: Process) -> None:
    """A child that nobody waits for is started once, however many attempts there are, and outlives its parent."""
    flow = world.flow(worker.options.queue, {"handler": "kit.echo"})
    run = world.do(worker, "kit.detached", {"flow": flow, "input": 1}, retry=RETRY)
    child = UUID(world.completed(run)["child"])
    check(world.completed(child) == 1, "the child did not run")
    check(world.one("select count(*) from longhaul.runs where flow = %s", flow) == 1, "there is another child")


@plain
def a_question_is_answered(world: World, worker: Process) -> None:
    """A question pauses the run; the decision comes back with choice, person and data."""
    run = world.do(worker, "kit.ask", {"question": "All of it?", "choices": ["all", "half"]})
    world.waits_for(run, "decision")
    check(world.state(run) == "paused", f"the run is {world.state(run)}")
    asked = world.rows("select question, choices from longhaul.questions where run_id = %s", run)
    check(asked == [{"question": "All of it?", "choices": ["all", "half"]}], f"asked was {asked}")
    world.rows("select longhaul.decide('default', %s, 's0', 'half', '{\"n\": 2}', 'anna')", run)
    check(world.completed(run) == {"choice": "half", "by": "anna", "data": {"n": 2}}, "the decision differs")


@plain
def an_interrupt_is_answered_by_resuming(world: World, worker: Process) -> None:
    """An interrupt pauses the run; whoever resumes it gives the data."""
    run = world.do(worker, "kit.interrupt", {"reason": "look at this"})
    world.waits_for(run, "interrupt")
    world.rows("select longhaul.resume_run('default', %s, '{\"ok\": true}')", run)
    check(world.completed(run) == {"data": {"ok": True}}, "the data differ")


@plain
def a_decision_before_the_step_is_read(world: World, worker: Process) -> None:
    """The handler of a step with an approval reads who approved."""
    run = world.do(worker, "kit.decision", approval={"question": "May it?"})
    world.waits_for(run, "decision")
    world.rows("select longhaul.decide('default', %s, 's0', 'approve', null, 'bert')", run)
    told = world.completed(run)
    check(told is not None and (told["choice"], told["by"]) == ("approve", "bert"), f"told was {told}")
    check(world.completed(world.do(worker, "kit.decision")) is None, "there is a decision where none was asked for")


@plain
def outside_work_completes_a_step(world: World, worker: Process) -> None:
    """A step that handed its work out holds no slot; the report of the provider is its output."""
    key = uuid4().hex
    run = world.do(worker, "kit.dispatch", {"topic": "label", "key": key})
    world.waits_for(run, "external")
    check(world.leases(run) == [], "it holds a lease while it waits")
    world.rows("select longhaul.complete_external('default', 'label', %s, '{\"file\": 9}')", key)
    check(world.completed(run) == {"file": 9}, "the output differs")


@plain
def outside_work_that_fails_is_tried_again(world: World, worker: Process) -> None:
    """A failure that the provider reports, or a report that does not come in time, is a failed attempt."""
    run = world.do(worker, "kit.dispatch", {"topic": "label", "key": f"k-{worker.name}", "within_ms": 300}, retry={**RETRY, "attempts": 2})
    world.failed(run)
    check(world.outcomes(run) == ["timed_out", "timed_out"], f"attempts ended {world.outcomes(run)}")
    check(len(worker.events(run, "dispatched")) == 2, "it was not handed out anew")


@plain
def a_function_continues_as_new(world: World, worker: Process) -> None:
    """A function begins anew with another input and an empty history."""
    run = world.do(worker, "kit.again", {"n": 3})
    check(world.completed(run) == {"seen": 3}, "the output differs")
    check(world.one("select count(*) from longhaul.checkpoint where run_id = %s", run) == 1, "the history was not emptied")


@plain
def branches_run_side_by_side(world: World, worker: Process) -> None:
    """Branches have places of their own, and wait together: three sleeps take as long as one."""
    run = world.do(worker, "kit.all", {"ms": [500, 500, 500]})
    check(world.completed(run) == [0, 1, 2], "the values differ")
    paths = [row["path"] for row in world.rows("select path from longhaul.checkpoint where run_id = %s order by path", run)]
    check(paths == ["0.0.0", "0.0.1", "0.1.0", "0.1.1", "0.2.0", "0.2.1"], f"the places are {paths}")
    check(len(world.attempts(run)) == 1, f"it was suspended {len(world.attempts(run))} times")


@plain
def the_winner_of_a_race_stays(world: World, worker: Process) -> None:
    """The first branch that ends wins, also in later attempts; the others are not waited for."""
    run = world.do(worker, "kit.race", {"ms": [600_000, 300, 600_000]}, retry=RETRY)
    check(world.completed(run) == {"winner": 1}, "another one won")
    won = world.one("select value from longhaul.checkpoint where run_id = %s and kind = 'race' and path = '0'", run)
    check(won == 1, f"recorded as winner is {won}")


@plain
def what_is_random_stays(world: World, worker: Process) -> None:
    """Time, UUID and random number of a function are the same in every attempt, and derived as the protocol says."""
    run = world.do(worker, "kit.stable", retry=RETRY)
    world.completed(run)
    first, second = (line["found"] for line in worker.events(run, "stable"))
    check(first == second, f"{first} became {second}")
    check(first["uuid"] == str(uuid5(run, "0/1")), "the UUID is not the one of run, step and place")
    check(first["random"] == (uuid5(run, "0/2").int & ((1 << 53) - 1)) / (1 << 53), "the number is not the one of run, step and place")


@plain
def code_that_does_not_fit_is_told(world: World, worker: Process) -> None:
    """A call that does not fit the history fails the step with the code history_mismatch."""
    run = world.do(worker, "kit.mismatch", retry=RETRY)
    check(world.failed(run).get("code") == "history_mismatch", f"the error is {world.error(run)}")
    message = world.error(run)["message"]
    check("c1" in message and "c2" in message, f"it does not name both sides: {message}")


@plain
def code_that_ends_too_early_is_told(world: World, worker: Process) -> None:
    """A function that ends before its history does is reported as well."""
    run = world.do(worker, "kit.shorter", retry=RETRY)
    check(world.failed(run).get("code") == "history_mismatch", f"the error is {world.error(run)}")


@plain
def a_durable_call_in_a_checkpoint_is_refused(world: World, worker: Process) -> None:
    """A durable call in the function of a checkpoint is an error at once, code misplaced_call."""
    run = world.do(worker, "kit.misplaced", retry=RETRY)
    check(world.failed(run).get("code") == "misplaced_call", f"the error is {world.error(run)}")


@plain
def code_can_change_under_live_runs(world: World, worker: Process) -> None:
    """`patched` is true in new runs, and false in those whose history goes on without the change."""
    old = world.do(worker, "kit.patched", {"fresh": False}, retry=RETRY)
    new = world.do(worker, "kit.patched", {"fresh": True}, retry=RETRY)
    check(world.completed(old) == {"patched": False}, "an old run got the change")
    check(world.completed(new) == {"patched": True}, "a new run did not get it")


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
