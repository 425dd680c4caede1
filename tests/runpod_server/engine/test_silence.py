from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runpod_server.engine.silence import SilenceGate, SilenceRules

RULES = SilenceRules(sent_at_once=2, at_joint=3, ends_speech=6, ends_before_speech=9)
LOUD, SILENT = 0.1, 0.0001


def fed(gate: SilenceGate[int], loudness: float, frames: range) -> list[int]:
    return [out for frame in frames for out in gate.push(frame, loudness)]


def test_a_pause_is_sent_whole_when_speech_goes_on() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    assert fed(gate, LOUD, range(2)) == [0, 1]
    assert fed(gate, SILENT, range(2, 7)) == [2, 3]
    assert gate.held == 3
    assert gate.push(7, LOUD) == [4, 5, 6, 7]


def test_speech_is_over_after_a_long_silence_which_is_not_sent() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    fed(gate, LOUD, range(2))
    sent = fed(gate, SILENT, range(2, 7))
    assert not gate.is_over
    sent += gate.push(7, SILENT)
    assert gate.is_over
    gate.drop()
    assert sent + gate.release() == [2, 3]


def test_before_the_first_word_there_is_more_time() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    fed(gate, SILENT, range(8))
    assert not gate.is_over and not gate.has_heard_speech
    gate.push(8, SILENT)
    assert gate.is_over


def test_an_end_by_itself_keeps_every_frame() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    out = fed(gate, LOUD, range(3)) + fed(gate, SILENT, range(3, 8))
    assert out + gate.release() == list(range(8))


def test_at_a_joint_both_silences_together_are_bounded() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    out = fed(gate, LOUD, range(1)) + fed(gate, SILENT, range(1, 6))
    out += gate.join()
    out += fed(gate, SILENT, range(6, 11)) + fed(gate, LOUD, range(11, 13))
    assert out == [0, 1, 2, 3, 11, 12]
    assert fed(gate, SILENT, range(13, 18)) + gate.push(18, LOUD) == list(range(13, 19)), "a joint is once"


def test_a_short_silence_at_a_joint_is_filled_up() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    out = fed(gate, LOUD, range(1)) + fed(gate, SILENT, range(1, 2)) + gate.join()
    out += fed(gate, SILENT, range(2, 8)) + gate.push(8, LOUD)
    assert out == [0, 1, 2, 3, 8]


def test_what_is_silent_depends_on_what_was_loud() -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    assert fed(gate, 0.004, range(5)) == list(range(5)), "quiet speech"
    fed(gate, 0.3, range(5, 6))
    assert fed(gate, 0.004, range(6, 11)) == [6, 7], "the same as a background is silence"


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_frames_come_once_and_in_order(steps: list[tuple[bool, bool]]) -> None:
    gate: SilenceGate[int] = SilenceGate(RULES)
    out: list[int] = []
    for frame, (loud, joins) in enumerate(steps):
        out += gate.push(frame, LOUD if loud else SILENT)
        out += gate.join() if joins else []
    out += gate.release()
    assert out == sorted(set(out))
    assert {frame for frame, (loud, _) in enumerate(steps) if loud} <= set(out), "speech is never lost"
