from __future__ import annotations

import pytest

from backend.core.hold_on import bare_hold_on, is_hold_on


@pytest.mark.parametrize(
    ("said", "bare"),
    [
        ("No, wait.", "wait"),
        ("Yes, hold on a second", "hold on a second"),
        ("just a moment, please", "just a moment, please"),
        ("Let me check", "Let me check"),
    ],
)
def test_asking_for_time(said: str, bare: str) -> None:
    assert is_hold_on(said) and bare_hold_on(said) == bare


@pytest.mark.parametrize("said", ["No.", "I can't wait", "wait for me at two", "one two", ""])
def test_anything_else(said: str) -> None:
    assert not is_hold_on(said) and bare_hold_on(said) == said
