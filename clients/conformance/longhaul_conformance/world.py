"""What the cases stand on: flows and runs in the database, workers as processes, and what their handlers wrote down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from .proxy import Proxy

TENANT = "default"


class Failed(Exception):
    """The worker did not do what it should; the text says what."""


def check(condition: object, message: str) -> None:
    """Fails a case."""
    if not condition:
        raise Failed(message)


def eventually(what: str, look: Callable[[], Any], timeout: float = 20.0) -> Any:
    """Waits for a condition."""
    end = time.monotonic() + timeout
    pause = 0.02
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.2)


@dataclass
class Options:
    """How a worker is to work."""

    slots: int = 10
    heartbeat_ms: int = 500
    lease_ms: int = 6000
    poll_ms: int = 500
    grace_ms: int = 5000
    listen: bool = True
    queue: str = field(default_factory=lambda: "kit-" + uuid4().hex[:10])


class Process:
    """A worker that is graded."""

    def __init__(self, world: World, options: Options, proxy: Proxy | None, name: str) -> None:
        self.options = options
        self.name = name
        self.log = Path(world.folder, f"{name}.jsonl")
        self.output = Path(world.folder, f"{name}.txt")
        url = world.url_through(proxy) if proxy else world.place.worker_url
        listen = url if world.place.listen_url is None else world.place.listen_url
        env = os.environ | {
            "DATABASE_URL": url,
            "LONGHAUL_QUEUE": options.queue,
            "LONGHAUL_SLOTS": str(options.slots),
            "LONGHAUL_NAME": name,
            "LONGHAUL_TENANT": TENANT,
            "LONGHAUL_HEARTBEAT_MS": str(options.heartbeat_ms),
            "LONGHAUL_LEASE_MS": str(options.lease_ms),
            "LONGHAUL_POLL_MS": str(options.poll_ms),
            "LONGHAUL_GRACE_MS": str(options.grace_ms),
            "LONGHAUL_LISTEN_URL": listen if options.listen else "",
            "LONGHAUL_KIT_LOG": str(self.log),
        }
        self._file = self.output.open("wb")
        self.process = subprocess.Popen(
            list(world.place.command), env=env, stdout=self._file, stderr=subprocess.STDOUT, start_new_session=True
        )
        world.processes.append(self)

    def send(self, number: int) -> None:
        """Sends a signal to the process and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        """As an operator does: the process alone is told."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def exited(self, timeout: float) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"the process has not ended within {timeout:g} s") from None

    def end(self) -> None:
        self.thaw()
        if self.process.poll() is None:
            self.kill()
        self._file.close()

    def lines(self) -> list[dict[str, Any]]:
        """What its handlers wrote down."""
        if not self.log.exists():
            return []
        text = self.log.read_text().splitlines()
        return [json.loads(line) for line in text if line.endswith("}")]

    def events(self, run: UUID, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["run"] == str(run) and line["event"] == event]


@dataclass(frozen=True)
class Place:
    """Where a worker is graded."""

    #: The database, for the kit.
    url: str
    #: What starts the worker.
    command: Sequence[str]
    #: For what it writes.
    folder: str
    #: The database, for the worker: a pooler, perhaps.
    worker_url: str
    #: Where it listens, when that is somewhere else.
    listen_url: str | None = None


class World:
    """One case's: a connection of its own, and workers that end with it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = place.url
        self.folder = place.folder
        self.processes: list[Process] = []
        self._proxies: list[Proxy] = []
        self._connection = psycopg.connect(self.url, autocommit=True)

    def close(self) -> None:
        for process in self.processes:
            process.end()
        for proxy in self._proxies:
            proxy.close()
        self._connection.close()

    # Workers --------------------------------------------------------------------------------------------------------

    def proxy(self) -> Proxy:
        """A way to the database that can break."""
        parts = conninfo_to_dict(self.place.worker_url)
        proxy = Proxy(str(parts.get("host") or "localhost"), int(str(parts.get("port") or 5432)))
        self._proxies.append(proxy)
        return proxy

    def url_through(self, proxy: Proxy) -> str:
        parts = conninfo_to_dict(self.place.worker_url)
        user, password = str(parts.get("user", "")), str(parts.get("password", ""))
        name = f"{user}:{password}@" if password else f"{user}@"
        return f"postgresql://{name}127.0.0.1:{proxy.port}/{parts.get('dbname', user)}?sslmode=disable"

    def worker(self, options: Options | None = None, proxy: Proxy | None = None) -> Process:
        """Starts a worker and waits until it has registered."""
        process = Process(self, options or Options(), proxy, "kit-worker-" + uuid4().hex[:8])

        def registered() -> bool:
            if process.process.poll() is not None:
                raise Failed(f"the worker ended at once with exit code {process.process.returncode}: {tail(process.output)}")
            return bool(self.registrations(process))

        eventually("a worker registers", registered, 30)
        return process

    def registrations(self, process: Process) -> list[dict[str, Any]]:
        return self.rows("select *, state::text as state from longhaul.worker where name = %s order by started_at", process.name)

    # Flows and runs -------------------------------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            cursor.execute(sql, values)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def one(self, sql: str, *values: Any) -> Any:
        return next(iter(self.rows(sql, *values)[0].values()))

    def flow(self, queue: str, *steps: dict[str, Any], **settings: Any) -> str:
        """Deploys a flow under a new name."""
        name = "kit-" + uuid4().hex[:12]
        own = [
            {"name": f"s{number}", "queue": queue, **step} if "handler" in step else {"name": f"s{number}", **step}
            for number, step in enumerate(steps)
        ]
        self.rows("select longhaul.deploy(%s, %s)", TENANT, Jsonb({"name": name, "version": 1, "steps": own, **settings}))
        return name

    def start(self, flow: str, input: Any = None) -> UUID:
        return self.one("select longhaul.start_run(%s, %s, p_tenant => %s)", flow, Jsonb(input), TENANT)

    def do(self, process: Process, handler: str, input: Any = None, **step: Any) -> UUID:
        """Starts a run of one step."""
        return self.start(self.flow(process.options.queue, {"handler": handler, **step}), input)

    def state(self, run: UUID) -> str:
        return self.one("select state::text from longhaul.runs where id = %s", run)

    def ended(self, run: UUID, timeout: float = 20.0) -> str:
        """Waits for the end of a run."""

        def look() -> str | None:
            state = self.state(run)
            return state if state in ("completed", "failed", "cancelled") else None

        try:
            return eventually("the run ends", look, timeout)
        except Failed as error:
            why = self.rows(
                "select name, longhaul.why(run_id, name) as why from longhaul.steps where run_id = %s and ended_at is null", run
            )
            raise Failed(f"{error}; {'; '.join(str(row['why']) for row in why)}") from None

    def completed(self, run: UUID, timeout: float = 20.0) -> Any:
        """Waits until a run has completed; its last step's output."""
        state = self.ended(run, timeout)
        check(state == "completed", f"the run is {state}: {self.error(run)}")
        return self.one("select output from longhaul.steps where run_id = %s order by seq desc limit 1", run)

    def failed(self, run: UUID, timeout: float = 20.0) -> dict[str, Any]:
        """Waits until a run has failed; its error."""
        state = self.ended(run, timeout)
        check(state == "failed", f"the run is {state}, and should have failed")
        return self.error(run)

    def error(self, run: UUID) -> Any:
        return self.one("select error from longhaul.runs where id = %s", run) or {}

    def attempts(self, run: UUID) -> list[dict[str, Any]]:
        """The attempts that did not complete their steps, oldest first."""
        return self.rows("select *, outcome::text as outcome from longhaul.attempt where run_id = %s order by seq, attempt", run)

    def outcomes(self, run: UUID) -> list[str]:
        """How they ended. What was handed back with no attempt consumed does not count: a machine under load may do that."""
        return [row["outcome"] for row in self.attempts(run) if row["outcome"] != "released"]

    def token(self, run: UUID) -> int:
        """The number of the attempt that completed the step."""
        return self.one("select attempt from longhaul.step where run_id = %s and seq = 0", run)

    def leases(self, run: UUID) -> list[dict[str, Any]]:
        return self.rows("select * from longhaul.lease where run_id = %s", run)

    def running(self, run: UUID, timeout: float = 20.0) -> None:
        eventually("the step is claimed", lambda: self.leases(run), timeout)

    def waits_for(self, run: UUID, kind: str) -> None:
        eventually(
            f"the step waits for: {kind}",
            lambda: self.one("select count(*) from longhaul.wait where run_id = %s and kind::text = %s", run, kind),
        )


class Chores(threading.Thread):
    """Does the chores while the kit runs: it takes the part of a scheduler."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._over = threading.Event()

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.is_set():
                row = connection.execute("select due_in_ms from longhaul.run_chore()").fetchone()
                self._over.wait(min(row[0] if row and row[0] else 0, 50) / 1000)

    def stop(self) -> None:
        self._over.set()
        self.join(5)


def tail(file: Path, lines: int = 5) -> str:
    """The end of a text."""
    text = file.read_text(errors="replace") if file.exists() else ""
    return " | ".join(text.splitlines()[-lines:])


def prepare(url: str) -> None:
    """What the kit needs besides an installation."""
    with psycopg.connect(url, autocommit=True) as connection:
        # Two kits may begin at once.
        with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            connection.execute("create table if not exists kit_effect (run_id uuid, token integer)")


def folder() -> str:
    """For what the workers write."""
    return tempfile.mkdtemp(prefix="longhaul-protocol-")


def words(name: str) -> str:
    """A function's name as a sentence."""
    return re.sub(r"_", " ", name)
