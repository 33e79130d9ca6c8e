"""A worker as one would write it from a glance at the calls: it claims, works and completes, and knows nothing of what can go wrong.
The kit must say so."""

from __future__ import annotations

import os
import time

import psycopg
from psycopg.types.json import Jsonb


def main() -> None:
    env = os.environ
    connection = psycopg.connect(env["DATABASE_URL"], autocommit=True)
    names = ["kit.echo", "kit.fail", "kit.refuse", "kit.hang", "kit.nul", "kit.transaction"]
    row = connection.execute(
        "select worker_id from longhaul.register_worker(%s, %s, 'here', 1, '0', %s, %s, %s, %s)",
        (
            env["LONGHAUL_TENANT"],
            env["LONGHAUL_NAME"],
            [env["LONGHAUL_QUEUE"]],
            names,
            int(env["LONGHAUL_SLOTS"]),
            int(env["LONGHAUL_LEASE_MS"]),
        ),
    ).fetchone()
    assert row is not None
    worker = row[0]
    while True:
        claimed = connection.execute(
            "select run_id, seq, attempt, handler, input from longhaul.claim_steps(%s, %s, array[1])", (worker, [env["LONGHAUL_QUEUE"]])
        ).fetchall()
        for run_id, seq, attempt, handler, input in claimed:
            if handler in ("kit.fail", "kit.refuse"):
                error = Jsonb({"message": input["message"]})
                connection.execute("select longhaul.fail(%s, %s, %s, %s, %s)", (worker, [run_id], [seq], [attempt], [error]))
                continue
            if handler == "kit.hang":
                time.sleep(input["ms"] / 1000)
            output = Jsonb("a\0b" if handler == "kit.nul" else input)
            connection.execute("select longhaul.complete(%s, %s, %s, %s, %s)", (worker, [run_id], [seq], [attempt], [output]))
        time.sleep(0.01)


if __name__ == "__main__":
    main()
