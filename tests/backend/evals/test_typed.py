"""What a typed line means."""

from __future__ import annotations

import pytest

from backend.evals.typed import Keys, Quit, Silence, Told, Typed, Words, read_typed


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("  Hello   there ", Words("Hello there")),
        ("", None),
        ("/press 12 #", Keys("12#")),
        ("/p 1a", Keys("1A")),
        ("/silence 2.5", Silence(2.5)),
        ("/quit", Quit()),
    ],
)
def test_lines(line: str, meant: Typed | None) -> None:
    assert read_typed(line) == meant


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/press", "Keys are 0-9"),
        ("/press 1x", "Keys are 0-9"),
        ("/silence soon", "Give seconds"),
        ("/silence -1", "Give seconds"),
        ("/silence 1e9", "Give seconds"),
        ("/dance", "There is no /dance"),
        ("/help", "/silence"),
        ("a" * 1001, "At most 1000"),
    ],
)
def test_what_cannot_be_done_is_told(line: str, sentence: str) -> None:
    told = read_typed(line)
    assert isinstance(told, Told)
    assert sentence in told.text
