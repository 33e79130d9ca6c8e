"""Cases, and how they are carried out: some at a time, each with a world of its own."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from .world import Failed, Options, Place, Process, World, tail, words


@dataclass(frozen=True)
class Case:
    """Something that a worker must do."""

    name: str
    what: str
    #: plain: on a worker that the cases share. Otherwise the case starts its own.
    shared: bool
    run: Callable[..., None]


@dataclass(frozen=True)
class Grade:
    """How a case came out."""

    name: str
    what: str
    passed: bool
    seconds: float
    reason: str = ""


CASES: list[Case] = []


def case(shared: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A case: the name is the function's, the sentence its documentation."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        what = " ".join((function.__doc__ or words(function.__name__)).split())
        CASES.append(Case(function.__name__, what, shared, function))
        return function

    return register


#: On the worker that is started for all of them.
plain = case(shared=True)

#: With workers of its own.
alone = case()


def grade(place: Place, chosen: Sequence[Case], at_a_time: int, tell: Callable[[Grade], None]) -> list[Grade]:
    """Carries out cases."""
    home = World(place)
    shared: Process | None = None
    trouble = ""
    try:
        if any(one.shared for one in chosen):
            try:
                shared = home.worker(Options(slots=20, lease_ms=30_000, heartbeat_ms=1000))
            except Failed as error:
                trouble = str(error)

        def one(case: Case) -> Grade:
            began = time.monotonic()
            world = World(place)
            reason = ""
            try:
                if case.shared and shared is None:
                    raise Failed(trouble)
                case.run(world, shared) if case.shared else case.run(world)
            except Failed as error:
                reason = str(error)
                ends = [tail(process.output, 2) for process in world.processes]
                reason += "".join(f" [{end}]" for end in ends if end)
            except Exception as error:
                reason = f"the kit itself failed: {error!r} at {traceback.extract_tb(error.__traceback__)[-1]}"
            finally:
                world.close()
            made = Grade(case.name, case.what, not reason, round(time.monotonic() - began, 2), reason)
            tell(made)
            return made

        with ThreadPoolExecutor(at_a_time) as pool:
            # Those that take longest first.
            order = sorted(chosen, key=lambda case: case.shared)
            grades = list(pool.map(one, order))
        return grades
    finally:
        home.close()


def as_json(grades: Sequence[Grade], command: Sequence[str]) -> dict[str, object]:
    """For programs."""
    return {
        "command": list(command),
        "passed": sum(one.passed for one in grades),
        "failed": sum(not one.passed for one in grades),
        "cases": [asdict(one) for one in grades],
    }
