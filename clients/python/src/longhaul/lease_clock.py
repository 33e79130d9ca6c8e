"""Until when a worker may take its leases for its own, by its own clock: as long as a lease lives, counted from before the last
renewal was sent. A process that was frozen for longer must begin nothing that it still has in hand."""

from __future__ import annotations

import time

# The clock that goes on while the machine sleeps, where there is one.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def moment() -> float:
    """Seconds of a clock that only goes forward."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class LeaseClock:
    """The leases of one registration. May be used by several threads."""

    def __init__(self, lease: float, sent: float) -> None:
        self._lease = lease
        self._renewed = sent

    def renewed(self, sent: float) -> None:
        """A renewal that was sent at this moment has arrived."""
        self._renewed = max(self._renewed, sent)

    def holds(self) -> bool:
        """Whether the leases are certainly still the worker's, but for what the database was told by others."""
        return moment() - self._renewed < self._lease
