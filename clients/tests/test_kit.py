"""The kit finds what is wrong with a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .conftest import ROOT

#: What the wrong worker does well, and what the kit must find.
RIGHT = ["registers_with_what_it_was_told", "completes_a_step", "keeps_values_as_they_are", "an_output_may_be_null"]
WRONG = [
    "a_permanent_failure_is_not_tried_again",
    "a_bad_output_fails_alone",
    "an_idle_worker_is_quiet",
    "sigterm_lets_short_steps_finish",
    "a_lost_answer_of_claim",
    "connections_that_break_cost_nothing",
    "a_frozen_worker_completes_nothing",
]


def test_a_wrong_worker_fails(database: str, tmp_path: Path) -> None:
    grades = tmp_path / "grades.json"
    only = [word for name in RIGHT + WRONG for word in ("--only", name)]
    command = [sys.executable, "-m", "longhaul_conformance", "--at-a-time", "10", "--json", str(grades), *only]
    done = subprocess.run(
        [*command, "--", sys.executable, str(ROOT / "tests/wrong_worker.py")],
        env=os.environ | {"PYTHONPATH": str(ROOT / "conformance"), "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    passed = {one["name"]: one["passed"] for one in json.loads(grades.read_text())["cases"]}
    assert {name for name, fine in passed.items() if not fine} == set(WRONG), done.stdout
    assert f"{len(RIGHT)} passed, {len(WRONG)} failed" in done.stdout


def test_wrong_usage_is_told() -> None:
    for arguments in (["--", "no-such-program"], []):
        done = subprocess.run(
            [sys.executable, "-m", "longhaul_conformance", *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT / "conformance"), "DATABASE_URL": "postgresql://127.0.0.1:1/x"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
