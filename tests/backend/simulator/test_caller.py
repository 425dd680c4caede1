"""The scripted caller's decisions, with time and hearing handed in."""

from __future__ import annotations

import pytest

from backend.simulator.caller import CallerAction, EndCall, PressKey, ScriptedCaller, Speak
from backend.simulator.script import parse_script


def caller(*steps) -> ScriptedCaller:
    return ScriptedCaller(parse_script({"steps": list(steps)}))


def run(one: ScriptedCaller, first_ms: int, last_ms: int, *, speaking=lambda ms: False):
    """Every 20 ms → what was done when."""
    done = []
    for now_ms in range(first_ms, last_ms + 1, 20):
        done += [(now_ms, action) for action in one.tick(now_ms, speaking=speaking(now_ms))]
    return done


def test_words_waited_for_may_come_in_pieces_and_are_used_up():
    one = caller({"wait_for": "how can I help"}, {"wait_for": "help"}, {"hang_up": True})
    one.heard("Hello there. How can", 1000)
    assert run(one, 0, 100) == []
    one.heard("I help you?", 1500)
    assert run(one, 120, 200) == []
    one.heard("Help is here.", 2500)
    assert run(one, 220, 300) == [(220, EndCall())]


def test_waiting_in_vain_ends_the_call_with_a_reason():
    one = caller({"wait_for": ["yes", "no"], "timeout_ms": 500})
    one.heard("maybe", 100)
    [(at, end)] = run(one, 0, 2000)
    assert at == 500
    assert end == EndCall("script.steps[0]: waited 500 ms for 'yes' or 'no'; heard: maybe")


def test_quiet_is_counted_from_the_last_word_of_either():
    one = caller({"say": "hello"}, {"wait_until_quiet": True, "quiet_ms": 400}, {"hang_up": True})
    [(_, spoke)] = run(one, 0, 600, speaking=lambda ms: ms > 0)
    assert isinstance(spoke, Speak)
    one.agent_began(700)
    assert run(one, 620, 1500) == []
    one.agent_ended(1480)
    assert [at for at, _ in run(one, 1520, 3000)] == [1880]


def test_an_agent_who_never_stops_is_given_up():
    one = caller({"wait_until_quiet": True, "timeout_ms": 1000})
    one.agent_began(0)
    assert "did not fall silent" in run(one, 0, 1000)[0][1].reason


def test_an_interruption_counts_from_the_first_sound_of_the_agents_next_speech():
    one = caller({"wait_for": "hello"}, {"interrupt_after_ms": 1200, "say": "stop"})
    one.agent_began(100)
    one.agent_ended(900)
    one.heard("hello", 900)
    assert run(one, 1000, 1500) == []
    one.agent_began(1510.5)
    one.agent_ended(2000)
    one.agent_began(2400)
    [(at, action)] = run(one, 1520, 4000, speaking=lambda ms: ms > 2720)
    assert at == 2720
    assert isinstance(action, Speak)


def test_speech_that_began_before_the_words_waited_for_were_recognised_can_be_interrupted():
    one = caller({"wait_for": "hello"}, {"interrupt_after_ms": 300, "say": "stop"})
    one.agent_began(100)
    one.agent_ended(900)
    one.agent_began(1250)
    one.heard("hello", 900)
    assert [at for at, _ in run(one, 1300, 1700)] == [1560]


def test_what_the_agent_said_before_the_callers_own_words_is_not_their_next_speech():
    one = caller({"say": "hi"}, {"interrupt_after_ms": 0, "say": "stop", "timeout_ms": 200})
    one.agent_began(0)
    done = run(one, 100, 600, speaking=lambda ms: 100 < ms < 300)
    assert isinstance(done[0][1], Speak)
    assert "did not speak for 200 ms" in done[1][1].reason


def test_keys_are_pressed_a_quarter_of_a_second_apart():
    one = caller({"press": "1#"}, {"press": "2"}, {"hang_up": True})
    assert run(one, 0, 1000) == [
        (0, PressKey("1")),
        (260, PressKey("#")),
        (500, PressKey("2")),
        (760, EndCall()),
    ]


def test_silence_then_nothing_more():
    one = caller({"silent_ms": 300})
    assert run(one, 40, 320) == []
    assert not one.finished
    assert run(one, 340, 2000) == []
    assert one.finished


def test_after_hanging_up_nothing_more_is_done():
    one = caller({"hang_up": True}, {"say": "never"})
    assert [type(action) for _, action in run(one, 0, 500)] == [EndCall]


def test_a_caller_without_a_script_listens():
    assert run(caller(), 0, 2000) == []


@pytest.mark.parametrize("text", ["", "   "])
def test_hearing_nothing_matches_nothing(text):
    one = caller({"wait_for": "hello"})
    one.heard(text, 10)
    assert run(one, 0, 100) == []


def insists(**changes: object) -> ScriptedCaller:
    step = {"say": "Tuesday.", "until": "which time", "again": ["On Tuesday."], "timeout_ms": 5_000}
    return ScriptedCaller(parse_script({"steps": [{**step, **changes}]}))


def test_who_is_understood_says_it_once() -> None:
    caller = insists()
    assert said(caller.tick(0, speaking=False)) == ["Tuesday."]
    assert caller.tick(500, speaking=True) == []
    caller.agent_began(1_000)
    caller.agent_ended(2_000)
    caller.heard("Fine. Which time?", 2_000)
    assert caller.tick(2_020, speaking=False) == []
    assert caller.finished


def test_who_is_asked_again_says_it_again_in_other_words_and_gives_up_in_the_end() -> None:
    caller = insists()
    caller.tick(0, speaking=False)
    caller.tick(500, speaking=True)
    caller.agent_began(1_000)
    assert caller.tick(2_900, speaking=False) == []
    caller.agent_ended(3_000)
    caller.heard("Sorry?", 3_000)
    assert caller.tick(3_100, speaking=False) == [], "the agent may go on"
    assert said(caller.tick(4_300, speaking=False)) == ["On Tuesday."]
    caller.tick(4_800, speaking=True)
    assert caller.tick(9_000, speaking=False) == []
    (end,) = caller.tick(9_900, speaking=False)
    assert isinstance(end, EndCall)
    assert end.reason == "script.steps[0]: tried 2 times and did not hear 'which time'; heard: Sorry?"


def test_who_is_never_understood_presses_a_key() -> None:
    caller = insists(again=[], or_press="2")
    caller.tick(0, speaking=False)
    caller.tick(500, speaking=True)
    caller.agent_began(1_000)
    caller.agent_ended(3_000)
    caller.heard("Sorry? Or press two.", 3_000)
    assert caller.tick(4_300, speaking=False) == [PressKey("2")]


def said(actions: list[CallerAction]) -> list[str]:
    return [action.step.say for action in actions if isinstance(action, Speak)]
