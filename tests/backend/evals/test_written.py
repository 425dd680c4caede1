"""Words as sound: what is written can be read, through a line, and cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.g711 import Codec
from backend.core.sound_check import SoundCheck
from backend.evals.written import WrittenActivity, read, utterance, write

TEXT = "Hello, Anna. Would 10:30 suit you?"


@given(st.text(alphabet=[chr(code) for code in range(33, 127)] + [" "], min_size=1, max_size=60))
def test_what_is_written_can_be_read(text: str) -> None:
    assert read(Codec.PCMU.decode(write(text))) == " ".join(text.split())


@pytest.mark.parametrize("share", [0.1, 0.33, 0.5, 0.9])
def test_a_text_that_is_cut_says_what_was_heard(share: float) -> None:
    sound = write(TEXT)
    heard = read(Codec.PCMU.decode(sound[: int(len(sound) * share)]))
    assert TEXT.startswith(heard)
    assert abs(len(heard) - share * len(TEXT)) <= 1.5


def test_silence_within_is_a_space_and_nothing_is_nothing() -> None:
    assert read(Codec.PCMU.decode(write("one") + b"\xff" * 800 + write("two"))) == "one two"
    assert read(b"") == ""
    assert read(b"\0" * 3200) == ""


def test_it_passes_for_speech() -> None:
    pcm16 = utterance(TEXT).pcm16
    assert SoundCheck().push(pcm16) is None
    activity = WrittenActivity()
    assert set(activity.push(pcm16)) == {1.0}
    assert activity.push(b"\0" * 5120)[-1] == 0.0
