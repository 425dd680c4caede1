"""Where speech begins and ends, given the detector's word for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.simulator.hearing import SpeechBegan, SpeechEnded, SpeechFinder, audible_span

SECOND = 8000


def line(seconds: float, *speech: tuple[float, float]) -> np.ndarray:
    """Silence with tones at the given seconds."""
    audio = np.zeros(int(seconds * SECOND), "<i2")
    for first, last in speech:
        begin, end = int(first * SECOND), int(last * SECOND)
        audio[begin:end] = np.rint(5000 * np.cos(np.arange(end - begin) * 0.35))
    return audio


def find(audio: np.ndarray, *, chunk: int = 160, lag: int = 1):
    """As a detector would say: speech in windows that hold any, `lag` windows late."""
    finder, found, windows = SpeechFinder(), [], 0
    for at in range(0, len(audio), chunk):
        whole = min(at + chunk, len(audio)) // 256
        probabilities = []
        for n in range(windows, whole):
            window = audio[max(0, n - lag) * 256 : (n - lag + 1) * 256]
            probabilities.append(0.9 if len(window) and np.abs(window.astype(int)).max() > 1000 else 0.05)
        windows = whole
        found += finder.push(audio[at : at + chunk].tobytes(), probabilities)
    return found + finder.flush()


def test_beginnings_and_ends_are_exact_to_the_sample():
    found = find(line(3, (0.5003, 1.2501)))
    assert [type(one) for one in found] == [SpeechBegan, SpeechEnded]
    assert found[0].start_ms == pytest.approx(500.25, abs=0.2)
    assert found[1].end_ms == pytest.approx(1250.1, abs=0.5)
    assert len(found[1].pcm16) / 16 == pytest.approx(750 + 300, abs=5)


@given(chunk=st.integers(1, 4000))
def test_it_does_not_matter_how_the_audio_comes(chunk):
    audio = line(3, (0.5, 1.2), (1.8, 2.4))
    assert find(audio, chunk=chunk) == find(audio)


def test_a_short_pause_is_within_speech_and_a_long_one_parts_it():
    found = [one for one in find(line(4, (0.5, 1.0), (1.2, 1.6), (2.2, 2.8))) if isinstance(one, SpeechEnded)]
    assert [(round(one.start_ms), round(one.end_ms)) for one in found] == [(500, 1600), (2200, 2800)]


def test_the_next_stretch_never_reaches_back_into_the_last():
    found = [one for one in find(line(4, (0.5, 1.0), (1.38, 2.0))) if isinstance(one, SpeechEnded)]
    assert [(round(one.start_ms), round(one.end_ms)) for one in found] == [(500, 1000), (1380, 2000)]


def test_speech_under_way_at_the_end_is_given_out():
    found = find(line(1, (0.5, 1.0)))
    assert isinstance(found[-1], SpeechEnded)
    assert round(found[-1].end_ms) == pytest.approx(1000, abs=33)


def test_endless_speech_is_cut_for_the_recogniser():
    found = [one for one in find(line(30, (0.5, 29.5)), chunk=1600) if isinstance(one, SpeechEnded)]
    assert len(found) == 2
    assert max(len(one.pcm16) for one in found) < 2 * 25 * SECOND


def test_a_click_is_no_speech():
    assert find(line(2, (0.5, 0.51))) == []


def test_audible_span():
    assert audible_span(bytes(100)) is None
    assert audible_span(np.array([0, 0, 200, 0, -200, 0], "<i2").tobytes()) == (2, 5)
