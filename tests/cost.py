"""What a piece of work costs, in a way that other programs on the machine do not change."""

from __future__ import annotations

import time
from collections.abc import Callable


def cpu_s(work: Callable[[], object], runs: int = 3) -> float:
    """Processor seconds of this thread for `work`: the least of several runs, as the first pays for caches.

    Limits on it tell work that would hold up every call (ten times the usual and more), not a slow machine.
    """
    costs_s = []
    for _ in range(runs):
        began_s = time.thread_time()
        work()
        costs_s.append(time.thread_time() - began_s)
    return min(costs_s)
