from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.pace import Pace, PaceRules

RULES = PaceRules(hand_over_frames=4, low_ms=320, pause_ms=4000, resume_ms=2000)


def test_the_first_frame_goes_out_alone_and_then_chunks_grow() -> None:
    pace = Pace(RULES)
    given, gathered, chunks = 0, 0, []
    for made in range(1, 40):  # a model ten times as fast as speech
        now_ms = made * 8.0
        gathered += 1
        if pace.is_due(gathered, now_ms):
            pace.handed_over(gathered, now_ms)
            chunks.append(gathered)
            given, gathered = given + gathered, 0
    assert chunks[:4] == [1, 1, 1, 1]
    assert set(chunks[6:]) == {4}


@given(st.floats(10, 79))
def test_a_listener_of_a_model_faster_than_speech_never_runs_dry(frame_takes_ms: float) -> None:
    pace = Pace(RULES)
    gathered, now_ms = 0, 0.0
    for _ in range(200):
        now_ms += frame_takes_ms
        if pace.lead_ms(now_ms) < 0:
            raise AssertionError("an underrun")
        gathered += 1
        if pace.is_due(gathered, now_ms):
            pace.handed_over(gathered, now_ms)
            gathered = 0


def test_nothing_gathered_is_never_due() -> None:
    assert not Pace(RULES).is_due(0, 0.0)


def test_after_an_underrun_the_lead_counts_anew() -> None:
    pace = Pace(RULES)
    pace.handed_over(1, 0.0)
    assert pace.lead_ms(500.0) == -420.0
    pace.handed_over(1, 500.0)
    assert pace.lead_ms(500.0) == 80.0


def test_pausing_has_two_thresholds() -> None:
    pace = Pace(RULES)
    assert [pace.must_wait(ms) for ms in (3999, 4000, 3000, 2000, 1999, 3000)] == [
        False, True, True, True, False, False,
    ]  # fmt: skip


def test_being_ahead_is_told_by_the_clock_and_has_two_thresholds() -> None:
    pace = Pace(RULES)
    assert not pace.has_begun and not pace.is_ahead(0.0)
    pace.handed_over(24, 0.0)
    assert pace.has_begun and not pace.is_ahead(0.0)
    pace.handed_over(1, 0.0)
    assert [pace.is_ahead(ms) for ms in (0.0, 999.0, 1000.5, 500.0)] == [True, True, False, False]


@given(st.floats(1, 200), st.integers(1, 400))
def test_whoever_lets_others_go_first_whenever_ahead_keeps_a_second(
    frame_takes_ms: float, turns: int
) -> None:
    pace, now_ms = Pace(RULES), 0.0
    has_waited = False
    for _ in range(turns):
        now_ms += frame_takes_ms
        if pace.is_ahead(now_ms):
            has_waited = True
            continue
        if has_waited:
            assert pace.lead_ms(now_ms) >= RULES.near_ms - frame_takes_ms - 1e-6
        has_waited = False
        pace.handed_over(1, now_ms)


def test_how_long_until_near() -> None:
    pace = Pace(RULES)
    assert pace.until_near_ms(0.0) == 0.0
    pace.handed_over_ms(3500.0, 100.0)
    assert [pace.until_near_ms(ms) for ms in (100.0, 1100.0, 2600.0, 9000.0)] == [2500.0, 1500.0, 0.0, 0.0]


def test_who_plays_faster_has_less_to_play() -> None:
    leads = {speed: Pace(RULES, speed=speed) for speed in (0.25, 1.0, 4.0)}
    for pace in leads.values():
        pace.handed_over(10, 0.0)
    assert {speed: pace.lead_ms(0.0) for speed, pace in leads.items()} == {0.25: 3200, 1.0: 800, 4.0: 200}
