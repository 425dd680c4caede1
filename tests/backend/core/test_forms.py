"""A choice, and a node that collects several values: by voice, by keys, with a model and without."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow
from backend.core.steps import Step
from tests.backend.core.thinking_flows import BYE, flow, started, to

CAR = {
    "name": "car",
    "type": "choice",
    "options": ["sedan", {"value": "van", "words": ["minivan"]}, "limousine"],
    "ask": "Which car would you like?",
}
DAY = {"name": "day", "type": "date", "ask": "On which day?"}
PHONE = {"name": "phone", "type": "phone", "ask": "Your telephone number?"}
PROMPT = {"prompt": "Take the order."}
PICKUP = {"name": "pickup", "ask": "Where shall we pick you up?"}


def form(*collect: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "get", "say": "Gladly.", "collect": list(collect), "transitions": [to("bye")]} | more


def ordered(*collect: dict[str, Any], **more: Any) -> tuple[Flow, Step]:
    return started(form(*collect, **more), thinks=False)


# --- one of several options ------------------------------------------------------------------------------


def test_a_choice_is_kept_and_leads_on() -> None:
    call, step = ordered(CAR)
    assert step.say == ("Gladly.", "Which car would you like?")
    assert step.listen is not None and step.listen.max_digits == 1
    assert call.heard("The minivan, please").node_id == "bye"
    assert call.variables["car"] == "van"


def test_what_is_no_option_is_asked_again_with_the_options() -> None:
    call, _ = ordered(CAR)
    assert call.heard("A helicopter").say == (
        "Sorry, I didn't catch that.",
        "Which car would you like?",
        "You can say sedan, van or limousine.",
    )


def test_options_that_the_question_names_are_not_named_twice() -> None:
    call, _ = ordered(CAR | {"ask": "A sedan, a minivan or a limousine?"})
    assert call.heard("A helicopter").say[-1] == "A sedan, a minivan or a limousine?"


def test_another_language_is_spared_english() -> None:
    call, _ = started(
        form(CAR | {"ask": "Welches Auto?"}), thinks=False, language="de-DE", stt={"provider": "elevenlabs"}
    )
    assert "You can say" not in call.heard("Hubschrauber").text


@pytest.mark.parametrize("keys", ["2", "2#"])
def test_keys_choose_by_place(keys: str) -> None:
    call, _ = ordered(CAR)
    step = call.digits(keys)
    assert step is not None and step.node_id == "bye" and call.variables["car"] == "van"


def test_a_key_that_no_option_has_is_a_slip() -> None:
    call, _ = ordered(CAR)
    assert call.digits("7") is None and call.slip
    assert "You can say" in call.digits_done().text


def test_a_key_that_is_written_leads_where_it_is_written() -> None:
    call, _ = ordered(CAR, transitions=[{"to": "bye", "when": {"digits": "1"}}, to("get")])
    step = call.digits("1")
    assert step is not None and step.node_id == "bye" and "car" not in call.variables


def test_a_choice_is_read_back_and_put_right() -> None:
    call, _ = ordered(CAR | {"confirm": True})
    assert call.heard("The first one").text == "I have sedan. Is that right?"
    assert call.heard("No, not the sedan, the limousine").text == "I have limousine. Is that right?"
    step = call.digits("1")
    assert step is not None and step.node_id == "bye" and call.variables["car"] == "limousine"


def test_words_of_an_option_meet_transitions_first() -> None:
    call, _ = started(
        form(CAR, transitions=[to("other", keywords=["limousine"]), to("bye")]),
        {"id": "other", "say": "Oh!", "actions": [{"type": "hangup"}]},
        thinks=False,
    )
    assert call.heard("A limousine").node_id == "other" and call.variables["car"] == "limousine"


# --- several values --------------------------------------------------------------------------------------


def test_one_after_the_other_is_asked_for() -> None:
    call, step = ordered(PICKUP, CAR, DAY)
    assert step.say == ("Gladly.", "Where shall we pick you up?")
    step = call.heard("12 Willow Street")
    assert (step.node_id, step.say) == ("get", ("Which car would you like?",))
    step = call.digits("3") or step
    assert step.say == ("On which day?",)
    assert step.listen is not None and step.listen.expects == "date"
    assert call.heard("Next Friday").node_id == "bye"
    kept = [call.variables[name] for name in ("pickup", "car", "day")]
    assert kept == ["12 Willow Street", "limousine", "2026-11-27"]


def test_what_is_said_along_is_not_asked_for_again() -> None:
    call, _ = ordered(CAR, DAY, PHONE)
    assert call.heard("A van for tomorrow, please").say == ("Your telephone number?",)
    assert (call.variables["car"], call.variables["day"]) == ("van", "2026-11-22")


def test_the_first_is_asked_again_when_another_was_answered() -> None:
    call, _ = ordered(CAR, DAY)
    assert call.heard("For tomorrow").say == ("Which car would you like?",)
    assert call.heard("The van").node_id == "bye"
    assert call.variables["day"] == "2026-11-22"


def test_an_answer_is_put_right_later() -> None:
    call, _ = ordered(DAY, CAR)
    call.heard("Friday")
    assert call.heard("No, wait, on Monday").say == ("Which car would you like?",)
    assert call.heard("The van").node_id == "bye"
    assert call.variables["day"] == "2026-11-23"


def test_a_day_in_passing_changes_nothing() -> None:
    call, _ = ordered(DAY, PICKUP)
    call.heard("Friday")
    call.heard("Number 5 Monday Lane")
    assert call.variables["day"] == "2026-11-27"


def test_two_days_are_not_both_the_first() -> None:
    call, _ = ordered({**DAY, "name": "leave"}, {**DAY, "name": "back", "ask": "And back?"})
    assert call.heard("On Monday").say == ("And back?",)
    assert call.heard("On Friday").node_id == "bye"
    assert (call.variables["leave"], call.variables["back"]) == ("2026-11-23", "2026-11-27")


def test_what_is_not_understood_is_asked_again_in_its_own_words() -> None:
    call, _ = ordered(CAR, DAY | {"reprompt": "Tell me a weekday, please."}, reprompt="A car, please!")
    assert call.heard("Purple").say == ("A car, please!",)
    call.heard("Sedan")
    assert call.heard("Purple").say == ("Tell me a weekday, please.",)


def test_a_number_in_parts_is_one_of_them() -> None:
    call, _ = ordered(PHONE, CAR)
    assert call.heard("555").say == ()
    assert call.heard("123 4567").say == ("Which car would you like?",)
    assert call.variables["phone"] == "5551234567"


def test_keys_give_a_number_among_several() -> None:
    call, _ = ordered(CAR, PHONE)
    call.digits("1")
    assert call.digits("5551234567#") is not None and call.node_id == "bye"
    assert call.variables["phone"] == "5551234567"


def test_each_that_is_to_be_confirmed_is_read_back() -> None:
    call, _ = ordered(CAR | {"confirm": True}, DAY | {"confirm": "On {{day}}?"}, PICKUP)
    assert call.heard("A van for tomorrow").text == "I have van. Is that right?"
    assert call.heard("Yes").text == "On Sunday, November 22, 2026?"
    assert call.heard("No, Monday").text == "On Monday, November 23, 2026?"
    assert call.heard("Yes").say == ("Where shall we pick you up?",)
    assert call.heard("At home").node_id == "bye"
    assert (call.variables["car"], call.variables["day"]) == ("van", "2026-11-23")


def test_no_asks_for_that_one_again() -> None:
    call, _ = ordered(CAR, DAY | {"confirm": True})
    call.heard("A sedan for Friday")
    assert call.heard("No").say == ("Sorry, I didn't catch that.", "On which day?")
    call.heard("Monday")
    assert call.heard("Yes").node_id == "bye" and call.variables["car"] == "sedan"


def test_a_way_out_stays_open_all_along() -> None:
    out = {"id": "out", "say": "Never mind.", "actions": [{"type": "hangup"}]}
    call, _ = started(
        form(CAR, DAY, transitions=[to("out", keywords=["forget it"]), to("bye")]), out, thinks=False
    )
    call.heard("A van")
    assert call.heard("Oh, forget it").node_id == "out"


def test_actions_are_done_once() -> None:
    node = form(CAR, DAY, actions=[{"type": "webhook", "url": "https://crm.example/hook"}])
    call, step = started(node, thinks=False)
    assert len(step.actions) == 1
    assert call.heard("A van").actions == ()


def test_entered_again_it_asks_for_all_again() -> None:
    confirm = {"id": "sure", "say": "Sure?", "transitions": [to("get", keywords=["no"]), to("bye")]}
    call, _ = started(form(CAR, DAY, transitions=[to("sure")]), confirm, thinks=False)
    call.heard("A van for Friday")
    assert call.heard("no").say == ("Gladly.", "Which car would you like?")
    assert call.heard("A sedan").say == ("On which day?",)


def test_led_back_it_asks_for_what_was_missing_then() -> None:
    call, _ = ordered(CAR, DAY)
    before = call.fork()
    call.heard("A van")
    call.go_back(before)
    assert call.heard("A sedan").say == ("On which day?",)
    assert call.variables["car"] == "sedan"


def test_the_next_question_is_told_beforehand() -> None:
    call, _ = ordered(CAR, DAY)
    assert call.likely_texts()[0] == "On which day?"
    assert "Gladly. Which car would you like?" in flow(form(CAR, DAY), thinks=False).likely_texts()


def test_a_question_of_several_sentences_is_said_whole() -> None:
    day = DAY | {"ask": "Please tell me the day. Any day will do."}
    call, _ = ordered(CAR, day, PHONE | {"ask": "Your number? Say it, or use the keypad."})
    assert call.heard("A van").text == "Please tell me the day. Any day will do."
    assert call.heard("Tomorrow").text == "Your number? Say it, or use the keypad."


@pytest.mark.parametrize("said", ["The second one", "the first", "The third one, please."])
def test_a_place_among_options_is_no_day(said: str) -> None:
    call, _ = ordered(CAR, DAY)
    assert call.heard(said).say == ("On which day?",)
    assert "day" not in call.variables


def test_a_day_of_the_month_is_no_option() -> None:
    call, _ = ordered(DAY, CAR)
    assert call.heard("On the second").say == ("Which car would you like?",)
    assert "car" not in call.variables


@pytest.mark.parametrize(
    "said",
    [
        "Sorry?",
        "What was that?",
        "Can you repeat that, please?",
        "Say again",
        "I didn't catch that",
        "Pardon me?",
    ],
)
def test_who_did_not_hear_is_asked_again(said: str) -> None:
    call, _ = ordered(PICKUP, CAR)
    assert call.heard(said).say[-1] == "Where shall we pick you up?"
    assert "pickup" not in call.variables


def test_words_that_put_another_value_right_are_no_answer() -> None:
    call, _ = ordered(CAR, DAY, PICKUP)
    call.heard("A van")
    call.heard("Tomorrow")
    assert call.heard("No, a sedan").say == ("Where shall we pick you up?",)
    assert call.heard("Wait, for Saturday, please").say == ("Where shall we pick you up?",)
    assert call.heard("12 Willow Street").node_id == "bye"
    kept = [call.variables[name] for name in ("car", "day", "pickup")]
    assert kept == ["sedan", "2026-11-28", "12 Willow Street"]


PEOPLE = {"name": "people", "type": "number", "ask": "How many are you?"}


def test_a_number_is_put_right_and_no_part_of_the_next() -> None:
    call, _ = ordered(PEOPLE, PHONE)
    call.heard("Three")
    assert call.heard("No, make it four").say == ("Your telephone number?",)
    assert call.heard("212 555 0142").node_id == "bye"
    assert (call.variables["people"], call.variables["phone"]) == ("4", "2125550142")


def test_a_text_is_put_right_and_its_figures_are_no_answer() -> None:
    call, _ = ordered(PICKUP, PEOPLE)
    call.heard("40 Elm Street")
    assert call.heard("No, 41 Elm Street").say == ("How many are you?",)
    assert call.heard("No, wait, three").node_id == "bye"
    assert (call.variables["pickup"], call.variables["people"]) == ("41 Elm Street", "3")


def test_a_number_that_begins_with_a_no_is_a_number() -> None:
    call, _ = ordered(PEOPLE, PHONE)
    call.heard("Three")
    assert call.heard("No, it's 212 555 0142").node_id == "bye"
    assert (call.variables["people"], call.variables["phone"]) == ("3", "2125550142")


def test_what_leads_to_the_node_is_not_asked_for_again() -> None:
    start = {"id": "start", "say": "Hello?", "transitions": [to("get", keywords=["taxi", "car", "van"])]}
    call, _ = started(start, form(PICKUP, CAR, DAY), thinks=False)
    step = call.heard("I need a van for tomorrow")
    assert (step.node_id, step.say) == ("get", ("Gladly.", "Where shall we pick you up?"))
    assert call.heard("At home").node_id == "bye"
    assert (call.variables["car"], call.variables["day"]) == ("van", "2026-11-22")


def test_all_of_it_said_on_the_way_leads_through() -> None:
    start = {"id": "start", "say": "Hello?", "transitions": [to("get", keywords=["taxi", "van"])]}
    call, _ = started(start, form(CAR, DAY), thinks=False)
    step = call.heard("I need a van for tomorrow")
    assert step.node_id == "bye" and step.say == ("Gladly.", "Goodbye, friend.")
    with_confirm = form(CAR, DAY | {"confirm": True})
    call, _ = started(start, with_confirm, thinks=False)
    assert call.heard("A van for tomorrow").say == (
        "Gladly.",
        "I have Sunday, November 22, 2026. Is that right?",
    )


def test_a_model_finds_what_was_said_on_the_way_itself() -> None:
    start = {"id": "start", "say": "Hello?", "transitions": [to("get", keywords=["van"])]}
    call, _ = started(start, form(CAR, DAY, **PROMPT))
    step = call.heard("A van for tomorrow")
    assert step.ask is not None and step.ask.missing == ("car", "day")


# --- with a model ----------------------------------------------------------------------------------------


def test_the_model_is_told_all_and_asked_in_order() -> None:
    call, step = started(form(CAR, PICKUP, **PROMPT))
    assert step.ask is not None and [item.name for item in step.ask.collect] == ["car", "pickup"]
    assert step.ask.missing == ("car", "pickup") and step.ask.goes_on


def test_what_the_model_found_is_kept_until_all_is_there() -> None:
    call, _ = started(form(CAR, PICKUP, **PROMPT))
    assert call.heard("A van from my place, the usual").ask is not None
    assert call.filled({"pickup": "my place"}) is None
    ask = call.heard("Hm, what was that?").ask
    assert ask is not None and ask.missing == ("car",) and ("pickup", "my place") in ask.known
    step = call.filled({"car": "van"})
    assert step is not None and step.node_id == "bye"


def test_what_the_model_found_is_read_back_where_it_is_to_be() -> None:
    call, _ = started(form(CAR | {"confirm": True}, PICKUP, **PROMPT))
    step = call.filled({"car": "van"})
    assert step is not None and step.text == "I have van. Is that right?"
    step = call.heard("Yes")
    assert step.ask is not None and step.ask.missing == ("pickup",) and step.ask.said is None
    away = call.unanswered(None)
    assert away.say == ("Where shall we pick you up?",) and call.variables["car"] == "van"


def test_of_two_found_at_once_the_second_is_read_back_though_the_first_was_wrong() -> None:
    call, _ = started(form(CAR | {"confirm": True}, DAY | {"confirm": "On {{day}}?"}, PICKUP, **PROMPT))
    step = call.filled({"car": "van", "day": "2026-11-27"})
    assert step is not None and step.text == "I have van. Is that right?"
    assert call.heard("No").ask is not None, "the model is asked what it is instead"
    step = call.filled({"pickup": "my place"})
    assert step is not None and step.text == "On Friday, November 27, 2026?", (
        "it is neither lost nor kept unasked"
    )
    step = call.heard("Yes")
    assert step.ask is not None and step.ask.missing == ("car",)
    assert (call.variables["pickup"], call.variables["day"]) == ("my place", "2026-11-27")


def test_a_plain_answer_needs_no_model_to_be_kept() -> None:
    call, _ = started(form(CAR, PICKUP, **PROMPT))
    step = call.heard("A van, please.")
    assert call.variables["car"] == "van"
    assert step.ask is not None and step.ask.missing == ("pickup",), "the model asks for the next"


def test_a_yes_is_no_answer_to_what_was_not_asked_yet() -> None:
    call, _ = started(form(CAR | {"confirm": True}, PICKUP, **PROMPT))
    call.filled({"car": "van"})
    call.heard("Yes")
    call.unanswered(None)
    assert "pickup" not in call.variables


def test_without_a_way_on_the_model_may_put_it_right() -> None:
    node = form(CAR, **PROMPT) | {"transitions": [to("bye", keywords=["thanks"])]}
    call, _ = started(node)
    assert call.filled({"car": "van"}) is None and call.filled({"car": "sedan"}) is None
    assert call.variables["car"] == "sedan"


# --- files that are wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("collect", "told"),
    [
        ({"name": "car", "type": "choice"}, "collect: a choice needs 2 to 9 options"),
        ({"name": "car", "type": "choice", "options": ["van"]}, "collect: a choice needs 2 to 9 options"),
        (
            {"name": "car", "type": "choice", "options": [str(at) for at in range(10)]},
            "collect: a choice needs 2",
        ),
        ({"name": "car", "options": ["van", "sedan"]}, 'collect: options belong to "type": "choice"'),
        (
            {"name": "car", "type": "choice", "options": ["van", "Van!"]},
            "collect: 'van' stands for 'van' and",
        ),
        ({"name": "car", "type": "choice", "options": ["van", "?!"]}, "collect.options[1]: holds no word"),
        (
            {"name": "car", "type": "choice", "options": ["van", {"value": "a", "words": ["{{b}}"]}]},
            "collect.options[1].words[0]: is matched as it is written",
        ),
        ([CAR, {"name": "day"}], "collect[1].ask: is missing"),
        ([CAR, CAR | {"type": "text", "options": []}], "collect[1].name: 'car' is collected twice"),
        ([CAR, {"name": "day", "ask": "When, {{nobody}}?"}], "collect[1].ask: nothing ever sets {{nobody}}"),
        ([CAR, {"name": "caller_number", "ask": "When?"}], "collect[1].name: 'caller_number' is built in"),
        ([CAR, {"name": "day", "type": "dat", "ask": "When?"}], "collect[1].type: can be 'text'"),
    ],
)
def test_a_wrong_collect_is_told(collect: Any, told: str) -> None:
    errors = errors_of(form() | {"collect": collect})
    assert any(error.startswith(f"f: call_flow.nodes[0].{told}") for error in errors), errors


def test_several_values_need_a_way_on() -> None:
    errors = errors_of(form(CAR, DAY, transitions=[to("bye", keywords=["yes"])]))
    assert errors == [
        "f: call_flow.nodes[0].transitions: node 'get' collects several values: say where to go once all are "
        "there, by a transition (to … when otherwise)"
    ]


def test_none_of_several_values_chooses_a_number_to_dial() -> None:
    out = {"id": "out", "say": "So.", "actions": [{"type": "transfer", "to": "{{phone}}"}]}
    errors = errors_of(form(CAR, PHONE, transitions=[to("out")]), out)
    assert len(errors) == 1 and "'phone' is filled by the caller's words or keys" in errors[0]


def errors_of(*nodes: dict[str, Any]) -> list[str]:
    data = {"id": "desk", "name": "Desk", "variables": {"who": "friend"}}
    data["call_flow"] = {"start": "get", "nodes": [*nodes, BYE]}
    return [str(error) for error in inspect_agent(json.dumps(data), file="f").errors]
