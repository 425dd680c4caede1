"""For all tests: one hypothesis profile, without a deadline on shared machines, few but random examples; and
more time for whole calls, which start processes and play in real time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,
    max_examples=50,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")

_WHOLE_CALLS = [Path(__file__).parent / folder for folder in ("e2e", "faults")]
_WHOLE_CALLS_S = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        is_whole_call = any(folder in item.path.parents for folder in _WHOLE_CALLS)
        if is_whole_call and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_WHOLE_CALLS_S))
