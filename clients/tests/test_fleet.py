"""Workers of three languages and one flow."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from uuid import uuid4

import pytest
from longhaul_conformance.world import Options, Process, World, check, eventually

from .conftest import NODE, PYTHON, Worlds, needs_node

SHORT = {"heartbeat_ms": 400, "lease_ms": 2000, "slots": 4}

RETRY = {"attempts": 10, "backoff": "1ms"}


class Rust:
    """A `longhaul worker`."""

    def __init__(self, world: World, queue: str) -> None:
        program = os.environ.get("LONGHAUL_BIN", "longhaul")
        self.name = "rust-" + uuid4().hex[:8]
        arguments = ["--queue", f"{queue}=4", "--allow-command", "sleep", "--heartbeat", "700ms", "--name", self.name, "--no-chores"]
        self.process = subprocess.Popen(
            [program, "worker", *arguments],
            env=os.environ | {"DATABASE_URL": world.url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually("the Rust worker registers", lambda: world.rows("select true from longhaul.worker where name = %s", self.name), 30)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@needs_node
def test_one_flow_survives_the_kill_of_each_of_its_workers(worlds: Worlds) -> None:
    python, node = worlds.of(PYTHON), worlds.of(NODE)
    queues = {language: f"{language}-{uuid4().hex[:8]}" for language in ("rust", "python", "node")}
    order = ["rust", "python", "node"] * 2
    steps = []
    for number, language in enumerate(order):
        work = {"handler": "command", "with": {"program": "sleep", "args": ["0.2"]}} if language == "rust" else {"handler": "kit.hang"}
        after = {"after": [f"s{number - 1}"]} if number else {}
        steps.append({**work, **after, "queue": queues[language], "retry": RETRY})

    def start(language: str) -> Process | Rust:
        if language == "rust":
            return Rust(python, queues["rust"])
        world = python if language == "python" else node
        return world.worker(Options(queue=queues[language], **SHORT))  # type: ignore[arg-type]

    workers = {language: start(language) for language in queues}
    flow = python.flow("unused", *steps)
    runs = [python.start(flow, {"ms": 200}) for _ in range(16)]
    for language in queues:
        # Killed while it works.
        eventually(
            f"{language} works",
            lambda language=language: python.rows(  # type: ignore[misc]
                "select true from longhaul.lease l join longhaul.lane n on n.id = l.lane_id join longhaul.queue q on q.id = n.queue_id"
                " where q.name = %s",
                queues[language],
            ),
            30,
        )
        workers[language].kill()
        time.sleep(0.3)
        workers[language] = start(language)
    for run in runs:
        python.completed(run, 60)
    workers["rust"].kill()
    outcomes = [outcome for run in runs for outcome in python.outcomes(run)]
    check(set(outcomes) == {"expired"}, f"attempts ended {outcomes}")
    done = python.rows("select run_id, seq, started_at, ended_at from longhaul.step where run_id = any(%s) order by run_id, seq", runs)
    check(len(done) == len(runs) * len(steps), "a step is missing")
    for before, after in itertools.pairwise(done):
        if before["run_id"] == after["run_id"]:
            check(before["ended_at"] <= after["started_at"], "a step began before its predecessor had ended")
    check(python.rows("select * from longhaul.room_violations") == [], "a step is in a wrong room")


@needs_node
@pytest.mark.parametrize(("first", "second"), [(PYTHON, NODE), (NODE, PYTHON)], ids=["python-then-node", "node-then-python"])
def test_a_function_that_one_language_began_ends_in_another(worlds: Worlds, first: list[str], second: list[str]) -> None:
    began, ends = worlds.of(first), worlds.of(second)
    worker = began.worker(Options(**SHORT))  # type: ignore[arg-type]
    queue = worker.options.queue
    retry = {"retry": RETRY}
    all_run = began.start(began.flow(queue, {"handler": "kit.all", **retry}), {"ms": [1500, 1500]})
    race = began.start(began.flow(queue, {"handler": "kit.race", **retry}), {"ms": [600_000, 1500]})
    again = began.start(began.flow(queue, {"handler": "kit.signal", **retry}), {"topic": "go"})
    for run in (all_run, race):
        began.waits_for(run, "sleep")
    began.waits_for(again, "signal")
    worker.kill()
    ends.worker(Options(queue=queue))
    check(ends.completed(all_run) == [0, 1], "the values differ")
    check(ends.completed(race) == {"winner": 1}, "another one won")
    ends.rows("select longhaul.signal_run('default', %s, 'go', '1')", again)
    check(ends.completed(again) == {"payload": 1}, "the payload differs")
