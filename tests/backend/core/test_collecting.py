"""What a node collects: found, read back, confirmed or put right, and kept."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backend.core.collects import call as collecting_call
from tests.backend.core.thinking_flows import BYE, started, to


def collecting(kind: str, *, confirm: bool | str = True, **more: Any) -> dict[str, Any]:
    collect = {"name": "who", "type": kind, "confirm": confirm}
    return {"id": "get", "say": "Which one?", "collect": collect, "transitions": [to("bye")]} | more


def test_a_value_is_read_back_and_confirmed() -> None:
    call, _ = started(collecting("date"))
    step = call.heard("Friday, please")
    assert step.say == ("I have Friday, November 27, 2026. Is that right?",)
    assert step.listen is not None and step.listen.expects == "yes_no" and step.listen.max_digits == 1
    assert "who" not in call.variables or call.variables["who"] == "friend"
    assert call.heard("Yes.").node_id == "bye"
    assert call.variables["who"] == "2026-11-27"


def test_a_correction_is_read_back_in_turn() -> None:
    call, _ = started(collecting("name"))
    assert call.heard("It's Hannah").say == ("I have Hannah. Is that right?",)
    assert call.heard("No, it's Anna").say == ("I have Anna. Is that right?",)
    assert call.heard("That's right").say == ("Goodbye, Anna.",)


def test_no_asks_again_and_mumbling_repeats_the_question() -> None:
    call, _ = started(collecting("phone"))
    call.heard("555 0142")
    assert call.heard("Purple").say[-1] == "I have five five five, zero one four two. Is that right?"
    assert call.heard("No").say == ("Sorry, I didn't catch that.", "Which one?")
    call.heard("555 0199")
    assert call.heard("yes").node_id == "bye"
    assert call.variables["who"] == "5550199"


def test_keys_answer_too() -> None:
    call, _ = started(collecting("phone"))
    assert call.digits("5550142") is None
    assert "five five five" in call.digits_done().text
    step = call.digits("1")
    assert step is not None and step.node_id == "bye"
    call, _ = started(collecting("yes_no", confirm=False))
    step = call.digits("2")
    assert step is not None and call.variables["who"] == "no"


@pytest.mark.parametrize(("said", "node"), [("One.", "bye"), ("Press one, please.", "bye"), ("two", "get")])
def test_a_key_that_is_said_answers_too(said: str, node: str) -> None:
    call, _ = started(collecting("phone"))
    call.heard("212 555 0142")
    assert call.heard(said).node_id == node
    assert call.variables["who"] == ("2125550142" if node == "bye" else "friend")


def test_what_is_none_of_its_kind_is_asked_again() -> None:
    call, _ = started(collecting("email", confirm=False))
    assert call.heard("I have none").node_id == "get"
    assert call.heard("jane at example dot com").node_id == "bye"


def test_reading_back_comes_to_an_end() -> None:
    call, _ = started(collecting("name"))
    call.heard("Anna")
    steps = [call.heard(f"No, it's {name}") for name in ("Berta", "Carla", "Dora", "Ella")]
    assert [step.ends_call for step in steps] == [False, False, False, True]


def test_a_question_of_ones_own() -> None:
    call, _ = started(collecting("name", confirm="So you are {{who}}?"))
    assert call.heard("Anna").say == ("So you are Anna?",)


def test_a_way_out_stays_open_while_reading_back() -> None:
    out = {"id": "out", "say": "Out.", "actions": [{"type": "hangup"}]}
    call_flow = {
        "start": "get",
        "nodes": [collecting("name"), BYE, out],
        "transitions": [to("out", keywords=["operator"])],
    }
    call, _ = started(collecting("name"), call_flow=call_flow)
    call.heard("Anna")
    assert call.heard("Operator").node_id == "out"


def test_the_model_fills_in() -> None:
    node = collecting("name", confirm=False, prompt="Ask for the name.")
    call, step = started(node)
    assert step.ask is not None and step.ask.collect and step.ask.is_ended_by({"who": "Anna"})
    asked = call.heard("Anna it is")
    assert asked.ask is not None, "a name among words is for the model to find"
    done = call.filled({"who": "Anna"})
    assert done is not None and done.say == ("Goodbye, Anna.",)


def test_a_plain_answer_needs_no_model() -> None:
    call, _ = started(collecting("date", confirm=False, prompt="Ask for the day."))
    assert call.heard("What days are there?").ask is not None
    assert call.heard("On Friday, please").node_id == "bye"


def test_no_after_the_model_filled_in_goes_back_to_the_model() -> None:
    call, _ = started(collecting("name", prompt="Ask for the name."))
    step = call.filled({"who": "Anna"})
    assert step is not None and step.say == ("I have Anna. Is that right?",)
    again = call.heard("No")
    assert again.ask is not None and again.ask.said == "No"


# --- reading back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "keys", "said", "value"),
    [
        ("phone", None, ("555 0142", "999"), "5550142999"),
        ("phone", None, ("555 123 4567", "No, it ends in seven seven."), "5551234577"),
        ("phone", None, ("555 123 4567", "No, the last two are seven seven."), "5551234577"),
        ("phone", None, ("555 123 4567", "No, the area code is 556."), "5561234567"),
        ("phone", None, ("555 123 4567", "No, it's 555 123 9999"), "5551239999"),
        ("phone", None, ("555 123 4567", "extension twelve"), "5551234567x12"),
        ("digits", "[0-9]{4}", ("1234", "No, five at the end."), "1235"),
        ("digits", "[0-9]{4}", ("1234", "No, 9 9 9 9."), "9999"),
        ("digits", None, ("1234", "5678"), "12345678"),
        ("digits", None, ("1234", "1235"), "1235"),
        ("email", None, ("jane at example dot co", "dot uk"), "jane@example.co.uk"),
        ("email", None, ("jane at example dot com", "No, it's jan at example dot com"), "jan@example.com"),
        ("name", None, ("S M I T H",), "Smith"),
        ("name", None, ("Smith", "No, it's S-M-Y-T-H."), "Smyth"),
    ],
)
def test_what_was_read_back_is_gone_on_with_or_put_right(
    kind: str, keys: str | None, said: tuple[str, ...], value: str
) -> None:
    flow = collecting_call(kind, confirm=True, keys=keys)
    steps = [flow.heard(text) for text in said]
    assert all("Is that right?" in step.text for step in steps)
    assert flow.heard("Yes, that's right.").node_id == "bye"
    assert flow.variables["value"] == value


def test_an_extension_is_read_back() -> None:
    flow = collecting_call("phone", confirm=True)
    assert (
        flow.heard("555 0142 extension 12").text
        == "I have five five five, zero one four two, extension, one two. Is that right?"
    )
