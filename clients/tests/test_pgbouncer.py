"""Both clients behind PgBouncer in transaction mode, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from longhaul_conformance.world import eventually
from psycopg.conninfo import conninfo_to_dict

from .conftest import NODE, PYTHON, ROOT, needs_node

PROGRAM = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")

#: What a pooler could break.
CASES = [
    "completes_a_step",
    "a_bad_output_fails_alone",
    "a_checkpoint_is_computed_once",
    "a_sleep_holds_no_slot",
    "a_signal_wakes_a_step",
    "a_child_run_gives_its_output",
    "a_detached_child_is_started_once",
    "progress_is_stored",
    "a_transaction_of_the_handler_completes_the_step",
    "a_busy_run_holds_nobody_up",
    "an_idle_worker_is_woken",
    "a_worker_that_is_not_notified_polls",
    "two_workers_share_a_queue",
    "connections_that_break_cost_nothing",
    "sigterm_lets_short_steps_finish",
]


@pytest.fixture(scope="module")
def pooler(database: str) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("pgbouncer is not installed")
    parts = conninfo_to_dict(database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="longhaul-pgbouncer-"))
    folder.chmod(0o777)
    (folder / "users").write_text('"pooled" ""\n')
    server = " ".join(f"{key}={value}" for key, value in parts.items() if key in ("host", "port", "dbname", "user", "password"))
    (folder / "ini").write_text(
        f"[databases]\npooled = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = trust\nauth_file = {folder}/users\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 500\n"
        f"logfile = {folder}/log\n"
    )
    for file in folder.iterdir():
        file.chmod(0o644)
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    process = subprocess.Popen([PROGRAM, *user, str(folder / "ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"postgresql://pooled@127.0.0.1:{port}/pooled?sslmode=disable"

    def answers() -> bool:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            return False
        return True

    try:
        eventually("pgbouncer answers", answers)
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("command", [pytest.param(PYTHON, id="python"), pytest.param(NODE, id="node", marks=needs_node)])
def test_a_worker_behind_a_pooler_passes(database: str, pooler: str, tmp_path: Path, command: list[str]) -> None:
    only = [word for name in CASES for word in ("--only", name)]
    kit = [
        sys.executable,
        "-m",
        "longhaul_conformance",
        "--worker-database",
        pooler,
        "--listen",
        database,
        "--json",
        str(tmp_path / "grades"),
    ]
    done = subprocess.run(
        [*kit, *only, "--", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT / "conformance"), "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=150,
    )
    grades = json.loads((tmp_path / "grades").read_text())
    assert done.returncode == 0 and grades["passed"] == len(CASES), done.stdout
