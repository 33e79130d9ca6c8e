"""The command line of the kit."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path

import psycopg

from . import durably, faulty, lasting, plainly  # noqa: F401  the cases
from .grade import CASES, Grade, as_json, grade
from .world import Chores, Place, folder, prepare

EPILOGUE = """\
examples:
  ops/protocol -- python -m my_worker
  ops/protocol --json grades.json --only '*lost_answer*' -- node my-worker.mjs
  ops/protocol --list

The worker is given by its environment where it works (DATABASE_URL, LONGHAUL_QUEUE,
LONGHAUL_SLOTS ...) and knows the handlers that clients/conformance/README.md tells.

exit codes: 0 all passed, 1 a case failed, 2 wrong usage, 5 the database cannot be reached
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ops/protocol", description=__doc__, epilog=EPILOGUE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--database", default=os.environ.get("DATABASE_URL"), help="an installed Longhaul; DATABASE_URL when absent")
    parser.add_argument("--worker-database", metavar="URL", help="the worker's way to it, as a pooler; the same when absent")
    parser.add_argument("--listen", metavar="URL", help="where the worker listens, when that is another way")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="only these cases; may be repeated")
    parser.add_argument("--json", metavar="FILE", help="write the grades as JSON, to standard output for -")
    parser.add_argument("--at-a-time", type=int, default=6, metavar="N", help="cases at a time (default 6)")
    parser.add_argument("--keep", action="store_true", help="keep what the workers wrote, and say where")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the command that starts the worker")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    chosen = [one for one in CASES if not given.only or any(fnmatch(one.name, pattern) for pattern in given.only)]
    if given.list:
        for one in chosen:
            print(f"{one.name:44} {one.what}")
        return 0
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command or not given.database or not chosen:
        missing = "a command after --" if not command else "--database or DATABASE_URL" if not given.database else "a case"
        print(f"error: {missing} is needed; see --help", file=sys.stderr)
        return 2
    if shutil.which(command[0]) is None:
        print(f"error: there is no program {command[0]}", file=sys.stderr)
        return 2
    try:
        prepare(given.database)
    except psycopg.Error as error:
        print(f"error: the database cannot be used: {error}", file=sys.stderr)
        return 5
    place = Place(given.database, command, folder(), given.worker_database or given.database, given.listen)
    chores = Chores(given.database)
    chores.start()
    out = sys.stderr if given.json == "-" else sys.stdout

    def tell(made: Grade) -> None:
        mark = "ok  " if made.passed else "FAIL"
        print(
            f"{mark} {made.seconds:6.2f} s  {made.name}" + ("" if made.passed else f"\n       {made.what}\n       {made.reason}"),
            file=out,
            flush=True,
        )

    grades = grade(place, chosen, given.at_a_time, tell)
    chores.stop()
    made = as_json(grades, command)
    print(f"{made['passed']} passed, {made['failed']} failed", file=out)
    if given.json:
        text = json.dumps(made, indent=1) + "\n"
        if given.json == "-":
            print(text, end="")
        else:
            Path(given.json).write_text(text)
    if given.keep:
        print(f"what the workers wrote: {place.folder}", file=out)
    else:
        shutil.rmtree(place.folder, ignore_errors=True)
    return 1 if made["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
