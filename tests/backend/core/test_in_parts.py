"""A call in which a value comes in parts: by voice and by keys, with the rest waited for."""

from __future__ import annotations

from backend.core.steps import Hangup
from tests.backend.core.collects import GO_ON, PHONE, call


def test_keys_finish_what_was_said() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.heard("five five five").say == ()
    for end in range(1, 7):
        assert flow.digits("1234567"[:end]) is None
    step = flow.digits("1234567")
    assert step is not None and step.node_id == "bye" and flow.variables["value"] == "5551234567"


def test_words_finish_what_was_typed() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.digits("555") is None
    assert flow.heard("one two three four five six seven").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_keys_that_stop_are_waited_for() -> None:
    flow = call("phone", keys=PHONE)
    assert flow.digits("555") is None
    assert flow.digits_done().say == GO_ON
    assert flow.digits("1234567") is not None
    flow = call("phone", keys=PHONE)
    assert flow.digits("555#") is not None and flow.node_id == "get"
    assert flow.digits("5551234567") is not None and flow.variables["value"] == "5551234567"


# --- waiting, and giving up ------------------------------------------------------------------------------


def test_a_part_is_met_with_silence_and_the_rest_is_waited_for() -> None:
    flow = call("phone")
    step = flow.heard("My number is five five five.")
    assert step.say == () and step.listen is not None and step.listen.silence_ms == 2500
    assert step.ask is None and not step.ends_call
    assert flow.silence(2500).say == GO_ON
    step = flow.heard("one two three four five six seven")
    assert step.node_id == "bye" and flow.variables["value"] == "5551234567"


def test_what_may_be_all_is_gone_on_with_after_a_while() -> None:
    flow = call("phone")
    step = flow.heard("555 0142")
    assert step.say == () and step.listen is not None and step.listen.silence_ms == 1500
    assert flow.silence(1500).node_id == "bye"


def test_a_caller_who_says_no_more_is_asked_again_and_in_the_end_let_go() -> None:
    flow = call("phone")
    said = []
    for _ in range(20):
        step = flow.heard("five five five")
        while not step.ends_call and (step.say == () or step.say == GO_ON):
            assert step.listen is not None
            step = flow.silence(step.listen.silence_ms or 0)
        said.append(step)
        if step.ends_call:
            break
    assert [step.ends_call for step in said] == [False, False, True]
    assert said[0].say == ("Sorry, I didn't catch that.", "Which one?")
    assert said[-1].actions == (Hangup(),)


def test_words_in_the_middle_lose_nothing() -> None:
    flow = call("phone")
    flow.heard("five five five")
    step = flow.heard("The weather is lovely, is it not?")
    assert step.say == ("Sorry, I didn't catch that.", "So far I have five five five.", "Please go on.")
    assert flow.heard("123 4567").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_a_way_out_stays_open_in_the_middle() -> None:
    flow = call("phone")
    flow.heard("five five five")
    assert flow.heard("Operator, please.").node_id == "human"
    flow = call("phone")
    assert flow.heard("Zero.").node_id == "human"


def test_a_node_with_words_of_its_own_begins_anew() -> None:
    flow = call("phone", keys=PHONE, reprompt="All ten digits, please.")
    flow.heard("five five five")
    assert flow.heard("What was that again?").say == ("All ten digits, please.",)
    flow.heard("five five five")
    assert flow.heard("123 4567").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_endless_parts_come_to_an_end() -> None:
    flow = call("phone")
    step = flow.heard("five five")
    for _ in range(60):
        if step.ends_call:
            break
        step = flow.heard("No, six six.")
    assert step.ends_call


def test_a_model_is_not_asked_about_parts() -> None:
    flow = call("phone", thinks=True, prompt="Ask for the number.")
    assert flow.heard("five five five").ask is None
    assert flow.heard("Why do you need that?").ask is not None
    assert flow.heard("one two three four five six seven").node_id == "bye"
    assert flow.variables["value"] == "5551234567"


def test_a_fork_keeps_its_own_parts() -> None:
    flow = call("phone")
    flow.heard("five five five")
    flow.fork().heard("123 4567")
    assert flow.heard("987 6543").node_id == "bye" and flow.variables["value"] == "5559876543"


def test_parts_said_over_the_agent_matter() -> None:
    flow = call("phone")
    flow.heard("five five five")
    flow.silence(2500)
    assert flow.matters("one two three", asked=False)
    assert not flow.matters("nice weather", asked=False)
