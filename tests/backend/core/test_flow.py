from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.core.agent_text import inspect_agent
from backend.core.flow import Flow
from backend.core.steps import CallWebhook, Hangup, Record, SendDtmf, Step, Transfer
from backend.errors import FlowError
from tests.backend.core.flows import OTHERWISE, agent, end, flow, node, started


def test_the_greeting_comes_before_the_first_words() -> None:
    step = flow(
        node("a", ("end", {"keywords": ["x"]}), say="How are you?"), end(), greeting="Hello, {{agent_name}}."
    ).start()
    assert step.say == ("Hello, Desk.", "How are you?")
    assert step.node_id == "a" and step.actions == () and not step.ends_call
    assert step.listen and step.listen.interruptible and step.listen.silence_ms == 8000


def test_what_the_call_brings_wins_over_the_agents_defaults() -> None:
    call = Flow(agent(end(say="{{a}} {{b}} {{c}}."), variables={"a": "1", "b": "2", "c": None}), {"b": "two"})
    assert call.start().say == ("1 two.",)


def test_transitions_are_tried_in_order_and_the_first_that_fits_is_taken() -> None:
    call = started(
        node("a", ("no", {"keywords": ["no", "not right"]}), ("yes", {"keywords": ["right"]})),
        end("no"),
        end("yes"),
    )
    assert call.heard("That's not right.").node_id == "no"


def test_transitions_from_everywhere_come_first_and_otherwise_last() -> None:
    nodes = node("a", ("end", {"keywords": ["yes"]}), ("other", OTHERWISE)), end(), end("other"), end("human")
    everywhere = (("human", {"keywords": ["human"]}),)
    assert started(*nodes, everywhere=everywhere).heard("A human, please").node_id == "human"
    assert started(*nodes, everywhere=everywhere).heard("Yes, a human.").node_id == "human"
    assert started(*nodes, everywhere=everywhere).heard("Yes.").node_id == "end"
    assert started(*nodes, everywhere=everywhere).heard("Whatever").node_id == "other"


def test_regex_groups_become_variables() -> None:
    call = started(node("a", ("end", {"regex": r"\b(?P<day>monday|tuesday)\b"})), end(say="See you {{day}}."))
    assert call.heard("How about TUESDAY?").say == ("See you TUESDAY.",)
    assert call.variables["day"] == "TUESDAY"


def test_a_transition_sets_variables() -> None:
    going = {"to": "end", "when": {"keywords": ["morning"]}, "set": {"time": "ten o'clock"}}
    call = started({"id": "a", "transitions": [going]}, end(say="At {{time}}."))
    assert call.heard("In the morning").say == ("At ten o'clock.",)


def test_words_are_collected() -> None:
    named = {"regex": r"my name is (?P<name>[a-z ]+)$"}
    nodes = node("a", ("end", named), ("end", OTHERWISE), collect={"name": "name"}), end(say="Hi {{name}}.")
    assert started(*nodes).heard("My name is Sarah Miller.").say == ("Hi Sarah Miller.",)
    assert started(*nodes).heard("Sarah Miller.").say == ("Hi Sarah Miller.",)


def test_a_transition_from_everywhere_collects_nothing() -> None:
    call = started(
        node("a", ("end", OTHERWISE), collect={"name": "name"}),
        end(),
        everywhere=(("end", {"keywords": ["human"]}),),
    )
    call.heard("human")
    assert "name" not in call.variables


def test_the_callers_words_are_never_filled_in() -> None:
    call = started(
        node("a", ("end", OTHERWISE), collect={"name": "name"}),
        end(say="Hi {{name}}."),
        variables={"pin": "1234"},
    )
    assert call.heard("{{pin}} and {{name}}").say == ("Hi {{pin}} and {{name}}.",)


def test_what_is_kept_of_the_callers_words_is_bounded() -> None:
    call = started(node("a", ("end", OTHERWISE), collect={"name": "name"}), end())
    call.heard("word " * 5000)
    assert len(call.variables["name"]) <= 200


# --- not understood, and silence ----------------------------------------------------------------------


def test_what_fits_nothing_is_asked_again_then_the_call_ends_politely() -> None:
    call = started(node("a", ("end", {"keywords": ["yes"]}), say="It is late. Are you sure? Say yes."), end())
    for _ in range(2):
        step = call.heard("Bananas.")
        assert step.say == ("Sorry, I didn't catch that.", "Are you sure?")
        assert step.listen and step.actions == ()
    last = call.heard("Bananas.")
    assert last.ends_call and last.actions == (Hangup(),) and last.listen is None
    assert last.say == (call.agent.turns.give_up,)


def test_the_reprompts_are_the_agents_own_and_counted_per_node() -> None:
    call = started(
        node("a", ("b", {"keywords": ["yes"]}), say="Sure?", reprompt="Yes or no?"),
        node("b", ("end", {"keywords": ["yes"]}), say="Really?"),
        end(),
        turns={"reprompt": "Pardon?", "max_reprompts": 1},
    )
    assert call.heard("eh").say == ("Yes or no?",)
    call.heard("yes")
    assert call.heard("eh").say == ("Pardon?", "Really?")
    assert call.heard("eh").ends_call


def test_no_words_at_all_are_asked_again_and_never_otherwise() -> None:
    call = started(node("a", ("end", OTHERWISE), say="Yes?", listen=True), end())
    assert call.heard(" … ").node_id == "a"


def test_the_question_of_a_node_that_says_nothing_is_the_greetings() -> None:
    call = started(node("a", ("end", {"keywords": ["yes"]})), end(), greeting="Hello. May I help?")
    assert call.heard("eh").say[-1] == "May I help?"


def test_idle_prompts_then_a_polite_end() -> None:
    turns = {"idle_prompts": ["Hello?", "Are you there?"], "idle_ms": 5000}
    call = started(node("a", ("end", {"keywords": ["yes"]}), say="Sure?"), end(), turns=turns)
    assert [call.silence(5000).say for _ in range(2)] == [("Hello?",), ("Are you there?",)]
    last = call.silence(5000)
    assert last.ends_call and last.say == (call.agent.turns.idle_goodbye,)


def test_speech_starts_the_idle_prompts_anew() -> None:
    call = started(node("a", ("end", {"keywords": ["yes"]}), say="Sure?"), end(), turns={"max_reprompts": 9})
    assert not call.silence(8000).ends_call
    call.heard("eh")
    assert not call.silence(8000).ends_call
    assert call.silence(8000).ends_call


def test_quiet_in_a_row_is_limited() -> None:
    turns = {"idle_prompts": ["Hello?"] * 9, "idle_ms": 8000}
    call = started(
        node("a", ("end", {"keywords": ["yes"]})), end(), turns=turns, limits={"max_silence_seconds": 20}
    )
    waits = []
    step = call.silence(8000)
    while step.listen:
        waits.append(step.listen.silence_ms)
        step = call.silence(step.listen.silence_ms or 0)
    assert waits == [8000, 4000] and step.ends_call


def test_a_silence_transition_replaces_idle_prompts() -> None:
    call = flow(
        node("a", ("end", {"silence_ms": 6000}), ("b", {"silence_ms": 3000}), ("b", OTHERWISE)),
        node("b", ("end", OTHERWISE)),
        end(),
    )
    step = call.start()
    assert step.listen and step.listen.silence_ms == 3000
    step = call.silence(3000)
    assert step.node_id == "b" and step.listen is None


# --- keys ---------------------------------------------------------------------------------------------


def test_one_key_is_taken_at_once() -> None:
    call = started(node("a", ("one", {"digits": "1"}), ("two", {"digits": "2"})), end("one"), end("two"))
    step = call.digits("2")
    assert step and step.node_id == "two"


@pytest.mark.parametrize(
    "heard", ["No, wait.", "Wait, wait.", "Yes, hold on a second.", "Just a moment, please."]
)
def test_a_caller_who_asks_for_time_is_given_it(heard: str) -> None:
    call = started(node("a", ("end", {"keywords": ["yes", "no"]}), say="Right?"), end())
    step = call.heard(heard)
    assert (step.node_id, step.say, step.ends_call) == ("a", (), False)
    assert step.listen
    assert call.heard("No.").node_id == "end"


def test_asking_for_time_may_lead_somewhere() -> None:
    call = started(node("a", ("end", {"keywords": ["wait"]}), say="Right?"), end())
    assert call.heard("No, wait.").node_id == "end"


def test_keys_spoken_count_too() -> None:
    nodes = node("a", ("end", {"digits": "1"})), end()
    assert started(*nodes).heard("One.").node_id == "end"
    assert started(*nodes).heard("Press one please").node_id == "end"
    assert started(*nodes).heard("I want that one").node_id == "a"


@pytest.mark.parametrize(
    "heard",
    [
        "My number is 212-555-0142.",
        "two one two, five five five, oh one four two",
        "212. 555. 0142.",
        "212-555-0142. 555-",
    ],
)
def test_a_number_spoken_is_collected(heard: str) -> None:
    call = started(
        node("a", ("end", {"digits": "[2-9][0-9]{9}"}), collect={"name": "phone", "type": "digits"}),
        end(say="{{phone|digits}}."),
    )
    assert call.heard(heard).say == ("two one two, five five five, zero one four two.",)


def test_longer_numbers_are_waited_for() -> None:
    call = started(
        node("a", ("end", {"digits": "[2-9][0-9]{6,9}"}), collect={"name": "phone", "type": "digits"}), end()
    )
    assert call.digits("5") is None
    assert call.digits("5550142") is None
    assert call.digits_done().node_id == "end"
    assert call.variables["phone"] == "5550142"


def test_pound_says_these_were_all() -> None:
    call = started(
        node("a", ("end", {"digits": "[2-9][0-9]{6,9}"}), collect={"name": "phone", "type": "digits"}), end()
    )
    step = call.digits("5550142#")
    assert step and step.node_id == "end" and call.variables["phone"] == "5550142"


def test_a_star_ends_what_is_complete_and_nothing_else() -> None:
    call = started(
        node("a", ("end", {"digits": "[2-9][0-9]{6,9}"}), collect={"name": "phone", "type": "digits"}), end()
    )
    assert call.digits("555*") is None
    assert call.slip
    step = call.digits("5550142*")
    assert step and step.node_id == "end" and call.variables["phone"] == "5550142"


def test_a_menu_key_and_pound_pressed_at_once() -> None:
    call = started(node("a", ("end", {"digits": "1"}), ("other", {"digits": "2"})), end(), end("other"))
    step = call.digits("2#")
    assert step and step.node_id == "other"


def test_pound_after_the_key_for_yes() -> None:
    asks = node("a", ("end", OTHERWISE), collect={"name": "sure", "type": "yes_no"}, say="Sure?")
    call = started(asks, end())
    step = call.digits("1#")
    assert step and step.node_id == "end" and call.variables["sure"] == "yes"


def test_the_key_for_yes_counts_where_another_key_leads_to_a_human() -> None:
    asks = node("a", ("end", OTHERWISE), collect={"name": "sure", "type": "yes_no"}, say="Sure?")
    human = (("human", {"digits": "0"}),)
    call = started(asks, end(), end("human"), everywhere=human)
    step = call.digits("2#")
    assert step and step.node_id == "end" and call.variables["sure"] == "no"
    step = started(asks, end(), end("human"), everywhere=human).digits("0")
    assert step and step.node_id == "human"
    one = (("human", {"digits": "1"}),)
    step = started(asks, end(), end("human"), everywhere=one).digits("1")
    assert step and step.node_id == "human", "what is written comes first"


def test_which_keys_are_asked_for() -> None:
    call = started(node("a", ("end", {"digits": "*[0-9]"}), ("end", {"keywords": ["yes"]})), end())
    assert [key for key in "1*#" if call.asks_for_key(key)] == ["*"]


def test_silence_after_keys_settles_on_them() -> None:
    nodes = node("a", ("end", {"digits": "[0-9]{4}"})), end(), end("human")
    call = started(*nodes, everywhere=(("human", {"digits": "0"}),))
    assert call.digits("0") is None  # it may be the first of four
    assert call.silence(3000).node_id == "human"


def test_wrong_keys_are_asked_again() -> None:
    call = started(node("a", ("end", {"digits": "[2-9][0-9]"}), say="Which?"), end())
    assert call.digits("1") is None
    assert call.slip
    assert call.digits_done().say == ("Sorry, I didn't catch that.", "Which?")
    assert not call.slip
    assert call.digits("2") is None
    assert not call.slip
    step = call.digits("22")
    assert step and step.node_id == "end"


@pytest.mark.parametrize("asks", [{"digits": "1"}, {"keywords": ["x"]}, {"digits": "[1-3]{2,3}"}])
def test_a_burst_of_wrong_keys_is_one_mistake(asks: dict[str, Any]) -> None:
    call = started(node("a", ("end", asks), say="Which?"), end(), turns={"max_reprompts": 1})
    for keys in ("9", "99", "99#"):
        assert call.digits(keys) is None
        assert call.slip
    assert not call.digits_done().ends_call
    assert call.digits("8") is None
    assert call.digits_done().ends_call


def test_words_put_an_end_to_keys_begun() -> None:
    call = started(node("a", ("end", {"digits": "[0-9]{4}"}), say="Which?"), end())
    assert call.digits("12") is None
    call.heard("What was that?")
    assert call.silence(8_000).say != ("Sorry, I didn't catch that.", "Which?")


def test_digits_of_any_kind_are_collected_with_otherwise() -> None:
    nodes = node("a", ("end", OTHERWISE), collect={"name": "code", "type": "digits"}, say="Code?"), end()
    call = started(*nodes)
    assert call.digits("12") is None
    assert call.digits("123") is None
    step = call.digits("123#")
    assert step and step.node_id == "end" and call.variables["code"] == "123"
    call = started(*nodes)
    assert call.heard("I have none").node_id == "a"
    assert call.heard("It is four two.").node_id == "end" and call.variables["code"] == "42"


@pytest.mark.parametrize(
    ("transitions", "more", "expects", "most"),
    [
        ((("end", {"keywords": ["yes"]}), ("end", {"keywords": ["no", "nope"]})), {}, "yes_no", None),
        ((("end", {"keywords": ["yes"]}),), {}, "any", None),
        ((("end", {"keywords": ["yes"]}), ("end", {"digits": "1"})), {}, "any", 1),
        ((("end", {"digits": "[0-9]{4}"}),), {}, "digits", 4),
        ((("end", {"digits": "[0-9]{7,10}"}),), {}, "phone", 10),
        ((("end", OTHERWISE),), {"collect": {"name": "n", "type": "digits"}}, "phone", 32),
        ((("end", OTHERWISE),), {"collect": {"name": "n"}}, "any", None),
    ],
)
def test_what_is_expected(transitions: Any, more: dict[str, Any], expects: str, most: int | None) -> None:
    listen = flow(node("a", *transitions, **more), end()).start().listen
    assert listen and (listen.expects, listen.max_digits) == (expects, most)


def test_barge_in_may_be_off_for_a_node_or_all() -> None:
    nodes = node("a", ("end", {"keywords": ["yes"]}), interruptible=False), end()
    listen = flow(*nodes).start().listen
    assert listen and not listen.interruptible
    listen = flow(node("a", ("end", {"keywords": ["yes"]})), end(), turns={"barge_in": False}).start().listen
    assert listen and not listen.interruptible


# --- nodes that do not listen, and ends ---------------------------------------------------------------


def test_a_node_that_does_not_listen_is_proceeded_from() -> None:
    call = flow(node("a", ("end", OTHERWISE), say="One moment."), end())
    step = call.start()
    assert step.listen is None and not step.ends_call
    step = call.proceed()
    assert step.ends_call and step.actions == (Hangup(),) and step.listen is None
    with pytest.raises(FlowError, match="nowhere to proceed"):
        call.proceed()


def test_actions() -> None:
    actions: list[dict[str, Any]] = [
        {"type": "dtmf", "digits": "12"},
        {"type": "webhook", "url": "http://x.y"},
        {"type": "record", "on": False},
        {"type": "transfer", "to": "{{desk}}"},
    ]
    subject = agent({"id": "a", "actions": actions}, variables={"desk": "+15550100099"})
    step = Flow(subject, {}).start()
    assert step.actions == (
        SendDtmf("12"),
        CallWebhook("http://x.y"),
        Record(False),
        Transfer("+15550100099"),
    )
    assert step.ends_call and step.say == ()
    with pytest.raises(FlowError, match="cannot transfer the call: 'nobody' is neither"):
        Flow(subject, {"desk": "nobody"}).start()


def test_after_the_end_nothing_is_heard() -> None:
    call = started(node("a", ("end", {"keywords": ["yes"]})), end())
    call.heard("yes")
    for late in (
        lambda: call.heard("yes"),
        lambda: call.digits("1"),
        lambda: call.silence(1),
        call.digits_done,
    ):
        with pytest.raises(FlowError, match="has ended the call"):
            late()


def test_a_node_that_talks_does_not_hear() -> None:
    call = started(node("a", ("end", OTHERWISE), say="La."), end())
    with pytest.raises(FlowError, match="does not listen"):
        call.heard("yes")


# --- whatever happens ---------------------------------------------------------------------------------

_ids = st.sampled_from(["a", "b", "c", "d"])
_when = st.one_of(
    st.fixed_dictionaries({"keywords": st.lists(st.sampled_from(["yes", "no", "two pm"]), min_size=1)}),
    st.fixed_dictionaries({"digits": st.sampled_from(["1", "[0-9]{4}", "[2-9][0-9]{1,3}", "*#"])}),
    st.fixed_dictionaries({"regex": st.sampled_from([r"(?P<x>\w+) please", ".*", "^no"])}),
    st.fixed_dictionaries({"silence_ms": st.integers(500, 9000)}),
)
_transition = st.fixed_dictionaries({"to": _ids, "when": _when})
_node = st.fixed_dictionaries(
    {
        "say": st.sampled_from([[], "Hello {{x}}.", ["One?", "Two {{y|digits}}."]]),
        "transitions": st.lists(_transition, max_size=3),
        "listen": st.sampled_from([None, True, False]),
        "collect": st.sampled_from([None, {"name": "x"}, {"name": "y", "type": "digits"}]),
        "actions": st.sampled_from([[], [{"type": "hangup"}], [{"type": "dtmf", "digits": "1"}]]),
    }
)
_otherwise = st.sampled_from([None, "a", "b", "c", "d"])
_event = st.one_of(
    st.tuples(
        st.just("heard"),
        st.sampled_from(["yes", "no", "Two P.M.", "1234", "x please", "{{x}}", ""]) | st.text(),
    ),
    st.tuples(st.just("digits"), st.text("0123456789*#ABCD", min_size=1, max_size=6)),
    st.tuples(st.just("silence"), st.integers(-5, 40_000)),
    st.tuples(st.just("digits_done"), st.none()),
)


@given(
    st.lists(st.tuples(_node, _otherwise), min_size=4, max_size=4),
    st.lists(_transition.filter(lambda item: "silence_ms" not in item["when"]), max_size=2),
    st.lists(_event, max_size=25),
)
def test_any_sound_flow_answers_anything_and_never_talks_for_ever(
    nodes: list[tuple[dict[str, Any], str | None]],
    everywhere: list[dict[str, Any]],
    events: list[tuple[str, Any]],
) -> None:
    built = []
    for id, (body, onward) in zip("abcd", nodes, strict=True):
        extra = [{"to": onward, "when": OTHERWISE}] if onward else []
        if body["actions"] == [{"type": "hangup"}]:
            body, extra = {"say": body["say"], "actions": body["actions"]}, []
        elif body["listen"] is False:  # it only talks, and goes on
            body = {"say": body["say"], "actions": body["actions"]}
            extra = extra or [{"to": "a", "when": OTHERWISE}]
        elif not body["transitions"] and not extra:
            extra = [{"to": "b", "when": {"keywords": ["yes"]}}]
        built.append(body | {"id": id, "transitions": [*body.get("transitions", []), *extra]})
    data = {
        "id": "desk",
        "name": "Desk",
        "variables": {"x": "", "y": ""},
        "call_flow": {"start": "a", "nodes": built, "transitions": everywhere},
    }
    inspection = inspect_agent(json.dumps(data), file="desk.json")
    subject = inspection.agent
    # Only rings that never listen are refused; a ring is the one fault these flows may have.
    assert all("goes round" in error.reason for error in inspection.errors)
    assume(subject)
    assert subject
    call = Flow(subject, {})
    step = _until_listening(call, call.start())
    for kind, value in events:
        if step.ends_call:
            break
        assert step.listen
        done = call.digits_done() if value is None else getattr(call, kind)(value)
        if done is not None:
            step = _until_listening(call, done)
        for text in step.say:
            assert text.strip() == text and text


def _until_listening(call: Flow, step: Step) -> Step:
    for _ in range(len(call.agent.call_flow.nodes) + 1):
        assert step.ends_call == any(isinstance(action, Hangup | Transfer) for action in step.actions)
        if step.ends_call or step.listen:
            return step
        step = call.proceed()
    raise AssertionError("the flow goes round without listening")


@given(st.lists(st.sampled_from(["eh", ""]), min_size=3, max_size=3))
def test_a_caller_who_is_never_understood_is_let_go(said: list[str]) -> None:
    call = started(node("a", ("end", {"keywords": ["yes"]}), say="Sure?"), end())
    steps = [call.heard(text) for text in said]
    assert [step.ends_call for step in steps] == [False, False, True]
