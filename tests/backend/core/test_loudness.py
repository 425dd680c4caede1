"""The noise floor: what stands out, what is only the room."""

from __future__ import annotations

from backend.core.loudness import NoiseFloor

WINDOW_MS = 32.0


def feed(floor: NoiseFloor, rms: float, seconds: float) -> list[bool]:
    return [floor.loud(rms, WINDOW_MS) for _ in range(int(seconds * 1000 / WINDOW_MS))]


def test_speech_after_silence_is_loud_at_once() -> None:
    floor = NoiseFloor()
    assert not any(feed(floor, 0.0, 2))
    assert all(feed(floor, 5000.0, 1))


def test_breath_and_hum_are_never_loud() -> None:
    floor = NoiseFloor()
    feed(floor, 0.0, 2)
    assert not any(feed(floor, 300.0, 1))
    assert floor.soft_before, "a word may begin so softly"
    feed(floor, 0.0, 0.2)
    assert not floor.soft_before


def test_noise_that_stays_becomes_the_floor_and_speech_still_stands_out() -> None:
    floor = NoiseFloor()
    feed(floor, 0.0, 2)
    heard = feed(floor, 800.0, 20)
    assert heard[0]
    assert not any(heard[-100:])
    assert all(feed(floor, 8000.0, 0.5))


def test_a_call_from_a_noisy_street_begins_with_nothing_loud() -> None:
    floor = NoiseFloor()
    assert not any(feed(floor, 1_000.0, 10))
    assert all(feed(floor, 10_000.0, 0.5))


def test_a_long_sentence_does_not_become_the_floor() -> None:
    floor = NoiseFloor()
    feed(floor, 50.0, 2)
    talking = [loud for _ in range(20) for loud in (*feed(floor, 5000.0, 0.4), *feed(floor, 60.0, 0.1))]
    assert talking[-4]  # the pauses between words keep the floor where it was
    assert sum(talking) > 0.7 * len(talking)
