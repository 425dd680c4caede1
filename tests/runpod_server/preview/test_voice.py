from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runpod_server.preview.speakers import SPEAKERS, Speaker
from runpod_server.preview.voice import PreviewVoice, split_long, trimmed

SENTENCE = "Thanks for calling, how can I help you?"


@pytest.fixture(scope="module")
def voice() -> PreviewVoice:
    return PreviewVoice()


def said(voice: PreviewVoice, text: str, speaker: Speaker = SPEAKERS[0], **options: float) -> np.ndarray:
    return np.concatenate([piece.samples for piece in voice.speak(text, speaker, seed=1, **options)])  # type: ignore[arg-type]


def pitch_hz(samples: np.ndarray) -> float:
    """Median of the strongest autocorrelation lag between 60 and 400 Hz, over loud 60 ms windows."""
    found = []
    for at in range(0, len(samples) - 1440, 480):
        window = samples[at : at + 1440]
        if np.sqrt(np.mean(window**2)) < 0.03:
            continue
        power = np.correlate(window, window, "full")[1439:]
        lag = 60 + int(np.argmax(power[60:400]))
        if power[lag] > 0.5 * power[0]:
            found.append(24_000 / lag)
    return float(np.median(found))


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_sound_begins_at_once_and_is_neither_clipped_nor_faint(voice: PreviewVoice, speaker: Speaker) -> None:
    samples = said(voice, SENTENCE, speaker)
    rms_5ms = np.sqrt(np.mean(samples[: len(samples) // 120 * 120].reshape(-1, 120) ** 2, axis=1))
    assert np.argmax(rms_5ms > 0.0008) * 5 in range(15, 26)
    assert 0.15 < np.abs(samples).max() < 1.0
    loud = samples[np.abs(samples) > 0.01]
    assert 0.04 < np.sqrt(np.mean(loud**2)) < 0.12


def test_ten_speakers_are_ten_people(voice: PreviewVoice) -> None:
    assert len({speaker.name for speaker in SPEAKERS}) == 10
    pitches = {speaker.name: pitch_hz(said(voice, SENTENCE, speaker)) for speaker in SPEAKERS}
    assert pitches["moss"] < 0.75 * pitches["heart"] < 1.25 * pitches["heart"] < 1.1 * pitches["poppy"]
    voices = {(round(speaker.pitch, 2), speaker.formant, speaker.pace) for speaker in SPEAKERS}
    assert len(voices) == 10


def test_the_same_speaker_sounds_the_same_every_time(voice: PreviewVoice) -> None:
    first, again = said(voice, SENTENCE, SPEAKERS[3]), said(voice, SENTENCE, SPEAKERS[3])
    assert np.array_equal(first, again)


def test_one_piece_a_sentence_with_the_pause_between_kept(voice: PreviewVoice) -> None:
    spoken = list(voice.speak("It is open. It is closed.", SPEAKERS[0], seed=1))
    assert [piece.is_last for piece in spoken] == [False, True]
    pieces = [piece.samples for piece in spoken]
    silent = np.abs(np.concatenate(pieces)) < 0.002
    edges = np.flatnonzero(np.diff(silent.astype(int)))
    longest = max(np.diff(edges)) / 24
    assert 250 < longest < 900


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: speaker.name)
def test_speed(voice: PreviewVoice, speaker: Speaker) -> None:
    usual = said(voice, SENTENCE, speaker)
    for speed, tolerance in ((0.25, 0.04), (0.5, 0.04), (2.0, 0.04), (4.0, 0.08)):
        samples = said(voice, SENTENCE, speaker, speed=speed)
        assert len(samples) * speed == pytest.approx(len(usual), rel=tolerance)
        if speed <= 2:  # at 4 too little is left of each sound to tell its pitch
            assert pitch_hz(samples) == pytest.approx(pitch_hz(usual), rel=0.15)


def test_a_text_without_any_stop_still_comes_in_pieces(voice: PreviewVoice) -> None:
    pieces = list(voice.speak("word " * 100, SPEAKERS[0], seed=1))
    assert len(pieces) > 2
    assert [piece.is_last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert max(len(piece.samples) for piece in pieces) < 15 * 24_000


@given(st.text("abc ,;:", max_size=200), st.integers(5, 40))
def test_splitting_loses_no_sound(phonemes: str, limit: int) -> None:
    parts = list(split_long(phonemes, limit))
    assert "".join(parts).replace(" ", "") == phonemes.replace(" ", "")
    assert all(len(part) <= limit for part in parts)


def test_splitting_prefers_clauses_then_words() -> None:
    assert list(split_long("one two, three four", 14)) == ["one two,", "three four"]
    assert list(split_long("one two three", 8)) == ["one two", "three"]
    assert list(split_long("onetwothree", 8)) == ["onetwoth", "ree"]


def test_trimming_leaves_pure_silence_alone() -> None:
    silence = np.zeros(5000, np.float32)
    assert len(trimmed(silence, start=True, end=True)) == 5000
    sound = np.concatenate([silence, np.full(2400, 0.1, np.float32), silence])
    assert len(trimmed(sound, start=True, end=False)) == pytest.approx(480 + 2400 + 5000, abs=120)
    assert len(trimmed(sound, start=True, end=True)) == pytest.approx(480 + 2400 + 480, abs=120)
