"""Durable functions, on the worker that the plain cases share: checkpoints, waits, children, questions, branches, and code that changes."""

from __future__ import annotations

from uuid import UUID, uuid4, uuid5

from .grade import plain
from .world import Process, World, check

RETRY = {"attempts": 5, "backoff": "1ms", "jitter": 0}


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
