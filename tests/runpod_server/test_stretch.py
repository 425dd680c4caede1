from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runpod_server.preview.speakers import SPEAKERS
from runpod_server.preview.voice import PreviewVoice
from runpod_server.stretch import Samples, TimeStretch
from tests.runpod_server.decoding import main_hz

SPEEDS = [0.25, 0.5, 1.0, 2.0, 4.0]
SECONDS = 3


def tone(hz: float) -> Samples:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(24_000 * SECONDS) / 24_000)).astype(np.float32)


def stretched(samples: Samples, speed: float, piece: int = 1920) -> Samples:
    stretch = TimeStretch(speed)
    made = [stretch.push(samples[at : at + piece]) for at in range(0, len(samples), piece)]
    return np.concatenate([*made, stretch.finish()])


@pytest.fixture(scope="module")
def speech() -> Samples:
    """A deep voice, whose periods are the longest."""
    text = "Thanks for calling, how can I help you today? " * 3
    pieces = PreviewVoice().speak(text, SPEAKERS[5], seed=1)
    return np.concatenate([piece.samples for piece in pieces])


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("hz", [82.4, 220.5, 1234.5])
def test_a_tone_keeps_its_pitch_and_takes_its_time(speed: float, hz: float) -> None:
    made = stretched(tone(hz), speed)
    assert len(made) == round(24_000 * SECONDS / speed)
    assert main_hz(made) == pytest.approx(hz, rel=0.01)


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("hz", [82.4, 220.5, 1234.5])
def test_a_tone_has_no_clicks_and_no_dips(speed: float, hz: float) -> None:
    made = stretched(tone(hz), speed)
    steepest = np.abs(np.diff(tone(hz))).max()
    assert np.abs(np.diff(made)).max() < 1.05 * steepest
    by_50_ms = made[: len(made) // 1200 * 1200].reshape(-1, 1200)
    assert np.abs(by_50_ms).max(axis=1).min() > 0.27


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_voice_has_no_clicks_and_keeps_its_pitch_and_loudness(speed: float, speech: Samples) -> None:
    made = stretched(speech, speed)
    assert len(made) == round(len(speech) / speed)
    assert np.abs(np.diff(made)).max() < 1.3 * np.abs(np.diff(speech)).max()
    assert pitch_hz(made) == pytest.approx(pitch_hz(speech), rel=0.1)
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(speech**2)), rel=0.15)


def pitch_hz(samples: Samples) -> float:
    """Median, over voiced windows of 25 ms, of the first lag nearly as good as the best; 60 to 270 Hz."""
    found = []
    for at in range(0, len(samples) - 600, 120):
        window = samples[at : at + 600]
        likeness = np.array([likeness_at(window, lag) for lag in range(90, 400)])
        if np.sqrt(np.mean(window**2)) > 0.03 and likeness.max() > 0.6:
            from_here = int(np.argmax(likeness > 0.9 * likeness.max()))
            found.append(24_000 / (90 + from_here + int(np.argmax(likeness[from_here : from_here + 20]))))
    assert len(found) > 50
    return float(np.median(found))


def likeness_at(window: Samples, lag: int) -> float:
    late, early = window[lag:], window[:-lag]
    return float(np.dot(late, early) / np.sqrt(np.dot(late, late) * np.dot(early, early) + 1e-12))


def test_a_pace_of_one_changes_nothing(speech: Samples) -> None:
    assert np.allclose(stretched(speech, 1.0), speech, atol=1e-6)


@pytest.mark.parametrize("speed", SPEEDS)
def test_pieces_of_any_size_give_equal_samples(speed: float, speech: Samples) -> None:
    speech = speech[:36_000]
    whole = stretched(speech, speed, len(speech))
    for piece in (7, 480, 1920, 4800):
        assert np.array_equal(stretched(speech, speed, piece), whole)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.25, 4.0), st.integers(0, 6000), st.integers(1, 3000))
def test_any_sound_comes_out_as_long_as_it_should(speed: float, count: int, piece: int) -> None:
    noise = np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)
    made = stretched(noise, speed, piece) if count else TimeStretch(speed).finish()
    assert len(made) == round(count / speed)
    assert np.isfinite(made).all() and np.abs(made).max(initial=0) <= np.abs(noise).max(initial=0) * 1.001


@pytest.mark.parametrize("speed", SPEEDS)
def test_silence_stays_silent_and_what_follows_is_heard(speed: float) -> None:
    sound = np.concatenate([np.zeros(24_000, np.float32), tone(220.5)[:24_000]])
    made = stretched(sound, speed)
    begins, slack = round(24_000 / speed), round(300 + 576 / speed)  # two steps of what is heard
    assert not made[: begins - slack].any()
    assert np.abs(made[begins + slack : begins + slack + 480]).max() > 0.25


@pytest.mark.parametrize("speed", SPEEDS)
def test_sound_leaves_with_the_first_frame(speed: float) -> None:
    stretch = TimeStretch(speed)
    made = [len(stretch.push(tone(220.5)[at : at + 1920])) for at in range(0, 19_200, 1920)]
    assert all(made), made
    assert sum(made) > 0.6 * 19_200 / speed


def test_what_it_holds_does_not_grow() -> None:
    stretch = TimeStretch(0.7)
    for _ in range(50):
        stretch.push(tone(220.5)[:4800])
    assert len(stretch._held) < 4800
