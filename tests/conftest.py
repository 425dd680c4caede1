"""For all tests: the same examples of properties each time (`--hypothesis-profile=search` for new ones); more
time for whole calls, which start processes and play in real time; Ctrl-C in a background shell."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_SHARED_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("project", _SHARED_MACHINE, max_examples=50, derandomize=True)
settings.register_profile("search", _SHARED_MACHINE, max_examples=500)
settings.load_profile("project")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, and so would every program the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

_WHOLE_CALLS = [Path(__file__).parent / folder for folder in ("e2e", "faults")]
_WHOLE_CALLS_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_whole_call = any(folder in item.path.parents for folder in _WHOLE_CALLS)
        if is_whole_call and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_WHOLE_CALLS_S))
