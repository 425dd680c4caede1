from __future__ import annotations

from backend.core.history import History, without_opening
from backend.core.llm import Message, ToolCall


def test_both_sides_in_order() -> None:
    talk = History()
    talk.agent("Hello.")
    talk.agent("How can I help?")
    talk.caller("When are you")
    talk.caller("open?")
    talk.agent("From nine", interrupted=True)
    talk.keys("12")
    assert [(message.role, message.text) for message in talk.messages()] == [
        ("assistant", "Hello. How can I help?"),
        ("user", "When are you"),
        ("user", "open?"),
        ("assistant", "From nine —"),
        ("user", "(pressed the keys 12)"),
    ]


def test_what_nobody_heard_was_not_said() -> None:
    talk = History()
    talk.agent("", interrupted=True)
    talk.caller("  ")
    assert talk.messages() == ()


def test_as_if_the_caller_had_said_it() -> None:
    talk = History()
    talk.agent("Yes?")
    assert talk.messages(then_said="Hi.")[-1] == Message("user", "Hi.")
    assert len(talk.messages()) == 1


def test_the_oldest_is_forgotten_and_no_result_stands_without_its_call() -> None:
    talk = History()
    for number in range(50):
        talk.caller(f"word {number}")
        talk.tools([ToolCall(f"t{number}", "look", "{}")], ["x" * 900])
    kept = talk.messages()
    assert kept[-1].text == "x" * 900
    assert sum(len(message.text) for message in kept) <= 12_000
    assert kept[0].role != "tool"


def test_a_long_speech_is_cut() -> None:
    talk = History()
    talk.caller("a" * 50_000)
    assert len(talk.messages()[0].text) == 2_000
    assert len(talk.messages(then_said="b" * 50_000)[-1].text) == 2_000


def test_what_only_bridged_a_wait_is_no_part_of_what_was_said() -> None:
    moment = "One moment, please."
    assert without_opening("One moment, please. Until six.", moment) == "Until six."
    assert without_opening("One moment, please.", moment) == ""
    assert without_opening("One moment,", moment) == "", "it was interrupted"
    assert without_opening("One moment, please, it is six.", moment) == "One moment, please, it is six."
    assert without_opening("Until six.", "") == "Until six."
