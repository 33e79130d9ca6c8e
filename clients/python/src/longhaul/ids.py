"""Ids of runs: UUIDv7, which carry the time."""

from __future__ import annotations

import os
import threading
import time
import uuid

_lock = threading.Lock()
_last = 0


def new_run_id() -> uuid.UUID:
    """A new id, larger than those that this process made before."""
    global _last
    with _lock:
        # 48 bits of milliseconds and 12 bits that count on within one.
        now = max(time.time_ns() * 4096 // 1_000_000, _last + 1)
        _last = now
    random = int.from_bytes(os.urandom(8), "big") & ((1 << 62) - 1)
    return uuid.UUID(int=(now >> 12) << 80 | 7 << 76 | (now & 0xFFF) << 64 | 2 << 62 | random)
