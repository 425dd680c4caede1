"""A caller whose turn was ended too early, and who goes on: both parts are one answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.calls.speaking.speaker import Utterance
from backend.calls.talking.undo import Undo, joined
from backend.core.agent import Agent
from backend.core.flow import Flow
from backend.core.llm import ToolCall
from backend.core.turns import BargeIn, SpeechStarted, TurnEnded
from tests.backend.calls.fakes import Script, ScriptedRoute, agent, now_ms, tone, until
from tests.backend.calls.talks import (
    BYE,
    HELLO,
    HELP,
    HOURS,
    LLM,
    ScriptedModel,
    ScriptedTools,
    Talk,
    node,
    talk,
    to,
)

BOOK = agent(
    node(
        "what",
        "What can I do for you?",
        transitions=[to("day", keywords=["appointment"]), to("human", keywords=["person"])],
        reprompt="I did not get that. What can I do for you?",
    ),
    node(
        "day",
        "Which day?",
        collect={"name": "day", "type": "digits"},
        transitions=[to("bye", digits="[0-9]{3}"), to("seven", digits="[0-9]{7}")],
    ),
    node("seven", "Seven figures, {{day}}.", transitions=[to("bye")]),
    node("human", "One moment.", transitions=[to("bye")]),
    BYE,
)


def ended(text: str, from_ms: float, to_ms: float, *, aside: bool = False) -> TurnEnded:
    return TurnEnded(text, from_ms, to_ms, to_ms + 90, 300, aside)


class Fixture:
    def __init__(self, talker: Agent = BOOK) -> None:
        self.flow = Flow(talker, {})
        self.flow.start()
        self.last: Utterance | None = None
        self.undo = Undo(self.flow, lambda: self.last)

    def answer(self, heard_from_ms: float | None) -> None:
        number = 1 if self.last is None else self.last.number + 1
        self.last = Utterance(number, "An answer.", "sesame_ws", 0.0, heard_from_ms=heard_from_ms)


# --- alone ---------------------------------------------------------------------------------------------


def test_words_that_go_on_before_the_answer_is_heard_are_one_with_those_before() -> None:
    call = Fixture()
    assert call.undo.heard(ended("I would like to.", 0, 900)).say[0].startswith("I did not get")
    call.answer(None)
    step = call.undo.heard(ended("Make an appointment.", 1_400, 2_200))
    assert (step.node_id, step.say) == ("day", ("Which day?",))
    assert call.undo.again


@pytest.mark.parametrize(
    ("began_ms", "aside", "node_id"),
    [(1_900, False, "day"), (2_100, False, "human"), (1_900, True, "human"), (5_000, False, "human")],
)
def test_who_has_heard_half_a_second_of_the_answer_begins_anew(
    began_ms: float, aside: bool, node_id: str
) -> None:
    """A person and an appointment in one: the first way is the appointment."""
    call = Fixture()
    call.undo.heard(ended("An appointment perhaps", 0, 900))
    call.flow.go_back(Flow(BOOK, {}))
    call.answer(1_500.0 if began_ms < 5_000 else None)
    step = call.undo.heard(ended("with a person.", began_ms, began_ms + 500, aside=aside))
    assert step.node_id == node_id
    assert call.undo.again is (node_id == "day")


def test_nothing_is_undone_once_something_was_done() -> None:
    call = Fixture()
    call.undo.heard(ended("An appointment.", 0, 900))
    call.undo.close()
    call.undo.heard(ended("Two, one, nine.", 1_000, 1_900))
    assert call.flow.variables["day"] == "219"


def test_an_answer_to_what_was_begun_to_be_asked_is_taken_as_one() -> None:
    call = Fixture()
    call.undo.heard(ended("An appointment.", 0, 900))
    call.answer(1_300.0)
    assert call.undo.heard(ended("Two, one, nine.", 1_700, 2_400)).node_id == "bye"


def test_what_was_kept_is_given_back_in_place() -> None:
    call = Fixture()
    variables = call.flow.variables
    call.undo.heard(ended("An appointment.", 0, 900))
    call.undo.close()
    call.undo.heard(ended("Two, one, nine.", 1_000, 1_900))
    assert variables["day"] == "219"
    call.undo.heard(ended("Four, five, five, five.", 2_000, 2_900))
    assert call.flow.node_id == "seven"
    assert variables["day"] == "2194555"


WORDS = st.lists(
    st.sampled_from("I would like an appointment please with person two four no five".split()),
    min_size=2,
    max_size=12,
)


@given(WORDS, st.sets(st.integers(1, 11), max_size=4))
def test_however_a_sentence_is_cut_it_leads_where_it_leads_whole(words: list[str], cuts: set[int]) -> None:
    whole, parts = Fixture(), Fixture()
    expected = whole.flow.heard(" ".join(words))
    at = sorted({0, len(words), *(cut for cut in cuts if cut < len(words))})
    for number, (first, last) in enumerate(zip(at, at[1:], strict=False)):
        step = parts.undo.heard(
            ended(" ".join(words[first:last]) + ".", number * 1_000, number * 1_000 + 500)
        )
        parts.answer(None)
    assert step.say == expected.say
    assert parts.flow.node_id == whole.flow.node_id
    assert parts.flow.variables == whole.flow.variables


def test_parts_are_joined_as_one_sentence() -> None:
    assert joined("My name is Mary.", "Jones.") == "My name is Mary Jones."
    assert joined("Shall we?", "Or not…") == "Shall we? Or not…"
    assert len(joined("so " * 1_000, "on " * 1_000)) == 2_000


# --- in a talk -----------------------------------------------------------------------------------------


def goes_on(call: Talk, text: str, *, barges_in: bool = False) -> None:
    at_ms = now_ms()
    call.tell(SpeechStarted(at_ms))
    if barges_in:
        call.tell(BargeIn(at_ms))
    call.tell(TurnEnded(text, at_ms, at_ms + 10, at_ms + 10, 300))


def callers(call: Talk) -> list[str]:
    return [text for role, text in call.said if role == "caller"]


async def test_an_answer_not_heard_yet_is_not_spoken_after_all() -> None:
    not_yet = asyncio.Event()
    route = ScriptedRoute({"I did not get that.": Script([not_yet, tone(500)])})
    async with talk(BOOK, route) as call:
        await call.heard("do for you?")
        call.words("I would like to.")
        await call.asked("I did not get that.")
        goes_on(call, "Make an appointment.")
        await call.heard("Which day?")
        assert call.flow.variables.get("day", "") == ""
    assert callers(call) == ["I would like to.", "Make an appointment."], "as said, each once"
    assert [text for role, text in call.said if role == "agent" and text] == [
        "What can I do for you?",
        "Which day?",
    ]


async def test_an_answer_of_which_a_syllable_was_heard_is_cut_and_given_anew() -> None:
    route = ScriptedRoute({"I did not get that.": Script([tone(1_500)])})
    async with talk(BOOK, route) as call:
        await call.heard("do for you?")
        before_ms = call.line.audio_ms
        call.words("I would like to.")
        await until(lambda: call.line.audio_ms >= before_ms + 100, "the first of it")
        goes_on(call, "Make an appointment.", barges_in=True)
        await call.heard("Which day?")
    assert callers(call) == ["I would like to.", "Make an appointment."]


async def test_a_statement_that_cannot_be_interrupted_is_held_before_it_begins() -> None:
    not_yet = asyncio.Event()
    route = ScriptedRoute({"Goodbye.": Script([not_yet, tone(40)])})
    flow = agent(
        node(
            "ask", "Anything else?", transitions=[to("more", keywords=["wait"]), to("bye", keywords=["no"])]
        ),
        node("more", "Go on.", transitions=[to("bye", keywords=["done"])]),
        BYE,
    )
    async with talk(flow, route) as call:
        await call.heard("else?")
        call.words("No.")
        await call.asked("Goodbye.")
        goes_on(call, "Wait, there was something.")
        await call.heard("Go on.")
        assert call.acts == [], "nobody hung up"


async def test_a_sound_without_words_lets_the_answer_be_spoken() -> None:
    not_yet = asyncio.Event()
    route = ScriptedRoute({"Which day?": Script([not_yet, tone(60)])})
    async with talk(BOOK, route) as call:
        await call.heard("do for you?")
        call.words("An appointment.")
        await call.asked("Which day?")
        goes_on(call, "")
        not_yet.set()
        await call.heard("Which day?")
    assert route.asked.count("Which day?") == 1


async def test_the_model_is_asked_again_with_the_joined_words() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never], ["Until five."])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.words("Until when.")
        await until(lambda: len(model.asked) == 2, "the first request")
        goes_on(call, "On Mondays?")
        await call.heard("Until five.")
    assert model.user_texts() == ["Until when.", "On Mondays?"]
    assert model.cancelled == 1
    assert callers(call) == ["Until when.", "On Mondays?"]


async def test_a_choice_of_the_model_s_is_taken_back() -> None:
    flow = agent(
        node("ask", prompt="Ask.", transitions=[to("day", intent="books"), to("bye", keywords=["nothing"])]),
        node("day", "Which day?", transitions=[to("bye", keywords=["friday"])]),
        BYE,
        **LLM,
    )
    not_yet = asyncio.Event()
    route = ScriptedRoute({"Which day?": Script([not_yet, tone(60)])})
    choice = ToolCall("c1", "go_to", '{"choice": "books"}')
    async with talk(flow, route, model=ScriptedModel(HELLO, [choice])) as call:
        await call.heard("help?")
        call.words("I would like to book.")
        await call.asked("Which day?")
        goes_on(call, "Nothing after all.")
        await call.end()
    assert call.said[-1] == ("agent", "Goodbye.")


async def used_once(
    arguments: str, again: str, method: str, *, done: bool
) -> tuple[ScriptedTools, ScriptedModel]:
    talker = agent(
        node("help", prompt="Help.", tools=["hours"], transitions=[to("bye", keywords=["bye"])]),
        BYE,
        tools=[HOURS | {"method": method}],
        **LLM,
    )
    never = asyncio.Event()
    model = ScriptedModel(
        HELLO, [ToolCall("t1", "hours", arguments)], *([[never]] if done else []),
        [ToolCall("t2", "hours", again)], ["Very well."],
    )  # fmt: skip
    tools = ScriptedTools()
    async with talk(talker, model=model, tools=tools) as call:
        await call.heard("help?")
        if not done:
            tools.gate.clear()
        call.words("Book it.")
        await until(lambda: len(model.asked) == 3 if done else tools.calls, "the tool")
        tools.gate.set() if done else None
        goes_on(call, "For Friday.")
        await until(lambda: len(model.asked) >= (4 if done else 3), "asked again")
        tools.gate.set()
        await call.heard("Very well.")
    return tools, model


@pytest.mark.parametrize(
    ("again", "method", "done", "times"),
    [
        ('{"day":5}', "POST", True, 1),
        ('{"day": 6}', "POST", True, 2),
        ('{"day": 5}', "POST", False, 1),
        ('{"day": 5}', "GET", False, 2),
    ],
)
async def test_a_tool_is_not_used_twice_for_the_same(again: str, method: str, done: bool, times: int) -> None:
    tools, model = await used_once('{"day": 5}', again, method, done=done)
    assert len(tools.calls) == times
    results = [message.text for message in model.asked[-1][0] if message.role == "tool"]
    assert results[-1] == ("all well" if done or times == 2 else results[0])


async def test_a_tool_that_leads_on_is_not_undone() -> None:
    flow = agent(
        node("ask", prompt="Look up the order.", tools=["hours"], transitions=[to("found", tool="hours")]),
        node("found", "It is on its way. Anything else?", transitions=[to("bye", keywords=["person"])]),
        BYE,
        tools=[HOURS],
        **LLM,
    )
    not_yet = asyncio.Event()
    route = ScriptedRoute({"It is on its way.": Script([not_yet, tone(60)])})
    model = ScriptedModel(HELLO, [ToolCall("t1", "hours", "{}")])
    async with talk(flow, route, model=model) as call:
        await call.heard("help?")
        call.words("Order five.")
        await call.asked("It is on its way.")
        goes_on(call, "A person please.")
        not_yet.set()
        await call.end()
    assert len(call.tools.calls) == 1
    assert len(model.asked) == 2


async def test_keys_are_an_answer_of_their_own() -> None:
    keyed: dict[str, Any] = node("more", "Press one.", transitions=[to("bye", digits="1")])
    flow = agent(
        node("ask", "What is it about?", transitions=[to("more", keywords=["bill"])]),
        keyed,
        BYE,
    )
    async with talk(flow) as call:
        await call.heard("about?")
        call.words("My bill.")
        await call.heard("Press one.")
        goes_on(call, "one")
        await call.end()
