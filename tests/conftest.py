"""One hypothesis profile for all tests: no deadline on shared machines, few but random examples."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project",
    deadline=None,
    max_examples=50,
    derandomize=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("project")
