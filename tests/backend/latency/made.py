"""Measurements made up for tests of what is shown of them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from backend.core.health import RouteKey
from backend.latency.figures import Measured, Run
from backend.latency.subjects import Subject


def subject(label: str = "sesame_ws", **given: Any) -> Subject:
    fields = {
        "server": "http://pod", "key": RouteKey(label.split(" ")[0], "http://pod"), "voice": "0",
        "agent": "Tester", "text": "Hello.", "open": nullcontext,
    }  # fmt: skip
    return Subject(label, **{**fields, **given})


def measured(
    *runs: tuple[float, float, float], label: str = "sesame_ws", own_ms: float | None = None
) -> Measured:
    """Of runs (connect, first chunk, total) in ms that play a second each."""
    return Measured(subject(label), [Run(*run, 1000, 48_000, own_ms) for run in runs])
