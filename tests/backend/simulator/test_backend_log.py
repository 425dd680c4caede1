"""A backend's warnings, out of its log."""

from __future__ import annotations

from backend.simulator.backend_log import about, warnings_in

LOG = """\
2026-11-30 23:50:01,123 WARNING agent shop: it has no language model: set OPENAI_API_KEY
2026-11-30 23:50:01,124 INFO    listening
2026-11-30 23:50:02,000 WARNING call call_1: webhook actions are off here: nothing is sent to crm.example
2026-11-30 23:50:03,000 WARNING call call_2: webhook actions are off here: nothing is sent to crm.example
2026-11-30 23:50:04,000 ERROR   it broke
Traceback (most recent call last):
  WARNING: a line of a traceback
2026-11-30 23:50:05,000 WARNING agent desk hears without openai: set OPENAI_API_KEY; local hears first
"""


def test_each_warning_once_without_time_and_call() -> None:
    assert warnings_in(LOG) == [
        "agent shop: it has no language model: set OPENAI_API_KEY",
        "webhook actions are off here: nothing is sent to crm.example",
        "it broke",
        "agent desk hears without openai: set OPENAI_API_KEY; local hears first",
    ]


def test_what_concerns_another_agent_alone_is_left_out() -> None:
    found = about(warnings_in(LOG), ["shop"], ["shop", "desk"])
    assert len(found) == 3 and not any("desk" in message for message in found)
