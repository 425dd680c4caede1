"""Lenient, but not deaf."""

from __future__ import annotations

import pytest

from backend.simulator.phrases import hears_any


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ("how can I help", "Hello! How can I help you today?"),
        ("how can I help", "hello how can eye help you"),
        ("at two p.m.", "See you at 2 PM then."),
        ("your appointment is booked", "You're appointment is book."),
        ("reschedule", "to re-schedule or"),
        ("five five five", "call 555 now"),
    ],
)
def test_heard(wanted, heard):
    assert hears_any([wanted], heard)


@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ("how can I help", "Hello, who is this?"),
        ("your name", "your appointment"),
        ("name", "the same"),
        ("goodbye", ""),
        ("", "anything"),
    ],
)
def test_not_heard(wanted, heard):
    assert not hears_any([wanted], heard)


def test_any_of_several():
    assert hears_any(["never", "thank you"], "Thank you for calling.")
