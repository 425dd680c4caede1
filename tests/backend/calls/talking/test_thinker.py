"""Answers begun ahead of time: used, thrown away, bounded."""

from __future__ import annotations

import asyncio

from backend.calls.talking.events import LikelyEnd
from backend.core.turns import SpeechResumed, SpeechStarted
from tests.backend.calls.fakes import now_ms, until
from tests.backend.calls.talks import (
    HELLO,
    HELP,
    ScriptedModel,
    talk,
)


async def test_an_answer_begun_in_the_pause_is_used_when_the_words_are_the_same() -> None:
    model = ScriptedModel(HELLO, ["Until five."])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.tell(SpeechStarted(now_ms()), LikelyEnd("until when"))
        await until(lambda: len(model.asked) == 2, "begun ahead")
        call.words("Until when?")
        await call.heard("Until five.")
    assert len(model.asked) == 2
    assert (call.thinker.begun_ahead, call.thinker.wasted) == (1, 0)


async def test_an_answer_begun_ahead_is_thrown_away_when_the_caller_goes_on() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never], [never], ["Until five on Mondays."])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.tell(SpeechStarted(now_ms()), LikelyEnd("Until when"))
        await until(lambda: len(model.asked) == 2, "begun ahead")
        call.tell(SpeechResumed())
        await until(lambda: model.cancelled == 1, "thrown away")
        call.tell(LikelyEnd("Until when on Monday"))
        await until(lambda: len(model.asked) == 3, "begun again")
        call.words("Until when on Mondays?")
        await call.heard("on Mondays.")
    assert (call.thinker.begun_ahead, call.thinker.wasted) == (2, 2)
    assert call.counted.count("wasted") == 2
    assert model.user_texts() == ["Until when on Mondays?"]


async def test_an_answer_begun_ahead_is_given_up_when_the_words_lead_elsewhere() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, [never])
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        call.tell(SpeechStarted(now_ms()), LikelyEnd("until when"))
        await until(lambda: len(model.asked) == 2, "begun ahead")
        call.words("Until when, bye.")
        await call.end()
        assert model.cancelled == 1


async def test_nothing_is_begun_ahead_where_words_are_written_or_it_is_switched_off() -> None:
    off = HELP.model_copy(update={"llm": HELP.llm.model_copy(update={"preemptive": False})})
    for talker, text in ((HELP, "Bye now"), (off, "Until when")):
        model = ScriptedModel(HELLO)
        async with talk(talker, model=model) as call:
            await call.heard("help?")
            call.tell(LikelyEnd(text))
            call.words("Bye.")
            await call.end()
        assert len(model.asked) == 1


async def test_waste_is_bounded() -> None:
    never = asyncio.Event()
    model = ScriptedModel(HELLO, *([[never]] * 40))
    async with talk(HELP, model=model) as call:
        await call.heard("help?")
        for number in range(30):
            call.tell(LikelyEnd(f"word {number}"), SpeechResumed())
        call.words("Bye.")
        await call.end()
    assert call.thinker.wasted == 20
